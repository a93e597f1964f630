package keylime

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/snp"
)

// maxList is how many pieces of evidence one request may have.
const maxList = 4

// The types of evidence.
const (
	typeTEE = "tee"
	typeTPM = "tpm"
)

// request is what a caller posts, or one of a list of these.
type request struct {
	Type *string         `json:"type"`
	Data json.RawMessage `json:"data"`
}

// data is about evidence of type "tee".
type data struct {
	Nonce    *string         `json:"nonce"`
	X        *string         `json:"tee-pubkey-x-b64"`
	Y        *string         `json:"tee-pubkey-y-b64"`
	Evidence json.RawMessage `json:"tee-evidence"`
	Policy   *string         `json:"tee-policy"` // extension: which of the Handler's policies
}

type teeEvidence struct {
	TEE      *string         `json:"tee"`
	Evidence json.RawMessage `json:"evidence"`
}

// A format is how one TEE's evidence is written.
type format struct {
	name   evidence.Format
	member string // of "evidence", the evidence itself
	extra  string // another member that may be there, or ""
	item   string // the type of the Item that it becomes
}

// formats are by the names of TEEs. Formats are spelled here so that whoever serves
// this does not link all of them.
var formats = map[string]format{
	"snp": {snp.Format, "snp-report", "certs-buf", snp.CertTable},
	"tdx": {"tdx-quote", "tdx-quote", "cc-eventlog", "tdx-ccel"},
	"cca": {"cca-token", "cca-token", "", ""},
}

// question is what one request asks.
type question struct {
	tee    string
	ev     evidence.Evidence
	want   evidence.Binding
	nonce  []byte
	key    keywrap.Recipient
	policy string
}

// parseBody returns the requests of a body, and whether they are a list.
func parseBody(b []byte) (rs []request, list bool, err error) {
	if trimmed := bytes.TrimLeft(b, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		err = strictjson.UnmarshalKnown(b, &rs)
		return rs, true, err
	}
	var r request
	err = strictjson.UnmarshalKnown(b, &r)
	return []request{r}, false, err
}

// absent reports whether a member is missing or empty, which is the same here.
func absent(raw json.RawMessage) bool {
	s := string(raw)
	return s == "" || s == `""` || s == "null"
}

// given returns the text of a member, or the failure that it is missing.
func given(s *string, name string) (string, *failure) {
	if s == nil || *s == "" {
		return "", missing(name)
	}
	return *s, nil
}

// parse returns what d asks, in the order in which Keylime looks.
func (d data) parse() (question, *failure) {
	var q question
	if absent(d.Evidence) {
		return q, missing("tee-evidence")
	}
	nonce, f := given(d.Nonce, "nonce")
	if f != nil {
		return q, f
	}
	x, f := given(d.X, "tee-pubkey-x-b64")
	if f != nil {
		return q, f
	}
	y, f := given(d.Y, "tee-pubkey-y-b64")
	if f != nil {
		return q, f
	}
	if d.Policy != nil {
		q.policy = *d.Policy
	}
	if f := q.bind(nonce, x, y); f != nil {
		return q, f
	}
	return q, q.evidence(d.Evidence)
}

// bind decodes nonce and key and what evidence has to be over.
func (q *question) bind(nonce, x, y string) *failure {
	n, err := standard(nonce)
	if err != nil {
		return invalid("nonce", err)
	}
	xb, err := strictjson.ParseBase64(x)
	if err != nil {
		return invalid("tee-pubkey-x-b64", err)
	}
	yb, err := strictjson.ParseBase64(y)
	if err != nil {
		return invalid("tee-pubkey-y-b64", err)
	}
	key, err := ParseKey(xb, yb)
	if err != nil {
		return &failure{id: invalidKey, message: err.Error()}
	}
	want, err := Bind(key, n)
	switch {
	case errors.Is(err, ErrNonce):
		return &failure{id: invalidNonce, message: err.Error()}
	case err != nil:
		return &failure{id: invalidKey, message: err.Error()}
	}
	q.nonce, q.key, q.want = n, key, want
	return nil
}

// evidence decodes the evidence itself.
func (q *question) evidence(raw json.RawMessage) *failure {
	var e teeEvidence
	if err := strictjson.UnmarshalKnown(raw, &e); err != nil {
		return invalid("tee-evidence", err)
	}
	tee, f := given(e.TEE, "tee")
	if f != nil {
		return f
	}
	if absent(e.Evidence) {
		return missing("evidence")
	}
	kind, ok := formats[tee]
	if !ok {
		return &failure{id: invalidTEE, message: "invalid tee argument"}
	}
	members, err := strictjson.Members(e.Evidence)
	if err != nil {
		return invalid("evidence", err)
	}
	if absent(members[kind.member]) {
		return missing(kind.member)
	}
	b, err := standardMember(members[kind.member])
	if err != nil {
		return invalid(kind.member, err)
	}
	q.tee, q.ev = tee, evidence.Evidence{Format: kind.name, Raw: b}
	return q.companion(kind, members)
}

// companion adds what came along with the evidence. Certificates of a host that are no
// certificate table count for nothing, as for Keylime: nothing in them is needed.
func (q *question) companion(kind format, members map[string][]byte) *failure {
	if kind.extra == "" || absent(members[kind.extra]) {
		return nil
	}
	b, err := standardMember(members[kind.extra])
	if err != nil {
		return invalid(kind.extra, err)
	}
	if kind.item == snp.CertTable {
		if _, err := snp.TableVEKs(b); err != nil {
			return nil
		}
	}
	q.ev.Items = []evidence.Item{{Type: kind.item, Data: b}}
	return nil
}

// standardMember decodes a JSON string in standard base64.
func standardMember(raw []byte) ([]byte, error) {
	var s string
	if err := strictjson.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	return standard(s)
}

// standard decodes standard base64 with padding, of which one spelling is taken.
func standard(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	// The decoder passes over line breaks and stray bits.
	if err != nil || base64.StdEncoding.EncodeToString(b) != s {
		return nil, errors.New("not canonical base64")
	}
	return b, nil
}
