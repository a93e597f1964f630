package teebroker

import "bytes"

// Response is the answer to a guest. Its bytes are stored, so that the same
// request gets the same answer; adapters encode it without adding to it.
type Response struct {
	Release [16]byte // release id; the truth is in Sealed
	Sealed  []byte   // a marshalled keywrap.Sealed, for the attested key
	Receipt []byte   // compact JWS, see VerifyReceipt

	// Hints to who forwards the answer, of a purpose with epochs: the epoch that
	// the guest opens, and the wrapped key of the one that it writes, as JSON,
	// which it presents at its next boot.
	Epoch       uint64
	NextWrapped []byte
}

// Clone returns a copy of r that shares no memory with it.
func (r Response) Clone() Response {
	return Response{r.Release, bytes.Clone(r.Sealed), bytes.Clone(r.Receipt), r.Epoch, bytes.Clone(r.NextWrapped)}
}
