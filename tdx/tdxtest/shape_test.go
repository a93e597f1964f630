package tdxtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"reflect"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// clock is the time of every test here.
var clock = time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)

// intel is the vendor of every test here.
var intel = &Intel{Time: func() time.Time { return clock }}

// sets are the genuine sets of collateral.
var sets = []string{"dcapqvl_2025_06_b0c06f", "dcapqvl_2026_02_90c06f", "gtg_2023_06_50806f", "gtgv5_2026_02_90c06f", "qpl_2023_02_00806f"}

// quotes are the genuine quotes.
var quotes = []string{"dcapqvl_outdated_v5", "dcapqvl_sample_v4", "dstack_quote_report_v4", "gtg_cos113_gcp_v4", "gtg_sample_v5", "qpl_blob_v4", "trustee_quote4_v4_debug"}

// chain returns the certificates of a genuine chain in PEM.
func chain(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	var cs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	return cs
}

// withKey gives a the public key of c, and its time.
func (h *hierarchy) withKey(a Authority, c *x509.Certificate) {
	h.keys[a] = &ecdsa.PrivateKey{PublicKey: *c.PublicKey.(*ecdsa.PublicKey)}
	h.from = c.NotBefore
}

// For the key and the time of a genuine certificate, we sign the same bytes that
// Intel signed. There is no genuine Processor CA at hand.
func TestCertificatesAreIntels(t *testing.T) {
	for _, set := range sets {
		for a, name := range map[Authority]string{PlatformCA: "pck_crl_chain.pem", TCBSigning: "tcb_info_chain.pem"} {
			cs := chain(t, vectors.Read(t, "tdx/collateral/"+set+"/"+name))
			for i, a := range []Authority{a, Root} {
				h := &hierarchy{}
				h.withKey(Root, cs[1])
				h.withKey(a, cs[i])
				c := h.certificate(a)
				c.NotAfter = cs[i].NotAfter
				if !bytes.Equal(c.tbs(), cs[i].RawTBSCertificate) {
					t.Errorf("%s: another certificate of %s", set, a.commonName())
				}
			}
		}
	}
}

// The same for PCK certificates and what they claim.
func TestPCKCertificatesAreIntels(t *testing.T) {
	for _, name := range quotes {
		t.Run(name, func(t *testing.T) {
			raw := vectors.Read(t, "tdx/quotes/"+name+".bin")
			cs := chain(t, raw[bytes.Index(raw, []byte("-----BEGIN")):])
			claims := genuine(t, raw, cs[0].NotAfter)
			h := &hierarchy{}
			h.withKey(PlatformCA, cs[1])
			h.from = cs[0].NotBefore
			c := h.pckCertificate(claims.PCK, cs[0].PublicKey.(*ecdsa.PublicKey))
			c.NotAfter = cs[0].NotAfter
			// One was issued before version 4 of the PCS.
			want := bytes.Replace(cs[0].RawTBSCertificate, []byte("/certification/v3/"), []byte("/certification/v4/"), 1)
			if !bytes.Equal(c.tbs(), want) {
				t.Error("another certificate")
			}
		})
	}
}

