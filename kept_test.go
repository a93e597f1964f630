package teebroker

import (
	"bytes"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// Whatever is read back as a Request is what would be kept of it.
func FuzzDecodeKept(f *testing.F) {
	key, err := keywrap.Generate(keywrap.JWEP256)
	if err != nil {
		f.Fatal(err)
	}
	a := Attestation{p: presented{req: Request{
		Profile: nonce.ProfileCoCo, Tenant: "acme", Recipient: key.Recipient(), CoCo: &CoCo{AdditionalEvidence: "x"},
		Evidence: []evidence.Evidence{{Format: "snp-report", Raw: []byte{1}, Layers: []evidence.Evidence{{Items: []evidence.Item{{Type: "t"}}}}}},
	}}}
	a.p = a.p.clone()
	good, err := a.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"v":1,"evidence":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, notAfter, err := decodeKept(b)
		if err != nil {
			return
		}
		again := Attestation{p: presented{req: req}, notAfter: notAfter}
		again.p = again.p.clone()
		one, err := again.encode()
		if err != nil {
			return // a year that JSON can't say
		}
		req, notAfter, err = decodeKept(one)
		if err != nil {
			t.Fatalf("%s: %v", one, err)
		}
		again = Attestation{p: presented{req: req}, notAfter: notAfter}
		again.p = again.p.clone()
		if two, err := again.encode(); err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s\n%s\n%v", one, two, err)
		}
	})
}
