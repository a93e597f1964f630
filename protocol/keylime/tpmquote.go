package keylime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/teebroker/teebroker/vtpm"
)

// The third part of a quote is what tpm2-tools write beside it, from memory: numbers
// are little-endian, and arrays have all their room.
const (
	selections    = 16                   // TPMS_PCR_SELECTION
	selectionSize = 2 + 1 + 3 + 2        // hash, size of the bitmap, bitmap, room
	listSize      = 4 + digestsInList*66 // TPML_DIGEST
	digestsInList = 8                    // TPM2B_DIGEST, 2 + 64 bytes
	maxLists      = 24                   // one for each PCR
	headSize      = 4 + selections*selectionSize + 4
)

// quote reads the quote: "r", and then TPMS_ATTEST, TPMT_SIGNATURE and PCR values, each
// in base64, with colons between.
func (q *tpmQuestion) quote(d tpmData) *failure {
	if err := q.parseQuote(*d.Quote); err != nil {
		return quoteInvalid("quote", err)
	}
	return nil
}

func (q *tpmQuestion) parseQuote(s string) error {
	rest, ok := strings.CutPrefix(s, "r")
	parts := strings.Split(rest, ":")
	if !ok || len(parts) != 3 {
		return errors.New("not r, and three parts with colons between")
	}
	var blobs [3][]byte
	for i, p := range parts {
		b, err := standard(p)
		if err != nil || len(b) > 1<<15 {
			return errors.New("a part is too long, or not canonical base64")
		}
		blobs[i] = b
	}
	attest, signature := blobs[0], blobs[1]
	if len(signature) < 4 || vtpm.Alg(binary.BigEndian.Uint16(signature[2:])) != q.bank {
		return errors.New("not signed with hash_alg")
	}
	raw := append(binary.BigEndian.AppendUint16(nil, uint16(len(attest))), attest...)
	var err error
	if q.Quote, err = vtpm.ParseQuote(append(raw, signature...)); err != nil {
		return err
	}
	q.Vouched.PCRs, err = q.pcrValues(blobs[2])
	return err
}

// pcrValues returns the values in a blob of tpm2-tools, which has to be of exactly what
// the quote is over: one bank, that of hash_alg.
func (q *tpmQuestion) pcrValues(b []byte) ([]byte, error) {
	over := q.Quote.Selection
	switch {
	case len(over) != 1 || over[0].Bank != q.bank:
		return nil, errors.New("not over PCRs of exactly the bank hash_alg")
	case len(b) < headSize || (len(b)-headSize)%listSize != 0 || (len(b)-headSize)/listSize > maxLists:
		return nil, errors.New("PCR values of another length than tpm2-tools write")
	}
	var bitmap [3]byte
	for _, i := range over[0].PCRs {
		bitmap[i/8] |= 1 << (i % 8)
	}
	first := b[4 : 4+selectionSize]
	if binary.LittleEndian.Uint32(b) != 1 || vtpm.Alg(binary.LittleEndian.Uint16(first)) != q.bank || first[2] != 3 || !bytes.Equal(first[3:6], bitmap[:]) {
		return nil, errors.New("PCR values of another selection than that of the quote")
	}
	for i := range selections - 1 {
		if b[4+(i+1)*selectionSize+2] != 0 {
			return nil, errors.New("PCR values of more than one bank")
		}
	}
	lists := b[headSize:]
	if int64(binary.LittleEndian.Uint32(b[headSize-4:])) != int64(len(lists)/listSize) {
		return nil, errors.New("another number of lists than there are")
	}
	return q.digests(lists)
}

// digests returns the digests of lists, one after the other.
func (q *tpmQuestion) digests(lists []byte) (values []byte, err error) {
	size := len(q.Quote.PCRDigest) // of the same hash
	for ; len(lists) > 0; lists = lists[listSize:] {
		count := binary.LittleEndian.Uint32(lists)
		for i := range uint32(digestsInList) {
			digest := lists[4+66*i : 4+66*(i+1)]
			switch n := int(binary.LittleEndian.Uint16(digest)); {
			case i < count && n == size:
				values = append(values, digest[2:2+n]...)
			case i < count || n != 0:
				return nil, fmt.Errorf("a PCR of %d bytes", n)
			}
		}
		if count > digestsInList {
			return nil, errors.New("more values than a list has room for")
		}
	}
	return values, nil
}
