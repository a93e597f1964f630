package kbs

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// ccaFormat is cca.Format, spelled here so that who serves this protocol does not
// need a decoder of CBOR.
const ccaFormat evidence.Format = "cca-token"

// svsmEvidence is what an SVSM's proxy sends.
type svsmEvidence struct {
	Certs  *string `json:"certs-buf"`
	Report string  `json:"snp-report"`
}

type tdxEvidence struct {
	EventLog *string `json:"cc_eventlog"`
	Quote    string  `json:"quote"`
}

type ccaEvidence struct {
	Token octets `json:"token"`
}

// shape sets Profile, Evidence and CoCo of req from the form of c.
func (h *Handler) shape(req *teebroker.Request, c composite, session Session) error {
	if c.Additional == nil {
		return malformed("there is no additional_evidence", nil)
	}
	members, err := strictjson.Members(c.Primary)
	if err != nil {
		return malformed("the primary_evidence is not a JSON object", err)
	}
	has := func(name string) bool { _, ok := members[name]; return ok }
	var primary evidence.Evidence
	switch {
	case session.Delegated != "":
		primary = evidence.Evidence{Format: h.cfg.Delegated[session.Delegated], Raw: bytes.Clone(c.Primary)}
	case has("snp-report"):
		if *c.Additional != "" {
			return malformed("an SVSM has no additional_evidence", nil)
		}
		req.Profile = nonce.ProfileSVSM
		primary, err = fromSVSM(c.Primary)
		req.Evidence = []evidence.Evidence{primary}
		return err
	case has("attestation_report"):
		primary, err = fromSNP(c.Primary)
	case has("quote"):
		primary, err = fromTDX(c.Primary)
	case has("tpm_quote"):
		primary, err = fromAzure(c.Primary)
	case has("token"):
		primary, err = fromCCA(c.Primary)
	case has("report_data") && h.cfg.AllowSampleEvidenceUnsafe:
		primary = evidence.Evidence{Format: SampleFormat, Raw: bytes.Clone(c.Primary)}
	default:
		return &refusal{
			status: 401, kind: kindAttestation, code: teebroker.Refusal(evidence.Unsupported),
			detail: "evidence of this form is not verified here",
		}
	}
	if err != nil {
		return err
	}
	req.Profile = nonce.ProfileCoCo
	req.Evidence = []evidence.Evidence{primary}
	if err := h.devices(req, *c.Additional); err != nil {
		return err
	}
	req.CoCo = &teebroker.CoCo{AdditionalEvidence: *c.Additional, Hashes: slices.Repeat([]crypto.Hash{session.Hash}, len(req.Evidence))}
	return nil
}

// devices adds the evidence of devices, {"<tee>": evidence}, in the order of
// their names.
func (h *Handler) devices(req *teebroker.Request, additional string) error {
	if additional == "" {
		return nil
	}
	members, err := strictjson.Members([]byte(additional))
	if err != nil {
		return malformed("the additional_evidence is not a JSON object", err)
	}
	for name, raw := range members {
		if name != "sampledevice" || !h.cfg.AllowSampleEvidenceUnsafe {
			return &refusal{
				status: 401, kind: kindAttestation, code: teebroker.Refusal(evidence.Unsupported),
				detail: "evidence of a device that is not verified here",
			}
		}
		req.Evidence = append(req.Evidence, evidence.Evidence{Format: SampleDeviceFormat, Raw: bytes.Clone(raw)})
	}
	return nil
}

func fromSVSM(raw json.RawMessage) (evidence.Evidence, error) {
	var e svsmEvidence
	if err := decode(raw, "the primary_evidence", &e); err != nil {
		return evidence.Evidence{}, err
	}
	report, err := standard(e.Report)
	if err != nil {
		return evidence.Evidence{}, malformed("snp-report is not in standard base64", err)
	}
	ev := evidence.Evidence{Format: snp.Format, Raw: report}
	if e.Certs != nil && *e.Certs != "" {
		table, err := standard(*e.Certs)
		if err != nil {
			return evidence.Evidence{}, malformed("certs-buf is not in standard base64", err)
		}
		// What the host hands over beside the report is a convenience: if it is
		// no table, the certificate comes from the verifier's own Source.
		if _, err := snp.TableVEKs(table); err == nil {
			ev.Items = []evidence.Item{{Type: snp.CertTable, Data: table}}
		}
	}
	return ev, nil
}

