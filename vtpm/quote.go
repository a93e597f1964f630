package vtpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"math/bits"

	"github.com/teebroker/teebroker/evidence"
)

// Numbers of TPM 2.0 Part 2, and what is taken at most.
const (
	generated   = 0xFF544347 // TPM_GENERATED_VALUE, section 6.2
	attestQuote = 0x8018     // TPM_ST_ATTEST_QUOTE, section 6.9
	pcrCount    = 24         // of a PC client TPM
	pcrBytes    = pcrCount / 8

	maxAttest  = 2048 // bytes; a quote of three banks has less than 300
	maxScalar  = 66   // bytes of R or S
	maxRSAKey  = 512  // bytes: 4096 bits
	minRSABits = 2048
)

// Quote is a view of an unverified quote. It shares memory with the bytes it was
// parsed from. Claims made by it are hearsay. The zero Quote claims nothing.
type Quote struct {
	attest []byte // TPMS_ATTEST, as signed

	// ExtraData is the qualifying data that the quote was asked for with, up to 66 bytes.
	ExtraData []byte

	// Signer is the Qualified Name of the key that signed.
	Signer []byte

	Clock     Clock
	Firmware  uint64 // firmwareVersion, in the vendor's own terms
	Selection []BankSelection
	PCRDigest []byte // over the values of the selected PCRs

	signature signature
}

// Clock is TPMS_CLOCK_INFO: TPM 2.0 Part 2, section 10.11.1.
type Clock struct {
	Time         uint64 // milliseconds that the TPM was powered
	ResetCount   uint32 // TPM Resets: starts without saved state
	RestartCount uint32 // restarts and resumes since
	Safe         bool   // no greater Time was ever reported
}

// BankSelection says which PCRs of a bank a quote is over.
type BankSelection struct {
	Bank Alg
	PCRs []int // ascending
}

// signature is a TPMT_SIGNATURE.
type signature struct {
	scheme, hash Alg
	rsa          []byte
	r, s         []byte
}

// ParseQuote parses what TPM2_Quote returns, as it returns it: TPM2B_ATTEST (a
// size of two bytes and the TPMS_ATTEST that was signed) and then TPMT_SIGNATURE,
// all big-endian. That is the Raw of Evidence of [Format]. It has to be a quote,
// made by a TPM, of at least one PCR. Errors wrap an [*evidence.Error] that is
// Malformed or Unsupported. TPM 2.0 Part 3, section 18.4.
func ParseQuote(raw []byte) (Quote, error) {
	c := cursor{rest: raw}
	var q Quote
	q.attest = c.sized()
	if !c.ok() || len(q.attest) > maxAttest {
		return Quote{}, fail(checkQuote, evidence.Malformed, "TPM2B_ATTEST", errors.New("length"))
	}
	if err := q.parseAttest(); err != nil {
		return Quote{}, err
	}
	if err := q.signature.parse(&c); err != nil {
		return Quote{}, err
	}
	if !c.done() {
		return Quote{}, fail(checkQuote, evidence.Malformed, "TPMT_SIGNATURE", errors.New("length"))
	}
	return q, nil
}

// parseAttest parses TPMS_ATTEST: TPM 2.0 Part 2, section 10.12.12.
func (q *Quote) parseAttest() error {
	c := cursor{rest: q.attest}
	if magic := c.u32(); magic != generated {
		return fail(checkMagic, evidence.Malformed, "magic", fmt.Errorf("%#x", magic))
	}
	if kind := c.u16(); kind != attestQuote {
		return fail(checkType, evidence.Unsupported, "type", fmt.Errorf("%#x is not that of a quote", kind))
	}
	q.Signer, q.ExtraData = c.sized(), c.sized()
	q.Clock = Clock{Time: c.u64(), ResetCount: c.u32(), RestartCount: c.u32()}
	safe := c.u8()
	q.Clock.Safe = safe == 1
	q.Firmware = c.u64()
	selection, err := parseSelection(&c)
	if err != nil {
		return err
	}
	q.Selection, q.PCRDigest = selection, c.sized()
	if !c.done() || safe > 1 {
		return fail(checkQuote, evidence.Malformed, "TPMS_ATTEST", errors.New("length or flag"))
	}
	return nil
}

