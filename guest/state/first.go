package state

import (
	"errors"
	"fmt"
)

// First is the first state of a purpose with epochs, made by its owner and not by
// the guest: the epoch begins without "initial", and the guest opens this.
type First struct {
	Tenant   string
	Instance [16]byte
	Purpose  string
	Epoch    uint64 // of Key, usually 1
	Key      []byte // 32 random bytes, which the owner wraps for the broker and erases
}

// Write seals value and writes it to the first of two empty slots. What it keeps,
// it keeps sealed.
func (f First) Write(s Slots, value []byte) error {
	if s == nil || f.Tenant == "" || f.Instance == [16]byte{} || f.Purpose == "" || f.Epoch == 0 || len(f.Key) != 32 {
		return errors.New("state: First: a tenant, instance, purpose, epoch and key of 32 bytes are required")
	}
	for i := range 2 {
		if b, err := s.Read(i); err != nil {
			return fmt.Errorf("state: %w", err)
		} else if len(b) != 0 {
			return fmt.Errorf("state: slot %d is not empty", i)
		}
	}
	b, err := sealer{f.Tenant, f.Instance, f.Purpose, f.Epoch, f.Key}.seal(0, value)
	if err == nil {
		err = s.Write(0, b)
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}
