package kbs_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/protocol/kbs"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// recording is one run of a real client against a server that did as it was told.
type recording struct {
	PrivateKeys []privateKey `json:"private_keys"`
	VCEK        *privateKey  `json:"synthetic_vcek_private_key"`
	Exchanges   []exchange
}

type privateKey struct {
	PKCS8 string `json:"pem_pkcs8"`
	PKCS1 string `json:"pem_pkcs1"`
}

type exchange struct {
	Request struct {
		Method, Target string
		Headers        [][2]string
		Body           string `json:"body_text"`
	}
	Response struct {
		Headers [][2]string
		Body    string `json:"body_text"`
	}
}

// negatives are the recordings whose requests can't be served, and why: the code
// of the first that is not.
var negatives = map[string]string{
	"aproxy_foreign_challenge":     "nonce-spent", // the cookie is of another challenge
	"aproxy_long_challenge":        "malformed-request",
	"aproxy_bad_report_data":       "not-bound",
	"aproxy_vmpl2_report":          "denied",
	"aproxy_secure_cookie_dropped": "nonce-spent",
	"coco_secure_cookie_dropped":   "nonce-spent",
	"coco_success_jcs_nonce":       "malformed-request", // a nonce that has not 32 bytes is nobody's here
	"coco_query_and_plugin":        "malformed-request", // wrap-key, without a wrapped key
}

// recorded gives out the nonces and session ids that the recorded server gave out.
type recorded struct {
	nonces []nonce.Nonce
	ids    map[nonce.Nonce]string
	hashes map[nonce.Nonce]crypto.Hash
	now    func() time.Time
}

// newRecorded reads what the server of r gave out.
func newRecorded(r recording, now func() time.Time) *recorded {
	rec := &recorded{ids: map[nonce.Nonce]string{}, hashes: map[nonce.Nonce]crypto.Hash{}, now: now}
	for _, e := range r.Exchanges {
		if !strings.HasSuffix(e.Request.Target, "/auth") {
			continue
		}
		i := len(rec.nonces) + 1
		n := nonce.Nonce(sha256.Sum256(fmt.Appendf(nil, "wirefix nonce %d", i)))
		rec.nonces = append(rec.nonces, n)
		for _, h := range e.Response.Headers {
			if id, ok := strings.CutPrefix(h[1], "kbs-session-id="); ok && strings.EqualFold(h[0], "set-cookie") {
				rec.ids[n], _, _ = strings.Cut(id, ";")
			}
		}
		rec.hashes[n] = crypto.SHA384
		for name, hash := range map[string]crypto.Hash{`"sha256"`: crypto.SHA256, `"sha512"`: crypto.SHA512} {
			if strings.Contains(strings.ToLower(e.Response.Body), name) {
				rec.hashes[n] = hash
			}
		}
	}
	return rec
}

type recordedIssuer struct {
	*recorded
	given int
}

func (r *recordedIssuer) New(nonce.Profile) (nonce.Nonce, time.Time, error) {
	r.given++
	return r.nonces[r.given-1], r.now().Add(5 * time.Minute), nil
}

func (r *recordedIssuer) Open(_ nonce.Profile, n nonce.Nonce) (time.Time, error) {
	if !slices.Contains(r.nonces[:r.given], n) {
		return time.Time{}, nonce.Spent
	}
	return r.now().Add(5 * time.Minute), nil
}

// New and Open of the sessions: the hash is what the recorded server chose.
type recordedSessions struct{ *recorded }

func (r recordedSessions) New(n nonce.Nonce, _ kbs.Session) (string, error) {
	if id := r.ids[n]; id != "" {
		return id, nil
	}
	return fmt.Sprintf("%x", n[:16]), nil
}

func (r recordedSessions) Open(id string, n nonce.Nonce) (kbs.Session, bool) {
	want, _ := r.New(n, kbs.Session{})
	return kbs.Session{Hash: r.hashes[n]}, id != "" && id == want
}

// withVCEK answers with one more certificate where the simulated AMD has none.
type withVCEK struct {
	evidence.Source
	name string
	der  []byte
}

func (s withVCEK) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	if name == s.name {
		return []evidence.Collateral{{Data: s.der}}, nil
	}
	return s.Source.Get(ctx, name)
}

// The requests of real clients: what succeeds in their recordings succeeds here,
// down to the secret that their keys open, and what must not is refused with a
// body that they understand.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectors.Path(t, "wire/recordings"), "*.json"))
	if err != nil || len(files) != 72 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	served := 0
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		t.Run(name, func(t *testing.T) {
			var r recording
			vectors.JSON(t, "wire/recordings/"+filepath.Base(f), &r)
			secrets, refusals := replay(t, r)
			want, negative := negatives[name]
			switch {
			case negative && (len(refusals) == 0 || refusals[0] != want):
				t.Errorf("refused with %q, want %s", refusals, want)
			case !negative && len(refusals) > 0:
				t.Errorf("refused with %q", refusals)
			}
			if negative && secrets > 0 {
				t.Error("a secret went out")
			}
			served += secrets
		})
	}
	if served < 40 {
		t.Errorf("only %d secrets arrived", served)
	}
}

