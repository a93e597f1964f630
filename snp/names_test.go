package snp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
)

func TestNames(t *testing.T) {
	chip := snp.ChipID{0xAB, 1, 2, 3, 4, 5, 6, 7, 8}
	genoa := snp.TCB{Line: snp.Genoa, Bootloader: 10, Firmware: 27, Microcode: 255}
	turin := snp.TCB{Line: snp.Turin, FMC: 1, Bootloader: 2, TEE: 3, Firmware: 4, Microcode: 81}
	for _, c := range []struct{ got, want string }{
		{snp.VCEKName(chip, genoa), "/vcek/v1/Genoa/ab0102030405060708" + strings.Repeat("00", 55) + "?blSPL=10&teeSPL=0&snpSPL=27&ucodeSPL=255"},
		{snp.VCEKName(chip, turin), "/vcek/v1/Turin/ab01020304050607?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=81"},
		{snp.VLEKName(genoa), "/vlek/v1/Genoa/cert?blSPL=10&teeSPL=0&snpSPL=27&ucodeSPL=255"},
		{snp.CRLName(snp.Milan, snp.VCEK), "/vcek/v1/Milan/crl"},
		{snp.CRLName(snp.Turin, snp.VLEK), "/vlek/v1/Turin/crl"},
		{snp.VCEKName(chip, snp.TCB{}), ""},
		{snp.VLEKName(snp.TCB{}), ""},
		{snp.CRLName(0, snp.VCEK), ""},
		{snp.CRLName(snp.Milan, 0), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestNamesOfGenuineVEKs(t *testing.T) {
	for _, g := range genuineReports(t) {
		r, err := snp.ParseReport(g.report(t))
		if err != nil {
			t.Fatal(err)
		}
		want := snp.VCEKName(r.ChipID(), tcbOf(t, g))
		if g.Signer == "VLEK" {
			want = snp.VLEKName(tcbOf(t, g))
		}
		if got := snp.NamesOf(g.vek(t)); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v, want %s", g.Name, got, want)
		}
		if got := snp.NamesOf(g.vek(t)[1:]); got != nil {
			t.Errorf("%s: a part of a certificate has names: %v", g.Name, got)
		}
	}
	for _, a := range snp.AMD() {
		if got := snp.NamesOf(a.ASK); got != nil {
			t.Errorf("an ASK has names: %v", got)
		}
	}
}

func TestNamesOfLists(t *testing.T) {
	got := snp.NamesOf(forgedCRL(t, snp.Genoa))
	if want := []string{"/vcek/v1/Genoa/crl", "/vlek/v1/Genoa/crl"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for claim, der := range map[string][]byte{
		"nothing":                    nil,
		"garbage":                    []byte("x"),
		"more than 1 MiB":            append(forgedCRL(t, snp.Genoa), make([]byte, 1<<20)...),
		"a certificate of no VEK":    snp.AMD()[0].ARK,
		"a VCEK without its profile": notAVEK(t),
	} {
		if got := snp.NamesOf(der); got != nil {
			t.Errorf("%s: %v", claim, got)
		}
	}
}

// notAVEK returns a certificate in the name of an ASK that is of no VEK.
func notAVEK(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ask := *parseCertificate(t, snp.AMD()[0].ASK)
	ask.PublicKey = &key.PublicKey
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &ask, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestTableVEKs(t *testing.T) {
	got, err := snp.TableVEKs(vectors.Read(t, "snp/veraison-tsm-vcek.auxblob.bin"))
	if err != nil || len(got) != 1 || !bytes.Equal(got[0], genuineReport(t, "veraison-tsm-vcek").vek(t)) {
		t.Errorf("%d VEKs, %v", len(got), err)
	}
	if got, err := snp.TableVEKs(certTable()); err != nil || len(got) != 0 {
		t.Errorf("a table without entries: %d VEKs, %v", len(got), err)
	}
	for claim, table := range map[string][]byte{
		"nothing":       nil,
		"a certificate": genuineReport(t, "lunal-genoa-v5").vek(t),
		"broken PEM":    certTable(entry{vcekGUID, []byte("-----BEGIN ")}),
	} {
		if got, err := snp.TableVEKs(table); err == nil || got != nil {
			t.Errorf("%s: %d VEKs", claim, len(got))
		}
	}
}
