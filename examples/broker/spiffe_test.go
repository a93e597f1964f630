package main

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// A guest gets its identity as it gets a secret, and others verify it with the bundle,
// also after the broker was started again. A broker without a trust domain has none.
func TestSPIFFE(t *testing.T) {
	const id = "7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"
	p := newPrograms(t)
	suggested, stop := p.serve("-trust-simulated", sim)
	if out, status := p.sh("set -e\n" + script(suggested)); status != 0 {
		t.Fatalf("%d\n%s", status, out)
	}
	asks := func(suggested string) (authorize, svid, broker string) {
		for line := range strings.Lines(strings.ReplaceAll(script(suggested), "\\\n", "")) {
			switch {
			case strings.Contains(line, "export"):
				authorize = strings.TrimSpace(line) + "; owner authorize -instance " + id + " -purpose "
			case strings.Contains(line, "release"):
				svid = strings.Replace(strings.ReplaceAll(strings.TrimSpace(line), "-purpose disk", ""), "attester release", "attester svid -key key.pem", 1)
			}
		}
		return authorize, svid, brokerURL.FindStringSubmatch(authorize)[1]
	}
	authorize, svid, _ := asks(suggested)
	p.must(authorize+"spiffe/x509", 0, "OPEN")
	p.must(svid+" -out svid.pem", 1, "denied")
	stop()

	suggested, stop = p.serve("-trust-simulated", sim, "-spiffe-trust-domain", "example.org", "-spiffe-life", "10m")
	authorize, svid, _ = asks(suggested)
	p.must(svid+" -out svid.pem", 0, "spiffe://example.org/default/"+id) // the authorization is there already
	p.must(svid+" -out svid.pem", 1, "denied")                           // and used
	p.must(svid+" -audience db -out token", 1, "denied")                 // and for the other purpose
	p.must(authorize+"spiffe/jwt && "+svid+" -audience db -out token -json", 0, `"purpose": "spiffe/jwt"`)
	p.must("test $(stat -c %a key.pem) = 600", 0, "")
	stop()

	suggested, stop = p.serve("-trust-simulated", sim, "-spiffe-trust-domain", "example.org")
	_, _, broker := asks(suggested)
	resp, err := http.Get(broker + "/broker/v1/spiffe/bundle")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	bundle, err := spiffebundle.Read(spiffeid.RequireTrustDomainFromString("example.org"), resp.Body)
	if err != nil || len(bundle.X509Authorities()) != 1 {
		t.Fatalf("%v, %v", resp.Status, err)
	}
	block, _ := pem.Decode(p.read("svid.pem"))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := x509svid.Verify([]*x509.Certificate{leaf}, bundle); err != nil || got.String() != "spiffe://example.org/default/"+id {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := jwtsvid.ParseAndValidate(string(p.read("token")), bundle, []string{"db"}); err != nil || got.ID.String() != "spiffe://example.org/default/"+id {
		t.Errorf("%v, %v", got, err)
	}
	checkLog(t, p, stop())
	p.must("broker audit -simulated", 0, "whole")
	p.must("broker serve -listen 127.0.0.1:0 -trust-simulated "+sim+" -spiffe-trust-domain Example/x", 2, "-spiffe-trust-domain")
	p.must("broker serve -listen 127.0.0.1:0 -trust-simulated "+sim+" -spiffe-trust-domain example.org -spiffe-life 48h", 2, "-spiffe-life")
}

func (p *programs) read(name string) []byte {
	p.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.Fatal(err)
	}
	return b
}
