package keylime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/vtpm"
)

// TPM says what evidence of type "tpm" is taken from: a quote, judged by the policies
// that its caller sends. Exactly one of its fields is set.
type TPM struct {
	// AKs says which AK was shown to be in the TPM of which EK. Quotes of others
	// are refused.
	AKs vtpm.AKs

	// AllowCallersAK takes a caller's word for the AK being in the TPM of the EK, as
	// Keylime does: a caller who asked nobody, a registrar for one, has no proof that
	// any TPM has a part in what verifies.
	AllowCallersAK bool
}

// check reports what is wrong with t.
func (t *TPM) check() error {
	if t != nil && (t.AKs == nil) != t.AllowCallersAK {
		return errors.New("keylime: Config.TPM has exactly one of AKs and AllowCallersAK")
	}
	return nil
}

// tpmData is about evidence of type "tpm".
type tpmData struct {
	Quote   *string         `json:"quote"`
	Nonce   *string         `json:"nonce"`
	Hash    *string         `json:"hash_alg"`
	EK      *string         `json:"tpm_ek"` // TPM2B_PUBLIC in base64
	AK      *string         `json:"tpm_ak"`
	PCRs    json.RawMessage `json:"tpm_policy"` // policies are JSON, or JSON in a string
	Runtime json.RawMessage `json:"runtime_policy"`
	Boot    json.RawMessage `json:"mb_policy"`
	IMA     *string         `json:"ima_measurement_list"` // as Linux has it
	Log     *string         `json:"mb_log"`               // TCG2 in base64
}

// tpmQuestion is what one request of type "tpm" asks.
type tpmQuestion struct {
	nonce  string
	bank   vtpm.Alg
	ek, ak vtpm.Public
	vtpm.Vouched

	pcrs    *pcrPolicy     // nil if there is none
	runtime *runtimePolicy // nil if there is none
	boot    *bootPolicy    // nil if there is none
}

// verifyTPM answers a request of type "tpm".
func (h *Handler) verifyTPM(ctx context.Context, raw []byte) (code int, status string, r result, why error) {
	r = result{Claims: map[string]any{}}
	q, f := parseTPM(raw)
	fs := []*failure{f}
	var c *vtpm.Claims
	if f == nil {
		c, fs = h.judgeTPM(ctx, q)
	}
	r.Failures = failuresJSON(fs...)
	if len(fs) > 0 {
		code, status = http.StatusOK, "Success"
		if fs[0].id == missingParam || fs[0].id == missingPolicy {
			code, status = http.StatusBadRequest, "Bad Request"
		}
		return code, status, r, failed(fs)
	}
	r.Valid, r.Claims = true, h.tpmClaims(q, c)
	return http.StatusOK, "Success", r, nil
}

// judgeTPM verifies the quote and judges what it says. There are no failures if and
// only if all of it is accepted.
func (h *Handler) judgeTPM(ctx context.Context, q *tpmQuestion) (*vtpm.Claims, []*failure) {
	extra, f := q.extra()
	if f != nil {
		return nil, []*failure{f}
	}
	if f := h.linked(ctx, q); f != nil {
		return nil, []*failure{f}
	}
	c, err := q.Open(extra)
	if err != nil {
		return nil, []*failure{quoteFailure(err)}
	}
	fs := slices.Concat(q.pcrs.judge(c, q.bank), q.boot.judge(c, q), q.runtime.judge(ctx, c))
	if len(fs) > maxFailures {
		fs = fs[:maxFailures]
	}
	return c, fs
}

// extra returns what the quote was asked for with: the nonce, as the caller wrote it or
// what that is in base64. Both are the caller's choice, and of the full length.
func (q *tpmQuestion) extra() ([]byte, *failure) {
	raw := []byte(q.nonce)
	decoded, err := standard(q.nonce)
	if err != nil {
		decoded = nil
	}
	for _, nonce := range [][]byte{raw, decoded} {
		if bytes.Equal(nonce, q.Quote.ExtraData) && len(nonce) >= MinNonce {
			return nonce, nil
		}
	}
	if len(raw) < MinNonce || len(raw) > 2*MaxNonce {
		return nil, quoteInvalid("nonce", fmt.Errorf("%d bytes, not %d to %d", len(raw), MinNonce, 2*MaxNonce))
	}
	return nil, quoteFailure(&evidence.Error{Format: vtpm.Format, Reason: evidence.NotBound, Field: "extraData"})
}

