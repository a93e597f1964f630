package keylime

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/delegated"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/snp"
)

// PreimageItem is the type of the Item that has x ‖ y ‖ nonce, of which the binding is
// SHA-512: a Keylime verifier computes it itself.
const PreimageItem = "keylime-preimage"

// Preimage returns the Item for evidence that is bound by [Bind].
func Preimage(key keywrap.Recipient, nonce []byte) (evidence.Item, error) {
	if _, err := Bind(key, nonce); err != nil {
		return evidence.Item{}, err
	}
	x, y, _ := key.XY()
	return evidence.Item{Type: PreimageItem, Data: slices.Concat(x, y, nonce)}, nil
}

// ClientConfig configures a [Client]. URL and HTTP are required.
type ClientConfig struct {
	URL string // of the verifier, such as https://keylime.example:8881

	// HTTP knows the roots of the verifier, and has a certificate where it wants one.
	HTTP *http.Client

	// Keys, if there are any, are SHA-256 of the SubjectPublicKeyInfos that the
	// verifier may have.
	Keys [][32]byte

	Version string // of the API; if empty, the last of Versions

	// Policy is sent as "tee-policy", for a verifier that has several.
	Policy string

	// Skipped names checks that this verifier is known not to make, such as
	// "revocation". They become those of each result, which a broker then refuses.
	Skipped []string

	// Life is how long an answer counts, less if the verifier's certificate ends
	// before. If zero, five minutes.
	Life time.Duration

	Time func() time.Time // if nil, time.Now

	// AllowPlainHTTPUnsafe takes http://. Whoever is between then decides what is
	// genuine.
	AllowPlainHTTPUnsafe bool
}

// DelegatedClaim is the claim of a result of [Client] that says who is believed: the URL
// of the verifier.
const DelegatedClaim = "snp.delegated_to"

// Client is an [evidence.Verifier] of reports of SEV-SNP that asks a Keylime verifier.
//
// What is trusted is the verifier's TLS identity and nothing else. A result has it as
// Root, SHA-256 of its SubjectPublicKeyInfo, and its URL as [DelegatedClaim]; the other
// claims are those of the report, whose bytes the verifier vouched for. They are not
// [snp.Claims]: reference values of package snp refuse them, so that a policy has to say
// by its rules on claims that it takes the word of another verifier.
//
// It is safe for concurrent use if its HTTP client and clock are.
type Client struct {
	cfg     ClientConfig
	service *delegated.Client
}

// NewClient returns a Client, or an error that names the field of cfg at fault.
func NewClient(cfg ClientConfig) (*Client, error) {
	service, err := delegated.New(delegated.Service{URL: cfg.URL, HTTP: cfg.HTTP, Keys: cfg.Keys, AllowPlainHTTPUnsafe: cfg.AllowPlainHTTPUnsafe})
	if err != nil {
		return nil, fmt.Errorf("keylime: ClientConfig.%w", err)
	}
	cfg.Version, cfg.Life = or(cfg.Version, Versions()[len(Versions())-1]), or(cfg.Life, 5*time.Minute)
	switch {
	case !slices.Contains(Versions(), cfg.Version):
		return nil, errors.New("keylime: ClientConfig.Version is not one of the API")
	case cfg.Life < 0:
		return nil, errors.New("keylime: ClientConfig.Life is negative")
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	cfg.Skipped = slices.Clone(cfg.Skipped)
	return &Client{cfg, service}, nil
}

// Verify implements [evidence.Verifier]. Evidence needs one Item of type [PreimageItem];
// a certificate table is passed on. A verifier that can't be reached or is not
// understood, or that knows no answer, is Unavailable.
func (c *Client) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	fail := func(reason evidence.Reason, err error) error {
		return &evidence.Error{Format: ev.Format, Reason: reason, Err: err}
	}
	switch {
	case ev.Format != snp.Format || len(ev.Layers) > 0:
		return nil, fail(evidence.Unsupported, errors.New("a Keylime verifier is asked about reports of SEV-SNP"))
	case !want.Checked():
		return nil, fail(evidence.Unsupported, errors.New("a service is asked for a binding only"))
	}
	report, err := snp.ParseReport(ev.Raw)
	if err != nil {
		return nil, fail(evidence.Malformed, err)
	}
	if data := report.ReportData(); !want.MatchPadded(&data) {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.NotBound, Check: evidence.BindingCheck, Field: "REPORT_DATA"}
	}
	body, err := c.body(ev, want)
	if err != nil {
		return nil, fail(evidence.Unsupported, err)
	}
	reply, err := c.service.Post(ctx, "v"+c.cfg.Version+"/verify/evidence", body)
	if err != nil {
		return nil, fail(evidence.Unavailable, err)
	}
	if err := verdict(reply, report); err != nil {
		return nil, err
	}
	return c.verified(ev, report, reply)
}

