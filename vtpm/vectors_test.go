package vtpm_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// bytesOf are bytes in hexadecimal.
type bytesOf []byte

func (b *bytesOf) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// nothing is a source without revocation lists.
type nothing struct{}

func (nothing) Get(context.Context, string) ([]evidence.Collateral, error) {
	return nil, evidence.ErrNotFound
}

// genuineBlobs are blobs of Azure's paravisor, with the report in them.
func genuineBlobs() map[string]vtpm.Manifest {
	return map[string]vtpm.Manifest{"trustee-azvtpm-v0": vtpm.AzureHCL1, "trustee-azvtpm-genoa": vtpm.AzureHCL2}
}

// genuineVerifier trusts AMD, at a time at which the blobs' certificates are valid.
func genuineVerifier(t testing.TB) *snp.Verifier {
	t.Helper()
	v, err := snp.NewVerifier(snp.Config{
		Anchors: snp.AMD(), Source: nothing{}, SkipRevocationUnsafe: true,
		Time: func() time.Time { return time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Genuine blobs verify down to AMD's root: their report is of their runtime data,
// at VMPL 0. The quotes that went with them were not published, so the key that
// they name has nothing to sign here: that it is asked is in the next test.
func TestGenuineBlobs(t *testing.T) {
	for name, manifest := range genuineBlobs() {
		t.Run(name, func(t *testing.T) {
			a, err := vtpm.ParseHCL(vectors.Read(t, "snp/"+name+".hcl.bin"))
			if err != nil {
				t.Fatal(err)
			}
			if a.Manifest != manifest || a.UserData != [64]byte{} || a.EK == nil || !a.Flags["secure-boot"] || len(a.VMID) != 36 {
				t.Errorf("%s: user data %x, EK %v, flags %v, id %q", a.Manifest, a.UserData, a.EK, a.Flags, a.VMID)
			}
			v, err := vtpm.NewVerifier(vtpm.Config{Platform: genuineVerifier(t)})
			if err != nil {
				t.Fatal(err)
			}
			report := evidence.Evidence{
				Format: snp.Format, Raw: vectors.Read(t, "snp/"+name+".report.bin"),
				Items: []evidence.Item{{Type: snp.VEK, Data: vectors.Read(t, "snp/"+name+".vek.der")}},
			}
			got, below, err := v.VerifyHCL(t.Context(), vectors.Read(t, "snp/"+name+".hcl.bin"), report)
			if err != nil {
				t.Fatal(err)
			}
			if !got.AK.Equal(a.AK) || !below.Bound || below.Root == [32]byte{} {
				t.Error("another key, or not bound")
			}
			// One byte of the runtime data changed, in a place where JSON stays JSON.
			blob := vectors.Read(t, "snp/"+name+".hcl.bin")
			blob[strings.Index(string(blob), "secure-boot")] = 'S'
			_, _, err = v.VerifyHCL(t.Context(), blob, report)
			refusal(t, false, err, "platform", evidence.NotBound)
		})
	}
}

// A quote that others signed does not pass with a genuine blob.
func TestGenuineBlobForeignQuote(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	for name := range genuineBlobs() {
		ev := w.azure().Evidence(vtpmtest.Quote{}, want)
		ev = with(ev, vtpm.HCL, vectors.Read(t, "snp/"+name+".hcl.bin"))
		refused(t, w.newVerifier(t), ev, want, "signature", evidence.BadSignature)
	}
}

// svsmVectors are manifests, made by others than us.
func svsmVectors(t testing.TB) (single, all []svsmCase, ek bytesOf, name bytesOf) {
	var doc struct {
		EK struct {
			Public bytesOf `json:"tpm2b_public_hex"`
			Name   bytesOf `json:"name_hex"`
		}
		Cases []svsmCase
		All   struct{ Cases []svsmCase } `json:"all_services"`
	}
	vectors.JSON(t, "wire/vectors/svsm_vtpm.json", &doc)
	if len(doc.Cases) < 3 || len(doc.All.Cases) < 2 {
		t.Fatal("cases are missing")
	}
	return doc.Cases, doc.All.Cases, doc.EK.Public, doc.EK.Name
}

type svsmCase struct {
	Name     string
	Nonce    bytesOf            `json:"nonce_hex"`
	Manifest bytesOf            `json:"manifest_hex"`
	Data     bytesOf            `json:"report_data_hex"`
	Wrong    map[string]bytesOf `json:"wrong_digests_must_not_match"`
}

func TestSVSMVectors(t *testing.T) {
	single, all, ek, name := svsmVectors(t)
	for i, tt := range append(single, all...) {
		t.Run(tt.Name, func(t *testing.T) {
			got := vtpm.SVSMReportData([64]byte(tt.Nonce), tt.Manifest)
			if string(got[:]) != string(tt.Data) {
				t.Errorf("REPORT_DATA %x, want %x", got, tt.Data)
			}
			for how, wrong := range tt.Wrong {
				if string(got[:]) == string(wrong) {
					t.Errorf("REPORT_DATA is made as in %q", how)
				}
			}
			parse := vtpm.ParseManifest
			if i >= len(single) {
				parse = vtpm.ParseServices
			}
			p, err := parse(tt.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			if string(p.Marshal()) != string(ek) || string(p.Name) != string(name) {
				t.Errorf("EK %x with name %x", p.Marshal(), p.Name)
			}
		})
	}
}

func TestAgentIDVectors(t *testing.T) {
	var doc struct {
		Cases []struct {
			Name  string
			PEM   string  `json:"pem_spki"`
			TPM2B bytesOf `json:"tpm2b_public_hex"`
			ID    string  `json:"agent_id"`
			Wrong map[string]string
		}
	}
	vectors.JSON(t, "wire/vectors/keylime_hash_ek.json", &doc)
	if len(doc.Cases) < 3 {
		t.Fatal("cases are missing")
	}
	for _, tt := range doc.Cases {
		block, _ := pem.Decode([]byte(tt.PEM))
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := vtpm.AgentID(key); err != nil || id != tt.ID {
			t.Errorf("%s: %s, %v", tt.Name, id, err)
		}
		if tt.TPM2B == nil {
			continue
		}
		p, err := vtpm.ParsePublic(tt.TPM2B)
		if err != nil {
			t.Fatal(err)
		}
		if id, _ := vtpm.AgentID(p.Key); id != tt.ID {
			t.Errorf("%s: %s from the public area", tt.Name, id)
		}
	}
	if id, err := vtpm.AgentID(nil); err == nil {
		t.Errorf("no key has the id %s", id)
	}
}

// credentialVectors are blobs that others made, and the quote of one of the AKs.
type credentialVectors struct {
	Cases []struct {
		Name   string
		EKPEM  string  `json:"ek_pem"`
		EK     bytesOf `json:"ek_tpm2b_public_hex"`
		PKCS1  string  `json:"ek_private_pem_pkcs1"`
		PKCS8  string  `json:"ek_private_pem_pkcs8"`
		AKName bytesOf `json:"ak_name_hex"`
		AK     bytesOf `json:"ak_tpm2b_public_hex"`
		Secret bytesOf `json:"secret_hex"`
		Blob   bytesOf `json:"blob_hex"`
	}
	Quote struct {
		AK        bytesOf `json:"ak_tpm2b_public_hex"`
		Extra     bytesOf `json:"extra_data_hex"`
		Attest    bytesOf `json:"tpms_attest_hex"`
		Signature bytesOf `json:"tpmt_signature_hex"`
	}
}

// Blobs of others open with what opens ours, and ours are framed as theirs.
func TestCredentialVectors(t *testing.T) {
	var doc credentialVectors
	vectors.JSON(t, "wire/vectors/keylime_credential_blob.json", &doc)
	opened, made := 0, 0
	for _, tt := range doc.Cases {
		id, encrypted, err := vtpm.SplitCredential(tt.Blob)
		if err != nil {
			t.Fatalf("%s: %v", tt.Name, err)
		}
		if key := privateKey(t, tt.PKCS1, tt.PKCS8); key != nil {
			secret, err := vtpmtest.OpenCredential(key, vtpm.Name(tt.AKName), tt.Blob)
			if err != nil || string(secret) != string(tt.Secret) {
				t.Errorf("%s: %x, %v", tt.Name, secret, err)
			}
			opened++
		}
		if tt.EK == nil {
			continue
		}
		ek, err := vtpm.ParsePublic(tt.EK)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := vtpm.MakeCredential(ek, vtpm.Name(tt.AKName), tt.Secret)
		if err != nil {
			t.Fatal(err)
		}
		id2, encrypted2, err := vtpm.SplitCredential(ours)
		if err != nil || len(id2) != len(id) || len(encrypted2) != len(encrypted) || len(ours) != len(tt.Blob) {
			t.Errorf("%s: ours has %d and %d bytes, theirs %d and %d: %v", tt.Name, len(id2), len(encrypted2), len(id), len(encrypted), err)
		}
		if ak, err := vtpm.ParsePublic(tt.AK); err != nil || string(ak.Name) != string(tt.AKName) {
			t.Errorf("%s: the AK has the name %x, %v", tt.Name, ak.Name, err)
		}
		made++
	}
	if opened < 2 || made < 2 {
		t.Errorf("%d blobs opened, %d made", opened, made)
	}
}

func privateKey(t *testing.T, texts ...string) crypto.PrivateKey {
	t.Helper()
	for _, text := range texts {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			continue
		}
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	return nil
}

// A quote of swtpm, made by tpm2-tools, is parsed to what it was asked for.
func TestParseQuoteVector(t *testing.T) {
	var doc credentialVectors
	vectors.JSON(t, "wire/vectors/keylime_credential_blob.json", &doc)
	attest := doc.Quote.Attest
	raw := append([]byte{byte(len(attest) >> 8), byte(len(attest))}, attest...)
	q, err := vtpm.ParseQuote(append(raw, doc.Quote.Signature...))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(string(q.ExtraData) == string(doc.Quote.Extra), q.Selection, len(q.PCRDigest), q.Clock.Safe, q.Clock.ResetCount)
	if want := "true [{sha256 [0 1 7]}] 32 true 1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := vtpm.ParseQuote(raw); !errors.Is(err, evidence.Malformed) {
		t.Errorf("without a signature: %v", err)
	}
}
