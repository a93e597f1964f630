package collateral_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// setFiles returns a set of a simulated Intel by file name, as Intel publishes it
// and as the genuine vectors are kept.
func setFiles(n *tdxtest.Intel) map[string][]byte {
	f := tdxtest.FMSPC(tdx.PlatformCA)
	s := n.Set(f)
	info, qe := s[tdx.TCBInfoName(f)][0], s[tdx.QEIdentityName()][0]
	return map[string][]byte{
		"tcb_info.json": info.Data, "tcb_info_chain.pem": info.Issuer,
		"qe_identity.json": qe.Data, "qe_identity_chain.pem": qe.Issuer,
		"pck_crl.der": s[tdx.PCKCRLName(tdx.PlatformCA)][0].Data, "root_ca_crl.der": s[tdx.RootCRLName()][0].Data,
	}
}

func simulatedIntel() *tdxtest.Intel {
	n := tdxtest.NewIntel()
	n.Time = func() time.Time { return now }
	return n
}

// A Verifier finds a whole set in a folder, in all the ways in which people have
// it, and says what it lacks.
func TestDirTDX(t *testing.T) {
	n := simulatedIntel()
	platform := n.Platform(tdx.PlatformCA)
	want, err := evidence.NewBinding([]byte("bound"))
	if err != nil {
		t.Fatal(err)
	}
	escaped := func(pem []byte) []byte { return []byte(url.PathEscape(string(pem))) }
	for _, tt := range []struct {
		name   string
		change func(files map[string][]byte)
		want   error
	}{
		{"as kept", func(map[string][]byte) {}, nil},
		{"one chain for both", func(f map[string][]byte) { delete(f, "qe_identity_chain.pem") }, nil},
		{"chain in another folder", func(f map[string][]byte) {
			f["x/y"] = f["tcb_info_chain.pem"]
			delete(f, "tcb_info_chain.pem")
			delete(f, "qe_identity_chain.pem")
		}, nil},
		{"chain escaped", func(f map[string][]byte) {
			f["tcb_info_chain.pem"] = escaped(f["tcb_info_chain.pem"])
			delete(f, "qe_identity_chain.pem")
		}, nil},
		{"chain in a header", func(f map[string][]byte) {
			f["headers"] = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nTCB-Info-Issuer-Chain: %s\r\nDate: today\r\n\r\n", escaped(f["tcb_info_chain.pem"]))
			delete(f, "tcb_info_chain.pem")
			delete(f, "qe_identity_chain.pem")
		}, nil},
		{"chain the other way round", func(f map[string][]byte) {
			text := f["tcb_info_chain.pem"]
			i := bytes.LastIndex(text, []byte("-----BEGIN"))
			f["tcb_info_chain.pem"] = append(bytes.Clone(text[i:]), text[:i]...)
			delete(f, "qe_identity_chain.pem")
		}, nil},
		{"lists in hexadecimal", func(f map[string][]byte) {
			f["pck_crl.der"] = fmt.Appendf(nil, "%X", f["pck_crl.der"])
			f["root_ca_crl.der"] = fmt.Appendf(nil, "%x\n", f["root_ca_crl.der"])
		}, nil},
		{"lists in PEM", func(f map[string][]byte) {
			f["pck_crl.der"] = append(inPEM("X509 CRL", f["pck_crl.der"]), inPEM("X509 CRL", f["root_ca_crl.der"])...)
			delete(f, "root_ca_crl.der")
		}, nil},
		{"another Intel beside", func(f map[string][]byte) {
			for name, data := range setFiles(simulatedIntel()) {
				f["other/"+name] = data
			}
		}, nil},
		{"no chain", func(f map[string][]byte) {
			delete(f, "tcb_info_chain.pem")
			delete(f, "qe_identity_chain.pem")
		}, evidence.Unavailable},
		{"no TCB Info", func(f map[string][]byte) { delete(f, "tcb_info.json") }, evidence.Unavailable},
		{"no QE identity", func(f map[string][]byte) { delete(f, "qe_identity.json") }, evidence.Unavailable},
		{"no PCK CRL", func(f map[string][]byte) { delete(f, "pck_crl.der") }, evidence.Unavailable},
		{"no root CRL", func(f map[string][]byte) { delete(f, "root_ca_crl.der") }, evidence.Unavailable},
		{"TCB Info changed", func(f map[string][]byte) {
			f["tcb_info.json"] = bytes.Replace(f["tcb_info.json"], []byte(`"UpToDate"`), []byte(`"OutOfDate"`), 1)
		}, evidence.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := setFiles(n)
			tt.change(files)
			v, err := tdx.NewVerifier(tdx.Config{Anchors: n.Anchors(), Source: open(t, write(t, files)), Time: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Verify(t.Context(), platform.Quote(tdxtest.TD{}, want), want); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// What is given as files apart belongs together as well as in a folder.
func TestDirOfSeveralPaths(t *testing.T) {
	var paths []string
	for name, data := range setFiles(simulatedIntel()) {
		paths = append(paths, filepath.Join(write(t, map[string][]byte{name: data}), name))
	}
	f, err := collateral.Dir(paths...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Get(t.Context(), tdx.QEIdentityName())
	if err != nil || len(got) != 1 || len(got[0].Issuer) == 0 {
		t.Errorf("%d identities, %v", len(got), err)
	}
	if _, err := collateral.Dir(append(paths, filepath.Join(t.TempDir(), "none"))...); err == nil {
		t.Error("a path that is not there is passed over")
	}
	if f, err := collateral.Dir(); err != nil || f == nil {
		t.Errorf("no paths: %v", err)
	}
}

// Of several sets the one issued last comes first, each with the chain that signed it.
func TestDirTDXNewestFirst(t *testing.T) {
	n := simulatedIntel()
	files := map[string][]byte{}
	for name, age := range map[string]int{"a": 2, "b": 0, "c": 1} {
		n.Time = func() time.Time { return now.AddDate(0, 0, -age) }
		for file, data := range setFiles(n) {
			files[name+"/"+file] = data
		}
	}
	f := open(t, write(t, files))
	for _, name := range []string{tdx.TCBInfoName(tdxtest.FMSPC(tdx.PlatformCA)), tdx.QEIdentityName()} {
		got, err := f.Get(t.Context(), name)
		if err != nil || len(got) != 3 {
			t.Fatalf("%s: %d, %v", name, len(got), err)
		}
		for i, c := range got {
			if want := now.AddDate(0, 0, -i-1); !tdx.IssuedAt(c.Data).Equal(want) || len(c.Issuer) == 0 {
				t.Errorf("%s: %d is of %v, want %v", name, i, tdx.IssuedAt(c.Data), want)
			}
		}
	}
}

// The sets of genuine collateral answer to their names, with the chains beside them.
func TestDirTDXVectors(t *testing.T) {
	f := open(t, vectors.Path(t, "tdx/collateral"))
	for path, names := range f.All() {
		if want := !strings.HasSuffix(path, "_chain.pem"); want != (len(names) == 1) {
			t.Errorf("%s answers to %q", path, names)
		}
	}
	got, err := f.Get(t.Context(), tdx.QEIdentityName())
	if err != nil || len(got) < 4 {
		t.Fatalf("%d QE identities, %v", len(got), err)
	}
	for _, c := range got {
		if len(c.Issuer) == 0 {
			t.Errorf("no chain for the identity of %v", tdx.IssuedAt(c.Data))
		}
	}
}

func TestDirManyIssuers(t *testing.T) {
	files := map[string][]byte{}
	for i := range 33 { // signer and root of each
		chain := simulatedIntel().Sign(tdxtest.MemberTCBInfo, []byte("{}")).Issuer
		files[fmt.Sprint(i)] = chain
	}
	dir := write(t, files)
	if _, err := collateral.Dir(dir); err == nil {
		t.Error("66 certificates of issuers are accepted")
	}
	if err := os.Remove(filepath.Join(dir, "0")); err != nil {
		t.Fatal(err)
	}
	if _, err := collateral.Dir(dir); err != nil {
		t.Error(err)
	}
}