// verified returns the result for what the verifier said yes to.
func (c *Client) verified(ev evidence.Evidence, report snp.Report, reply *delegated.Reply) (*evidence.Verified, error) {
	own, err := snp.ParseReport(slices.Clone(ev.Raw))
	if err != nil {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.Malformed, Err: err}
	}
	cs := delegated.Claims{{Name: DelegatedClaim, Value: evidence.Text(c.service.Name())}}
	for name, value := range own.All() {
		cs = append(cs, delegated.Claim{Name: name, Value: value})
	}
	now, data := c.cfg.Time(), report.ReportData()
	v := &evidence.Verified{
		Format: ev.Format, Claims: cs, Bound: true, Signed: data[:], Root: reply.Root, Skipped: slices.Clone(c.cfg.Skipped),
		CheckedAt: now, NotAfter: delegated.Earliest(now.Add(c.cfg.Life), reply.NotAfter),
	}
	if !now.Before(v.NotAfter) {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.Stale, Field: "certificate of the verifier"}
	}
	return v, nil
}

// body returns what is posted.
func (c *Client) body(ev evidence.Evidence, want evidence.Binding) ([]byte, error) {
	var preimage []byte
	inner := map[string]string{"snp-report": base64.StdEncoding.EncodeToString(ev.Raw)}
	seen := map[string]bool{}
	for _, item := range ev.Items {
		if seen[item.Type] {
			return nil, fmt.Errorf("two items of type %.40q", item.Type)
		}
		seen[item.Type] = true
		switch item.Type {
		case PreimageItem:
			preimage = item.Data
		case snp.CertTable:
			inner["certs-buf"] = base64.StdEncoding.EncodeToString(item.Data)
		default:
			return nil, fmt.Errorf("an item of type %.40q", item.Type)
		}
	}
	sum := sha512.Sum512(preimage)
	if !want.MatchExact(sum[:]) {
		return nil, errors.New("no item " + PreimageItem + " of which the binding is the digest")
	}
	x, y, nonce, ok := split(preimage)
	if !ok {
		return nil, errors.New("an item " + PreimageItem + " of no curve")
	}
	d := map[string]any{
		"nonce":            base64.StdEncoding.EncodeToString(nonce),
		"tee-pubkey-x-b64": strictjson.Base64(x), "tee-pubkey-y-b64": strictjson.Base64(y),
		"tee-evidence": map[string]any{"tee": "snp", "evidence": inner},
	}
	if c.cfg.Policy != "" {
		d["tee-policy"] = c.cfg.Policy
	}
	return json.Marshal(map[string]any{"type": typeTEE, "data": d})
}

// split undoes the concatenation of which [Bind] returns the digest. Its length says
// where to cut.
func split(preimage []byte) (x, y, nonce []byte, ok bool) {
	for i, c := range curves {
		if n := len(preimage) - 2*c.size; n >= MinNonce && n <= longestNonce(i) {
			x, y, nonce = preimage[:c.size], preimage[c.size:2*c.size], preimage[2*c.size:]
			_, err := ParseKey(x, y)
			return x, y, nonce, err == nil
		}
	}
	return nil, nil, nil, false
}

// verdict returns nil if reply says yes to report, else why not.
func verdict(reply *delegated.Reply, report snp.Report) error {
	fail := func(reason evidence.Reason, text string) error {
		return &evidence.Error{Format: snp.Format, Reason: reason, Err: errors.New(text)}
	}
	var e struct {
		Code    int `json:"code"`
		Results struct {
			Valid  *bool `json:"valid"`
			Claims struct {
				Measurement []number `json:"measurement"`
				ReportData  []number `json:"report_data"`
			} `json:"claims"`
			Failures []struct {
				Type string `json:"type"`
			} `json:"failures"`
		} `json:"results"`
	}
	if err := strictjson.UnmarshalKnown(reply.Body, &e); err != nil {
		return fail(evidence.Unavailable, "an answer that is not Keylime's")
	}
	r := e.Results
	switch {
	case reply.Status != e.Code || r.Valid == nil:
		return fail(evidence.Unavailable, fmt.Sprintf("no verdict, but status %d", reply.Status))
	case len(r.Failures) > 0:
		return fail(reasonOf(r.Failures[0].Type), fmt.Sprintf("the verifier says %.60q", r.Failures[0].Type))
	case !*r.Valid || e.Code != http.StatusOK:
		return fail(evidence.Unavailable, "not valid, for no reason that is said")
	}
	measurement, data := report.Measurement(), report.ReportData()
	if !same(r.Claims.Measurement, measurement[:]) || !same(r.Claims.ReportData, data[:]) {
		return fail(evidence.Unavailable, "an answer about another report")
	}
	return nil
}

// number is a byte in a list of numbers: encoding/json takes a []uint8 for
// base64.
type number uint16

func same(list []number, b []byte) bool {
	return slices.EqualFunc(list, b, func(n number, v byte) bool { return uint16(n) == uint16(v) })
}

// reasonOf returns the Reason that an id of a failure stands for. What a policy there
// does not accept, nobody vouched for. An id that is not known decides nothing.
func reasonOf(id string) evidence.Reason {
	id = strings.TrimPrefix(id, teeComponent)
	if strings.HasPrefix(id, "policy.") {
		return evidence.Untrusted
	}
	reasons := map[string]evidence.Reason{
		invalidInput: evidence.Malformed, unsupported: evidence.Unsupported, invalidTEE: evidence.Unsupported, invalidPublicKey: evidence.Untrusted,
		revoked: evidence.Revoked, stale: evidence.Stale, invalidSignature: evidence.BadSignature, freshness: evidence.NotBound,
	}
	return or(reasons[id], evidence.Unavailable)
}