// parseSelection parses TPML_PCR_SELECTION: TPM 2.0 Part 2, section 10.9.7. A bank
// of which nothing is selected is taken, and left out, as long as there is another.
func parseSelection(c *cursor) ([]BankSelection, error) {
	malformed := func(err error) ([]BankSelection, error) {
		return nil, fail(checkSelection, evidence.Malformed, "pcrSelect", err)
	}
	count := c.u32()
	if count > 16 {
		return malformed(fmt.Errorf("%d banks", count))
	}
	var banks []BankSelection
	seen := map[Alg]bool{}
	for range count {
		bank := Alg(c.u16())
		bitmap := c.take(int(c.u8()))
		switch {
		case !c.ok():
			return malformed(errors.New("cut short"))
		case len(bitmap) != pcrBytes:
			return malformed(fmt.Errorf("a selection of %d bytes", len(bitmap)))
		case seen[bank]:
			return malformed(errors.New("a bank twice"))
		}
		seen[bank] = true
		pcrs := selected(bitmap)
		if len(pcrs) == 0 {
			continue
		}
		if bank.hash() == 0 {
			return nil, fail(checkSelection, evidence.Unsupported, "pcrSelect", fmt.Errorf("bank of %v", bank))
		}
		banks = append(banks, BankSelection{bank, pcrs})
	}
	if len(banks) == 0 {
		return malformed(errors.New("no PCR"))
	}
	return banks, nil
}

// selected returns the numbers of the bits that are set, the lowest first.
func selected(bitmap []byte) (pcrs []int) {
	for i, b := range bitmap {
		for ; b != 0; b &= b - 1 {
			pcrs = append(pcrs, 8*i+bits.TrailingZeros8(b))
		}
	}
	return pcrs
}

// parse parses TPMT_SIGNATURE: TPM 2.0 Part 2, section 11.3.4.
func (s *signature) parse(c *cursor) error {
	s.scheme = Alg(c.u16())
	s.hash = Alg(c.u16())
	switch {
	case !c.ok():
		return fail(checkQuote, evidence.Malformed, "TPMT_SIGNATURE", errors.New("length"))
	case s.scheme != algRSASSA && s.scheme != algECDSA:
		return fail(checkScheme, evidence.Unsupported, "sigAlg", fmt.Errorf("%#x is neither RSASSA nor ECDSA", uint16(s.scheme)))
	case s.hash.hash() == 0:
		return fail(checkScheme, evidence.Unsupported, "hash", errors.New(s.hash.String()))
	case s.scheme == algRSASSA:
		s.rsa = c.sized()
	default:
		s.r, s.s = c.sized(), c.sized()
	}
	if !c.ok() || len(s.rsa) > maxRSAKey || len(s.r) > maxScalar || len(s.s) > maxScalar {
		return fail(checkQuote, evidence.Malformed, "TPMT_SIGNATURE", errors.New("length"))
	}
	return nil
}

// signedBy reports whether key signed q, over the bytes received.
func (q Quote) signedBy(key crypto.PublicKey) bool {
	digest := q.signature.hash.sum(q.attest)
	switch key := key.(type) {
	case *rsa.PublicKey:
		return q.signature.scheme == algRSASSA && rsa.VerifyPKCS1v15(key, q.signature.hash.hash(), digest, q.signature.rsa) == nil
	case *ecdsa.PublicKey:
		r, s := new(big.Int).SetBytes(q.signature.r), new(big.Int).SetBytes(q.signature.s)
		return q.signature.scheme == algECDSA && ecdsa.Verify(key, digest, r, s)
	}
	return false
}