// linked returns a failure unless the AK is in the TPM of the EK.
func (h *Handler) linked(ctx context.Context, q *tpmQuestion) *failure {
	if h.cfg.TPM.AllowCallersAK {
		return nil
	}
	ok, err := h.cfg.TPM.AKs.Activated(ctx, q.ek.Name, q.ak.Name)
	switch {
	case err != nil:
		return &failure{
			component: tpmComponent, id: unavailable, message: "whether the AK is in the TPM of the EK is not known now",
			cause: &evidence.Error{Format: vtpm.Format, Reason: evidence.Unavailable, Field: "tpm_ak", Err: err},
		}
	case !ok:
		return &failure{component: tpmComponent, id: "unlinked", message: "the AK was not shown to be in the TPM of the EK"}
	}
	return nil
}

// tpmClaims returns the claims of a quote that was accepted, under the names of
// docs/claims-vtpm.md, and who vouches for the AK.
func (h *Handler) tpmClaims(q *tpmQuestion, c *vtpm.Claims) map[string]any {
	all := map[string]any{"ak_vouched_for_by": "caller"}
	for name, value := range c.All() {
		all[name] = value
	}
	delete(all, "vtpm.link") // which is about evidence that comes with a report
	if !h.cfg.TPM.AllowCallersAK {
		all["ak_vouched_for_by"] = "activation"
		digest := vtpm.KeyDigest(q.ek.Key)
		all["vtpm.ek"] = evidence.Bytes(digest[:])
		if id, err := vtpm.AgentID(q.ek.Key); err == nil {
			all["vtpm.agent_id"] = id
		}
	}
	return all
}

// parseTPM returns what data asks, in the order in which Keylime looks.
func parseTPM(raw []byte) (*tpmQuestion, *failure) {
	var d tpmData
	if err := strictjson.UnmarshalKnown(raw, &d); err != nil {
		return nil, &failure{component: defaultComponent, id: invalidInput, message: err.Error()}
	}
	for _, p := range []struct {
		name string
		text *string
	}{{"quote", d.Quote}, {"nonce", d.Nonce}, {"hash_alg", d.Hash}, {"tpm_ek", d.EK}, {"tpm_ak", d.AK}} {
		if p.text == nil || *p.text == "" {
			return nil, &failure{component: defaultComponent, id: missingParam, message: fmt.Sprintf("missing parameter %q", p.name)}
		}
	}
	q := &tpmQuestion{nonce: *d.Nonce}
	for _, step := range []func(tpmData) *failure{q.policies, q.hash, q.keys, q.quote, q.logs} {
		if f := step(d); f != nil {
			return nil, f
		}
	}
	return q, nil
}

// policies reads the policies, of which one at least has to ask something.
func (q *tpmQuestion) policies(d tpmData) *failure {
	var err error
	bad := func(name string) *failure {
		return &failure{component: defaultComponent, id: invalidPolicy, message: fmt.Sprintf("%s: %v", name, err)}
	}
	if q.pcrs, err = parsePCRPolicy(d.PCRs); err != nil {
		return bad("tpm_policy")
	}
	if q.runtime, err = parseRuntimePolicy(d.Runtime); err != nil {
		return bad("runtime_policy")
	}
	if q.boot, err = parseBootPolicy(d.Boot); err != nil {
		return bad("mb_policy")
	}
	none := func(what string) *failure {
		return &failure{component: defaultComponent, id: missingPolicy, message: what}
	}
	switch {
	case q.pcrs == nil && q.runtime == nil && q.boot == nil:
		return none("at least one policy (tpm_policy, runtime_policy, or mb_policy) has to ask something")
	case q.runtime == nil && d.IMA != nil && *d.IMA != "":
		return none("a measurement list without a runtime_policy")
	case q.boot == nil && d.Log != nil && *d.Log != "":
		return none("a boot log without an mb_policy")
	}
	return nil
}

func (q *tpmQuestion) hash(d tpmData) *failure {
	for _, alg := range []vtpm.Alg{vtpm.SHA256, vtpm.SHA384, vtpm.SHA512} {
		if alg.String() == *d.Hash {
			q.bank = alg
			return nil
		}
	}
	return &failure{component: quoteComponent, id: "invalid_hash_alg", message: "hash_alg is none of sha256, sha384 and sha512"}
}

