package v1_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/teebroker/teebroker/owner"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// A client certificate is a tenant's by its key.
func TestClientCertificates(t *testing.T) {
	o := newOwned(t, nil)
	mine, stranger := certificate(t), certificate(t)
	o.check(o.sql.AddTenant(t.Context(), "acme", v1.CertificateDigest(mine.Leaf.RawSubjectPublicKeyInfo)))
	ts := httptest.NewUnstartedServer(o.server)
	ts.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	ts.StartTLS()
	t.Cleanup(ts.Close)
	for name, tt := range map[string]struct {
		cert  *tls.Certificate
		token string
		want  string
	}{
		"its certificate":                   {mine, "", ""},
		"its certificate and token":         {mine, acmeToken, ""},
		"no certificate":                    {nil, "", "unauthenticated"},
		"a certificate of nobody":           {stranger, "", "unauthenticated"},
		"a certificate of nobody and token": {stranger, acmeToken, "unauthenticated"},
		"a certificate and another's token": {mine, otherToken, "unauthenticated"},
	} {
		pool := x509.NewCertPool()
		pool.AddCert(ts.Certificate())
		config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
		if tt.cert != nil {
			config.Certificates = []tls.Certificate{*tt.cert}
		}
		c, err := v1.NewClient(v1.ClientConfig{URL: ts.URL, Token: tt.token, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: config}}})
		o.check(err)
		if _, err := c.Policies(t.Context()); code(err) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// certificate returns a self-signed certificate of a new key.
func certificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "owner"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A blob that the owner wrapped to the keys document is what the guest gets, before
// and after it was wrapped anew.
func TestBlobs(t *testing.T) {
	o := newOwned(t, nil)
	o.provision()
	keys, err := o.acme.Keys(t.Context(), "acme")
	o.check(err)
	w, err := owner.Wrap(owner.Blob{
		Keys: keys, Broker: o.broker.ID(), Time: o.time(), Tenant: "acme", Instance: instance, Purpose: "disk",
	}, []byte("wrapped secret"))
	o.check(err)
	o.check(o.acme.PutBlob(t.Context(), instance, "disk", w, true))
	get := func() string {
		t.Helper()
		o.authorize()
		c, s := o.client(nil), o.session()
		r, err := c.Release(t.Context(), o.request(s, c))
		o.check(err)
		secret, err := s.Open(t.Context(), r)
		o.check(err)
		return string(secret)
	}
	if got := get(); got != "wrapped secret" {
		t.Errorf("%q", got)
	}
	o.pass(2 * time.Hour) // and there is another key to wrap to
	again, err := o.acme.Rewrap(t.Context(), instance, "disk", nil)
	o.check(err)
	i, err := o.acme.Instance(t.Context(), instance)
	if err != nil || i.Blobs["disk"] != again.Digest() || again.Digest() == w.Digest() {
		t.Errorf("%v, %v", i.Blobs, err)
	}
	if got := get(); got != "wrapped secret" {
		t.Errorf("%q", got)
	}
	if _, err := o.acme.Rewrap(t.Context(), instance, "disk", mustJSON(t, w)); code(err) != "foreign-blob" {
		t.Errorf("the old blob: %v", err)
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Another policy is judged by the evidence of the last releases, and not stored.
func TestExplain(t *testing.T) {
	o := newOwned(t, nil)
	o.provision()
	if e, err := o.acme.Explain(t.Context(), "prod", document("prod", "bad")); err != nil || e.Changed != 0 || len(e.Unjudged) != 1 {
		t.Errorf("before a release: %+v, %v", e, err)
	}
	c := o.client(nil)
	body := o.request(o.session(), c)
	for range 2 { // the answer to a retry is the same release
		_, err := c.Release(t.Context(), body)
		o.check(err)
	}
	e, err := o.acme.Explain(t.Context(), "prod", document("prod", "good"))
	if err != nil || e.Changed != 0 || len(e.Results) != 1 || !e.Results[0].Before || !e.Results[0].After {
		t.Errorf("the same: %+v, %v", e, err)
	}
	e, err = o.acme.Explain(t.Context(), "prod", document("prod", "bad"))
	o.check(err)
	if e.Changed != 1 || len(e.Results) != 1 || len(e.Unjudged) != 0 {
		t.Fatalf("%+v", e)
	}
	x := e.Results[0]
	if x.Instance != instance || x.Purpose != "disk" || !x.Before || x.After || len(x.Mismatches) != 1 ||
		x.Mismatches[0].Claim != "snp.measurement" || string(x.Mismatches[0].Got) != `"good"` || string(x.Mismatches[0].Want) != `"bad"` {
		t.Errorf("%+v", x)
	}
	if doc, err := o.acme.Policy(t.Context(), "prod"); err != nil || !bytes.Equal(doc, document("prod", "good")) {
		t.Errorf("%s, %v", doc, err)
	}
	if e, err := o.acme.Explain(t.Context(), "unused", document("unused", "bad")); err != nil || len(e.Results) != 0 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := o.acme.Explain(t.Context(), "prod", []byte(`{}`)); code(err) != "malformed-request" {
		t.Error(err)
	}
	if _, err := o.owner(otherToken).Explain(t.Context(), "prod", document("prod", "bad")); err != nil {
		t.Error(err)
	}
	// Of each instance the last two are kept.
	for range 3 {
		o.authorize()
		_, err := c.Release(t.Context(), o.request(o.session(), c))
		o.check(err)
	}
	if e, err := o.acme.Explain(t.Context(), "prod", document("prod", "bad")); err != nil || len(e.Results) != 2 {
		t.Errorf("%d results, %v", len(e.Results), err)
	}
}
