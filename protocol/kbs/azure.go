package kbs

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// What package vtpm calls the evidence of an Azure VM, spelled here so that who
// serves this protocol does not need a TPM's structures.
const (
	vtpmFormat = evidence.Format("vtpm")
	vtpmPCRs   = "vtpm-pcrs"
	vtpmHCL    = "vtpm-azure-hcl"

	// initDataPCR is where these guests put init-data, which the launch of an
	// Azure VM can't be given.
	initDataPCR = "vtpm.pcr.sha256.8"
)

const (
	azureVersion = 2
	azurePCRs    = 24

	// Where an HCL blob has the report of SEV-SNP.
	hclReport = 32

	tpmRSASSA = 0x0014 // TPM 2.0 Part 2, section 6.3
	tpmSHA256 = 0x000B
)

// azureEvidence is what a guest on Azure sends: a quote of its TPM, what the
// paravisor says of that TPM, and what the hardware says of the paravisor.
type azureEvidence struct {
	Version *int `json:"version"`
	Quote   struct {
		Signature digits   `json:"signature"` // RSASSA with SHA-256, without a header
		Message   digits   `json:"message"`   // TPMS_ATTEST
		PCRs      []digits `json:"pcrs"`      // of SHA-256, all of them
	} `json:"tpm_quote"`
	HCL     webOctets `json:"hcl_report"`
	VCEK    webOctets `json:"vcek"`     // in DER; of SEV-SNP
	TDQuote webOctets `json:"td_quote"` // of TDX
}

// fromAzure returns the quote, with the report below it.
func fromAzure(raw json.RawMessage) (evidence.Evidence, error) {
	var e azureEvidence
	if err := decode(raw, "the primary_evidence", &e); err != nil {
		return evidence.Evidence{}, err
	}
	switch {
	case e.Version == nil || *e.Version != azureVersion:
		return evidence.Evidence{}, &refusal{
			status: 401, kind: kindAttestation, code: teebroker.Refusal(evidence.Unsupported),
			detail: "evidence of a vTPM of another version than 2",
		}
	case len(e.Quote.PCRs) != azurePCRs:
		return evidence.Evidence{}, malformed("the tpm_quote does not have 24 pcrs", nil)
	case e.Quote.Message == nil || e.Quote.Signature == nil || e.HCL == nil:
		return evidence.Evidence{}, malformed("the primary_evidence lacks a member", nil)
	case len(e.Quote.Message) > 0xffff || len(e.Quote.Signature) > 0xffff:
		return evidence.Evidence{}, malformed("the tpm_quote is longer than a TPM's", nil)
	}
	below, err := e.below()
	if err != nil {
		return evidence.Evidence{}, err
	}
	pcrs := make([]byte, 0, azurePCRs*sha256.Size)
	for _, value := range e.Quote.PCRs {
		if len(value) != sha256.Size {
			return evidence.Evidence{}, malformed("the tpm_quote has a PCR that is not of SHA-256", nil)
		}
		pcrs = append(pcrs, value...)
	}
	return evidence.Evidence{
		Format: vtpmFormat, Raw: e.quote(), Layers: []evidence.Evidence{below},
		Items: []evidence.Item{{Type: vtpmPCRs, Data: pcrs}, {Type: vtpmHCL, Data: e.HCL}},
	}, nil
}

// quote returns what TPM2_Quote returned: TPM2B_ATTEST and TPMT_SIGNATURE.
func (e azureEvidence) quote() []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(e.Quote.Message)))
	b = append(b, e.Quote.Message...)
	for _, n := range []int{tpmRSASSA, tpmSHA256, len(e.Quote.Signature)} {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return append(b, e.Quote.Signature...)
}

// below returns the report of the hardware: that of SEV-SNP is in the HCL blob.
func (e azureEvidence) below() (evidence.Evidence, error) {
	switch {
	case (e.VCEK == nil) == (e.TDQuote == nil):
		return evidence.Evidence{}, malformed("the primary_evidence does not have one of vcek and td_quote", nil)
	case e.TDQuote != nil:
		return evidence.Evidence{Format: tdx.Format, Raw: e.TDQuote}, nil
	case len(e.HCL) < hclReport+reportSize:
		return evidence.Evidence{}, malformed("the hcl_report has no room for a report", nil)
	}
	return evidence.Evidence{
		Format: snp.Format, Raw: bytes.Clone(e.HCL[hclReport : hclReport+reportSize]),
		Items: []evidence.Item{{Type: snp.VEK, Data: e.VCEK}},
	}, nil
}

// extended reports whether pcr is the value of a PCR that was zero and then
// extended with a digest of d, and with nothing else.
func (d initData) extended(pcr []byte) bool {
	return d.digested(sha256.Size, func(digest []byte) bool {
		sum := sha256.Sum256(append(make([]byte, sha256.Size), digest...))
		return bytes.Equal(sum[:], pcr)
	})
}

// digits is bytes written in hexadecimal.
type digits []byte

// UnmarshalJSON implements [json.Unmarshaler].
func (d *digits) UnmarshalJSON(b []byte) error {
	return unmarshalText(b, (*[]byte)(d), hex.DecodeString)
}

// webOctets is bytes written in the URL-safe base64, with padding or without.
type webOctets []byte

// UnmarshalJSON implements [json.Unmarshaler].
func (o *webOctets) UnmarshalJSON(b []byte) error {
	return unmarshalText(b, (*[]byte)(o), func(s string) ([]byte, error) {
		for _, e := range []*base64.Encoding{base64.URLEncoding, base64.RawURLEncoding} {
			if out, err := e.Strict().DecodeString(s); err == nil && e.EncodeToString(out) == s {
				return out, nil
			}
		}
		return nil, errors.New("not URL-safe base64")
	})
}

// unmarshalText reads a JSON string of at least one byte.
func unmarshalText(b []byte, into *[]byte, read func(string) ([]byte, error)) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	out, err := read(s)
	if err == nil && len(out) == 0 {
		err = errors.New("empty")
	}
	*into = out
	return err
}
