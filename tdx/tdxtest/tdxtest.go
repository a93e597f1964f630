// Package tdxtest is a software TDX platform with roots made at run time: a vendor
// with Intel's key hierarchy and documents, its platforms, and the quoting enclave
// that signs quotes. It is for tests, simulations and examples. What it makes
// proves nothing to anyone who does not choose its [Intel.Anchors].
//
// What it makes without being asked otherwise is meant to be accepted. Each fault
// that a verifier has to find can be made:
//
//   - in a quote: every field of [TD], any byte before signing with [TD.Edit], any
//     byte or the length after it with [TD.Fault];
//   - in an event log: every field of [Event], the digest included, an event
//     dropped, added or swapped, and any byte or the length, with [TD.Items];
//   - behind it: the report of the quoting enclave before the PCK signs it with
//     [TD.QE], and each part of the signature data, certificates included, with
//     [TD.Data];
//   - in any certificate: every field of [Certificate], for example names, window,
//     serial, signer, extensions and each [Member] of the SGX extension;
//   - in a CRL: every field of [CRL];
//   - in a certificate or CRL, whatever else: [Intel.Resign], by any key of this
//     Intel or another, whose names are the same;
//   - in TCB Info and QE identity: every field of [TCBInfo] and [QEIdentity], and
//     any text at all with [Intel.Sign];
//   - in what is to be had: a [Set] is a map to take from, add to and swap in.
//
// Statuses, platforms and quotes of which there are no genuine examples are made
// as easily as others: they follow from levels and security versions.
//
// Functions that return no error panic if they are asked for what can't be made,
// such as a platform of no CA.
package tdxtest

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/teebroker/teebroker/tdx"
)

// Intel is a simulated vendor. It is safe for concurrent use. Everything but keys
// is made by the clock, so that what is made twice is the same.
//
// The zero Intel is ready for use. It must not be copied.
type Intel struct {
	// Time returns the time at which documents and CRLs are made. If nil,
	// time.Now. It is set before first use.
	Time func() time.Time

	once sync.Once
	pki  *hierarchy // by method authorities
}

// NewIntel returns a vendor with a root of its own.
func NewIntel() *Intel { return &Intel{} }

// Anchors returns the root CA. The caller owns it.
func (n *Intel) Anchors() [][]byte { return [][]byte{n.Certificate(Root, nil)} }

// Platform returns a new platform whose PCK certificates ca issues. It is up to
// date by the TCB Info and QE identity that n publishes.
func (n *Intel) Platform(ca tdx.CA) *Platform {
	secret := make([]byte, secretSize)
	rand.Read(secret) // never fails
	return newPlatform(n, ca, secret)
}

// now returns the time at which n makes things.
func (n *Intel) now() time.Time {
	if n.Time == nil {
		return time.Now()
	}
	return n.Time()
}

// issued returns when what is made now says that it was: the same for an hour.
func (n *Intel) issued() time.Time {
	return n.now().UTC().Truncate(time.Hour).AddDate(0, 0, -1)
}

// authorities returns the keys of n, and makes them at the first use.
func (n *Intel) authorities() *hierarchy {
	n.once.Do(func() { n.pki = newHierarchy(n.now()) })
	return n.pki
}

// must returns v. err is of what can't fail, or is a mistake of the caller.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("tdxtest: %v", err))
	}
	return v
}