func fromTDX(raw json.RawMessage) (evidence.Evidence, error) {
	var e tdxEvidence
	if err := decode(raw, "the primary_evidence", &e); err != nil {
		return evidence.Evidence{}, err
	}
	quote, err := standard(e.Quote)
	if err != nil {
		return evidence.Evidence{}, malformed("quote is not in standard base64", err)
	}
	ev := evidence.Evidence{Format: tdx.Format, Raw: quote}
	if e.EventLog != nil && *e.EventLog != "" {
		log, err := standard(*e.EventLog)
		if err != nil {
			return evidence.Evidence{}, malformed("cc_eventlog is not in standard base64", err)
		}
		if len(log) > tdx.MaxEventLogSize {
			return evidence.Evidence{}, &refusal{
				status: 413, kind: kindBody, code: teebroker.TooLarge,
				detail: fmt.Sprintf("an event log of more than %d bytes", tdx.MaxEventLogSize),
			}
		}
		ev.Items = []evidence.Item{{Type: tdx.CCEL, Data: log}}
	}
	return ev, nil
}

func fromCCA(raw json.RawMessage) (evidence.Evidence, error) {
	var e ccaEvidence
	if err := decode(raw, "the primary_evidence", &e); err != nil {
		return evidence.Evidence{}, err
	}
	return evidence.Evidence{Format: ccaFormat, Raw: e.Token}, nil
}

// launchClaims have the init-data that a guest was given, by format: at launch,
// or as the first thing that it did.
var launchClaims = map[evidence.Format]string{
	snp.Format: "snp.host_data", tdx.Format: "tdx.mrconfigid", ccaFormat: "cca.rpv", vtpmFormat: initDataPCR,
}

// suits returns an error unless the guest runs at the level that may ask for
// secrets, and init-data that came along is what the launch was given. Whether
// that is acceptable the policies of the instance said before.
func suits(a *teebroker.Attestation, data *initData) error {
	v := a.Verified()[0]
	want := launchClaims[v.Format]
	digested := data == nil || v.Format == SampleFormat // which says nothing of its launch
	for name, value := range v.Claims.All() {
		if n, ok := value.Uint(); name == "snp.vmpl" && (!ok || n != 0) {
			return fmt.Errorf("kbs: %w: a guest above VMPL 0", teebroker.Denied)
		}
		if given, ok := value.Bytes(); data != nil && name == want && ok {
			digested = data.Format == "toml" && data.gave(v.Format, given)
		}
	}
	if !digested {
		return fmt.Errorf("kbs: %w: the init-data is not what the launch was given", teebroker.Denied)
	}
	return nil
}

// gave reports whether claim, of evidence of format f, is of a digest of the whole
// body. The body names the hash, which is not looked at: the claim is of one of
// three digests or it is not.
func (d initData) gave(f evidence.Format, claim []byte) bool {
	if f == vtpmFormat {
		return d.extended(claim)
	}
	return len(claim) >= sha256.Size && d.digested(len(claim), func(digest []byte) bool { return bytes.Equal(digest, claim) })
}

// digested reports whether is says yes to a digest of the body, cut off or padded
// with zeros to size bytes as the attestation agents of clients do.
func (d initData) digested(size int, is func(digest []byte) bool) bool {
	for _, h := range hashes {
		hash := h.hash.New()
		hash.Write([]byte(d.Body)) //nolint:errcheck // a hash never fails
		if is(append(hash.Sum(nil), make([]byte, size)...)[:size]) {
			return true
		}
	}
	return false
}