func (q *tpmQuestion) keys(d tpmData) *failure {
	for _, k := range []struct {
		name, text string
		to         *vtpm.Public
	}{{"tpm_ek", *d.EK, &q.ek}, {"tpm_ak", *d.AK, &q.ak}} {
		b, err := standard(k.text)
		if err != nil {
			return quoteInvalid(k.name, err)
		}
		if *k.to, err = vtpm.ParsePublic(b); err != nil {
			return quoteInvalid(k.name, errors.New("not the public area of a key that is handled"))
		}
	}
	q.AK = q.ak
	return nil
}

func (q *tpmQuestion) logs(d tpmData) *failure {
	if d.IMA != nil && *d.IMA != "" {
		q.IMA = []byte(*d.IMA)
	}
	if d.Log != nil && *d.Log != "" {
		b, err := standard(*d.Log)
		if err != nil {
			return &failure{component: bootComponent, id: "parser.log.base64decode", message: "mb_log is not canonical base64"}
		}
		q.EventLog = b
	}
	_, ima := q.selects(vtpm.IMAPCR)
	boot := slices.ContainsFunc(bootPCRs(), func(i int) bool { _, ok := q.selects(i); return ok })
	missing := func(id, what string) *failure { return &failure{component: pcrComponent, id: id, message: what} }
	switch {
	case q.runtime != nil && !ima:
		return missing(missingPCRs, "a runtime_policy needs a quote of PCR 10")
	case ima && q.runtime == nil:
		return missing("unused_pcr_10", "the quote is over PCR 10, and there is no runtime_policy")
	case ima && q.IMA == nil:
		return missing("unused_pcr_10", "the quote is over PCR 10, and there is no measurement list")
	case q.boot != nil && !boot:
		return missing(missingPCRs, "an mb_policy needs a quote of PCRs that boot is measured into")
	case q.boot != nil && q.EventLog == nil:
		return missing("unused_pcr_0", "there is an mb_policy and no boot log")
	}
	return nil
}

// selects reports whether the quote is over a PCR.
func (q *tpmQuestion) selects(index int) (vtpm.PCR, bool) {
	for _, s := range q.Quote.Selection {
		if slices.Contains(s.PCRs, index) {
			return vtpm.PCR{Bank: s.Bank, Index: index}, true
		}
	}
	return vtpm.PCR{}, false
}

// quoteFailure returns the failure for an error of [vtpm.Vouched.Open], under the ids
// that Keylime has for such.
func quoteFailure(err error) *failure {
	e := &evidence.Error{Format: vtpm.Format, Reason: evidence.Malformed}
	errors.As(err, &e)
	f := &failure{component: quoteComponent, id: "quote_validation", message: "the quote does not verify", cause: e}
	index, pcr := strings.CutPrefix(e.Field, "PCR")
	switch {
	case e.Check == "event-log" && pcr:
		f.component, f.id, f.message = bootComponent, "invalid_pcr_"+index, "PCR "+index+" is not what the boot log makes of it"
	case e.Check == "event-log":
		f.component, f.id, f.message = bootComponent, "parser.tpm2_eventlog.error", "the boot log is malformed, or not of this bank"
	case e.Check == "ima" && pcr:
		f.component, f.id, f.message = imaComponent, "pcr_mismatch", "the measurement list does not make of PCR 10 what it is"
	case e.Check == "ima" && e.Reason == evidence.BadSignature:
		f.component, f.id, f.message = imaComponent, runtimeHash, "the boot aggregate is not of the PCRs"
	case e.Check == "ima":
		f.component, f.id, f.message = imaComponent, "parser.entry", "the measurement list is malformed, or of a template that is not handled"
	}
	return f
}

// quoteInvalid is a member that can't be decoded.
func quoteInvalid(name string, err error) *failure {
	return &failure{component: quoteComponent, id: "invalid_quote", message: fmt.Sprintf("%s: %v", name, err)}
}

// failed returns fs as an error, for logs.
func failed(fs []*failure) error {
	errs := []error{errors.New("keylime: not accepted")}
	for _, f := range fs {
		errs = append(errs, errors.New(f.name()+": "+f.message))
		if f.cause != nil {
			errs = append(errs, f.cause)
		}
	}
	return errors.Join(errs...)
}
