//go:build unix

// Package filelock has processes of one host take turns at a file.
package filelock

import (
	"fmt"
	"os"
	"syscall"
)

// Lock waits until nobody else changes the file at path by way of this function. Two
// that read it, change it and write it would otherwise lose the change of one: a key
// that was retired would be back.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("%s.lock: %w", path, err)
	}
	return func() { _ = f.Close() }, nil // which unlocks
}
