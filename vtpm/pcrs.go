package vtpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
)

// Octets are bytes that can be compared: a digest, the value of a PCR.
type Octets string

// PCR names a PCR of a bank.
type PCR struct {
	Bank  Alg
	Index int // 0 to 23
}

// String returns p as claims have it, such as "sha256.7".
func (p PCR) String() string { return fmt.Sprintf("%v.%d", p.Bank, p.Index) }

// PCRValue is the value of a PCR that a quote is over.
type PCRValue struct {
	PCR
	Value Octets // as many bytes as a digest of the bank has
}

// openPCRs returns the values that q is over, which are given as [Verifier] says.
func (q Quote) openPCRs(given []byte) ([]PCRValue, error) {
	given = bytes.Clone(given)
	c := cursor{rest: given}
	var values []PCRValue
	for _, s := range q.Selection {
		for _, index := range s.PCRs {
			values = append(values, PCRValue{PCR{s.Bank, index}, Octets(c.take(s.Bank.size()))})
		}
	}
	if !c.done() {
		return nil, fail(checkPCRs, evidence.Malformed, PCRs, errors.New("not the values of exactly the PCRs selected"))
	}
	if !bytes.Equal(q.signature.hash.sum(given), q.PCRDigest) {
		return nil, fail(checkPCRs, evidence.BadSignature, "pcrDigest", errors.New("not that of the values"))
	}
	return values, nil
}

// PCR returns the value of p, or false if the quote is not over it.
func (c *Claims) PCR(p PCR) (Octets, bool) {
	for _, v := range c.PCRs {
		if v.PCR == p {
			return v.Value, true
		}
	}
	return "", false
}

// bank returns the strongest bank that the quote is over some PCR of and which
// has reports true for.
func (c *Claims) bank(has func(Alg) bool) (Alg, bool) {
	best, found := Alg(0), false
	for _, alg := range hashes() {
		for _, s := range c.Quote.Selection {
			if s.Bank == alg && has(alg) {
				best, found = alg, true
			}
		}
	}
	return best, found
}
