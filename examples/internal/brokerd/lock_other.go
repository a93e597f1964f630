//go:build !unix

package brokerd

// lock does nothing here: one command at a time may change the file.
func lock(string) (unlock func(), err error) { return func() {}, nil }
