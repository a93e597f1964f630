package pkcs11

import "errors"

// The errors of a [Token].
var (
	// ErrToken: module, token or session fail, or the context was over. What
	// was asked for is not decided; asking again may help.
	ErrToken = errors.New("pkcs11: token out of reach")

	// ErrPIN: the token refuses the PIN, or there is none. It is not tried
	// again until it is another.
	ErrPIN = errors.New("pkcs11: no PIN that the token takes")

	// ErrKey: there is not exactly one such key in the token, or it is not one
	// to use: exportable, for other uses as well, or not the one that its
	// public key says.
	ErrKey = errors.New("pkcs11: not a key to use")

	// ErrOpen is wrapped by what a [Cipher] does not open.
	ErrOpen = errors.New("pkcs11: does not open")
)
