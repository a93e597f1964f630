package provision

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// PCR is a register, 0 to 23, of the SHA-256 bank, and the value that it has when the
// passphrase is unsealed.
type PCR struct {
	Index int
	Value [32]byte
}

// MaxPassphrase is the most bytes that a passphrase may have: a TPM seals 128.
const MaxPassphrase = 128

// pcrs is how many registers a TPM of a PC has.
const pcrs = 24

// sealedPassphrase is the file of a sealed passphrase: the two areas of the object as
// TPM2_Create returns them, each without its size, and the registers that its policy names.
type sealedPassphrase struct {
	Version int               `json:"v"`    // 1
	Bank    string            `json:"bank"` // sha256
	PCRs    []int             `json:"pcrs"` // ascending; none if any boot may have it
	Public  strictjson.Base64 `json:"public"`
	Private strictjson.Base64 `json:"private"`
}

const (
	sealedBank = "sha256"
	maxSealed  = 4 << 10
)

func (s sealedPassphrase) check() error {
	if s.Version != 1 || s.Bank != sealedBank || len(s.Public) == 0 || len(s.Private) == 0 {
		return errors.New("not a sealed passphrase")
	}
	for i, n := range s.PCRs {
		if n < 0 || n >= pcrs || i > 0 && n <= s.PCRs[i-1] {
			return errors.New("not a selection of PCRs")
		}
	}
	return nil
}

func parseSealed(b []byte) (sealedPassphrase, error) {
	var s sealedPassphrase
	if len(b) > maxSealed {
		return s, errors.New("too long")
	}
	if err := strictjson.Unmarshal(b, &s); err != nil {
		return s, err
	}
	return s, s.check()
}

// selection is TPML_PCR_SELECTION of registers of the SHA-256 bank.
func selection(indices []int) tpm2.TPMLPCRSelection {
	bitmap := make([]byte, pcrs/8)
	for _, i := range indices {
		bitmap[i/8] |= 1 << (i % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap}}}
}

// policy is the digest of TPM2_PolicyPCR for values that are in ascending order.
func policy(values []PCR) ([]byte, []int, error) {
	h := sha256.New()
	indices := make([]int, 0, len(values))
	for _, p := range values {
		indices = append(indices, p.Index)
		h.Write(p.Value[:])
	}
	c, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err == nil {
		err = tpm2.PolicyPCR{Pcrs: selection(indices), PcrDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)}}.Update(c)
	}
	if err != nil {
		return nil, nil, err
	}
	return c.Hash().Digest, indices, nil
}

// seal seals secret under the storage root key of t, for boots that leave the registers
// at values. No authorization value opens it: the policy alone does, for reading and for changing it.
func seal(t transport.TPM, secret []byte, values []PCR) ([]byte, error) {
	values = slices.SortedFunc(slices.Values(values), func(a, b PCR) int { return a.Index - b.Index })
	digest, indices, err := policy(values)
	if err != nil {
		return nil, err
	}
	parent, err := handle(t, srkHandle)
	if err != nil {
		return nil, err
	}
	got, err := tpm2.Create{
		ParentHandle: parent,
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret})}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, AdminWithPolicy: true, NoDA: true},
			AuthPolicy:       tpm2.TPM2BDigest{Buffer: digest},
		}),
	}.Execute(t)
	if err != nil {
		return nil, err
	}
	s := sealedPassphrase{1, sealedBank, indices, got.OutPublic.Bytes(), got.OutPrivate.Buffer}
	if err := s.check(); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// unseal has t unseal what seal returned.
func unseal(t transport.TPM, b []byte) (secret []byte, err error) {
	s, err := parseSealed(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	parent, err := handle(t, srkHandle)
	if err != nil {
		return nil, err
	}
	loaded, err := tpm2.Load{
		ParentHandle: parent, InPrivate: tpm2.TPM2BPrivate{Buffer: s.Private}, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](s.Public),
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	defer func() {
		if _, flush := (tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}).Execute(t); flush != nil && err == nil {
			clear(secret)
			secret, err = nil, fmt.Errorf("provision: TPM: %w", flush)
		}
	}()
	got, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
		Handle: loaded.ObjectHandle, Name: loaded.Name,
		Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(t transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(s.PCRs)}.Execute(t)
			return err
		}),
	}}.Execute(t)
	switch {
	case errors.Is(err, tpm2.TPMRCPolicyFail):
		return nil, ErrPCRs
	case err != nil:
		return nil, fmt.Errorf("provision: TPM: %w", err)
	}
	return got.OutData.Buffer, nil
}
