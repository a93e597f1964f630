package tdx_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// certificatesOf returns those in text.
func certificatesOf(t *testing.T, text []byte) (certs []*x509.Certificate) {
	t.Helper()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs
}

// A document finds its chain among others, and only one that signed it.
func TestTCBIssuers(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	intel, other := tdxtest.NewIntel(), tdxtest.NewIntel()
	intel.Time = func() time.Time { return now }
	other.Time = intel.Time
	info, qe := intel.SignTCBInfo(intel.TCBInfo(tdx.FMSPC{1})), intel.SignQEIdentity(intel.QEIdentity())
	old := intel.QEIdentity()
	old.Issued = now.AddDate(-2, 0, 0) // before the signer was valid
	own, strangers := certificatesOf(t, info.Issuer), certificatesOf(t, other.Sign(tdxtest.MemberTCBInfo, []byte("{}")).Issuer)
	for _, c := range slices.Concat(own, strangers) {
		if !tdx.IsTCBIssuer(c) {
			t.Errorf("%s is of no chain", c.Subject)
		}
	}
	reversed := slices.Clone(own)
	slices.Reverse(reversed)
	for _, tt := range []struct {
		name  string
		data  []byte
		certs []*x509.Certificate
		want  int
	}{
		{"TCB Info", info.Data, own, 1},
		{"QE identity", qe.Data, own, 1},
		{"among others", qe.Data, slices.Concat(strangers, reversed), 1},
		{"of another Intel", qe.Data, strangers, 0},
		{"signer alone", qe.Data, own[:1], 0},
		{"root alone", qe.Data, own[1:], 0},
		{"root of another", qe.Data, []*x509.Certificate{own[0], strangers[1]}, 0},
		{"changed after signing", bytes.Replace(qe.Data, []byte("UpToDate"), []byte("OutOfDate"), 1), own, 0},
		{"issued before the signer was valid", intel.SignQEIdentity(old).Data, own, 0},
		{"a list", intel.SignCRL(tdxtest.CRL{}).Data, own, 0},
		{"nothing", nil, own, 0},
		{"no certificates", qe.Data, nil, 0},
		{"no end of them", qe.Data, append(slices.Repeat(own[:1], 40), own[1]), 16},
	} {
		chains := tdx.TCBIssuers(tt.data, tt.certs)
		if len(chains) != tt.want {
			t.Errorf("%s: %d chains, want %d", tt.name, len(chains), tt.want)
		}
		for _, c := range chains {
			if !bytes.Equal(c, info.Issuer) {
				t.Errorf("%s: the chain is\n%s", tt.name, c)
			}
		}
	}
}

func TestIssuedAt(t *testing.T) {
	intel := tdxtest.NewIntel()
	i, q := intel.TCBInfo(tdx.FMSPC{1}), intel.QEIdentity()
	for _, tt := range []struct {
		name string
		c    evidence.Collateral
		want time.Time
	}{
		{"TCB Info", intel.SignTCBInfo(i), i.Issued},
		{"QE identity", intel.SignQEIdentity(q), q.Issued},
		{"a list", intel.SignCRL(tdxtest.CRL{}), time.Time{}},
		{"nothing", evidence.Collateral{}, time.Time{}},
	} {
		if got := tdx.IssuedAt(tt.c.Data); !got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