// genuine returns the claims of a genuine quote, collateral aside.
func genuine(t *testing.T, raw []byte, now time.Time) *tdx.Claims {
	t.Helper()
	v, err := tdx.NewVerifier(tdx.Config{
		Anchors: tdx.Intel(), Source: Set{}, Time: func() time.Time { return now },
		SkipRevocationUnsafe: true, SkipTCBUnsafe: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, evidence.UncheckedBindingUnsafe())
	if err != nil {
		t.Fatal(err)
	}
	claims, _ := tdx.ClaimsOf(got)
	return claims
}

// For the claims of a genuine quote we sign the same bytes, but for the name of
// the platform.
func TestQuotesAreIntels(t *testing.T) {
	for _, name := range quotes {
		t.Run(name, func(t *testing.T) {
			raw := vectors.Read(t, "tdx/quotes/"+name+".bin")
			q := genuine(t, raw, chain(t, raw[bytes.Index(raw, []byte("-----BEGIN")):])[0].NotAfter)
			p := intel.Platform(tdx.PlatformCA)
			p.MRSEAM, p.Launched = q.MRSEAM(), q.TEETCBSVN()
			p.Running, _ = q.TEETCBSVN2()
			td := TD{
				Version: q.Version(), Body: q.BodyType(), Attributes: q.Attributes(), XFAM: q.XFAM(), MRTD: q.MRTD(),
				MRConfigID: q.MRConfigID(), MROwner: q.MROwner(), OwnerConfig: q.MROwnerConfig(), RTMRs: q.RTMRs(),
			}
			td.MRServiceTD, _ = q.MRServiceTD()
			data := q.ReportData()
			bound, err := evidence.NewBinding(data[:])
			if err != nil {
				bound = evidence.UncheckedBindingUnsafe() // zeros
			}
			signed := p.layOut(td, bound)
			user := q.UserData()
			copy(signed[abi.UserData:], user[:])
			if !bytes.HasPrefix(raw, signed) {
				t.Error("another quote")
			}
		})
	}
}

// Genuine documents come out as they went in: no member is missing or spelled
// otherwise.
func TestDocumentsAreIntels(t *testing.T) {
	for _, set := range sets {
		var info TCBInfo
		var id QEIdentity
		for _, d := range []struct {
			file, member string
			into         any
			again        func() []byte
		}{
			{"tcb_info.json", MemberTCBInfo, &info, func() []byte { return info.JSON() }},
			{"qe_identity.json", MemberQEIdentity, &id, func() []byte { return id.JSON() }},
		} {
			var outer map[string]json.RawMessage
			vectors.JSON(t, "tdx/collateral/"+set+"/"+d.file, &outer)
			if err := json.Unmarshal(outer[d.member], d.into); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(d.again(), outer[d.member]) {
				t.Errorf("%s/%s is another:\n%s", set, d.file, d.again())
			}
		}
	}
}

// What is published is what Intel published of one platform.
func TestPublishedIsIntels(t *testing.T) {
	var outer struct {
		Info TCBInfo    `json:"tcbInfo"`
		ID   QEIdentity `json:"enclaveIdentity"`
	}
	set := "tdx/collateral/dcapqvl_2026_02_90c06f/"
	vectors.JSON(t, set+"tcb_info.json", &outer)
	vectors.JSON(t, set+"qe_identity.json", &outer)
	info, id := intel.TCBInfo(FMSPC(tdx.PlatformCA)), intel.QEIdentity()
	id.Issued, id.NextUpdate = outer.ID.Issued, outer.ID.NextUpdate
	info.Issued, info.NextUpdate = outer.Info.Issued, outer.Info.NextUpdate
	outer.Info.Levels = outer.Info.Levels[:2]             // of three
	outer.Info.Modules[1].Levels = info.Modules[1].Levels // of three
	outer.Info.Levels[1].Advisories = info.Levels[1].Advisories
	if !reflect.DeepEqual(info, outer.Info) {
		t.Errorf("TCB Info is\n%s, want\n%s", info.JSON(), outer.Info.JSON())
	}
	if !reflect.DeepEqual(id, outer.ID) {
		t.Errorf("QE identity is\n%s, want\n%s", id.JSON(), outer.ID.JSON())
	}
}

func TestListsAreIntels(t *testing.T) {
	for _, set := range sets {
		for by, name := range map[Authority]string{PlatformCA: "pck_crl", Root: "root_ca_crl"} {
			if by == Root && set == "qpl_2023_02_00806f" {
				continue // has none
			}
			issuers := chain(t, vectors.Read(t, "tdx/collateral/"+set+"/pck_crl_chain.pem"))
			list, err := x509.ParseRevocationList(vectors.Read(t, "tdx/collateral/"+set+"/"+name+".der"))
			if err != nil {
				t.Fatal(err)
			}
			c := CRL{By: by, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate}
			for _, e := range list.RevokedCertificateEntries {
				c.Revoked = append(c.Revoked, e.SerialNumber)
			}
			issuer := issuers[0]
			if by == Root {
				issuer = issuers[1]
			}
			if made := der.Encode(c.list(issuer.SubjectKeyId)); !bytes.Equal(made, list.RawTBSRevocationList) {
				t.Errorf("%s/%s is another list", set, name)
			}
		}
	}
}