// replay sends the requests of r as they were recorded, and returns how many
// secrets its keys opened and the codes of what was refused.
func replay(t *testing.T, r recording) (secrets int, refusals []string) {
	w := newWorld(t, func(w *world, bc *teebroker.Config, hc *kbs.Config) {
		rec := newRecorded(r, func() time.Time { return w.now })
		bc.Issuer, hc.Sessions = &recordedIssuer{recorded: rec}, recordedSessions{rec}
		for _, h := range rec.hashes {
			hc.Hash = h
		}
		if r.VCEK != nil {
			verifiers := maps.Clone(bc.Verifier.(evidence.Verifiers))
			verifiers[snp.Format] = w.recordedVerifier(t, r)
			bc.Verifier = verifiers
		}
	})
	w.authorize(svsm, nonce.ProfileSVSM, "vtpm/state") // for the second guest of a recording
	for _, e := range r.Exchanges {
		var headers []string
		for _, h := range e.Request.Headers {
			headers = append(headers, h[0], h[1])
		}
		answer := w.send(e.Request.Method, e.Request.Target, e.Request.Body, headers...)
		switch {
		case answer.Code != http.StatusOK:
			refusals = append(refusals, understood(t, answer.Body.Bytes()))
		case e.Request.Method == http.MethodGet:
			if got := open(t, r, answer.Body.Bytes()); got != secret {
				t.Errorf("opened %q", got)
			}
			secrets++
		}
	}
	return secrets, refusals
}

// recordedVerifier verifies reports of the chip of r, whose VCEK the simulated
// AMD issues.
func (w *world) recordedVerifier(t *testing.T, r recording) evidence.Verifier {
	pub := parseKey(t, *r.VCEK).(*ecdsa.PrivateKey).PublicKey
	chip := snp.ChipID(sha512.Sum512([]byte("synthetic chip id")))
	tcb := snp.TCB{Line: snp.Milan, Bootloader: 4, Firmware: 24, Microcode: 220}
	der := w.amd.IssueVEK(&pub, snptest.VEK{TCB: tcb, Chip: chip})
	v, err := snp.NewVerifier(snp.Config{
		Anchors: w.amd.Anchors(snp.Milan), Time: func() time.Time { return w.now },
		Source: withVCEK{w.amd.Source(), snp.VCEKName(chip, tcb), der},
	})
	w.check(err)
	return v
}

// understood returns our code in a body that clients can read: both members of
// ErrorInformation are there.
func understood(t *testing.T, body []byte) string {
	t.Helper()
	var e struct{ Type, Detail, Code, Request *string }
	if err := json.Unmarshal(body, &e); err != nil || e.Type == nil || e.Detail == nil || e.Code == nil || e.Request == nil {
		t.Fatalf("not ErrorInformation: %q, %v", body, err)
	}
	if !strings.HasPrefix(*e.Type, "https://github.com/confidential-containers/kbs/errors/") || !strings.Contains(*e.Detail, *e.Request) {
		t.Errorf("ErrorInformation of another shape: %s", body)
	}
	return *e.Code
}

func parseKey(t *testing.T, key privateKey) any {
	t.Helper()
	block, _ := pem.Decode([]byte(key.PKCS8 + key.PKCS1))
	if block == nil {
		t.Fatal("no PEM")
	}
	parse := x509.ParsePKCS8PrivateKey
	if key.PKCS1 != "" {
		parse = func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) }
	}
	k, err := parse(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// open opens a JWE with whichever of the keys of r it is for. It also holds the
// protected header to the bytes that clients can work with.
func open(t *testing.T, r recording, body []byte) string {
	t.Helper()
	var jwe struct{ Protected string }
	if err := json.Unmarshal(body, &jwe); err != nil {
		t.Fatal(err)
	}
	header, err := base64.RawURLEncoding.DecodeString(jwe.Protected)
	if err != nil || !strings.HasPrefix(string(header), `{"alg":"`) {
		t.Errorf("header %s, %v", header, err)
	}
	var s keywrap.Sealed
	if err := s.UnmarshalJSON(body); err != nil {
		t.Fatal(err)
	}
	for _, k := range r.PrivateKeys {
		var o keywrap.Opener
		var err error
		switch k := parseKey(t, k).(type) {
		case *rsa.PrivateKey:
			o, err = keywrap.FromRSA(k)
		case *ecdsa.PrivateKey:
			e, fault := k.ECDH()
			if fault != nil {
				t.Fatal(fault)
			}
			o, err = keywrap.FromECDH(s.Suite(), e)
		}
		if err != nil {
			continue // of another suite
		}
		if b, err := o.Open(t.Context(), s, nil); err == nil {
			return string(b)
		}
	}
	t.Error("no key of the client opens it")
	return ""
}
