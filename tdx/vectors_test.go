package tdx_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
)

// genuine is a quote of the shared vectors.
type genuine struct {
	Name       string
	File       string
	Version    uint16         `json:"quote_version"`
	BodyType   tdx.BodyType   `json:"body_type"`
	FMSPC      string         `json:"fmspc"`
	SVN        string         `json:"tee_tcb_svn"`
	SVN2       string         `json:"tee_tcb_svn_2"`
	Attributes string         `json:"td_attributes"`
	XFAM       string         `json:"xfam"`
	MRSEAM     string         `json:"mrseam"`
	PCKSVN     [16]uint8      `json:"pck_svn"`
	PCESVN     uint16         `json:"pcesvn"`
	QESVN      uint16         `json:"qe_isvsvn"`
	Collateral []expectations `json:"collateral"`
}

// expectations are what a set of collateral makes of a quote.
type expectations struct {
	Set      string
	Complete bool
	UseTime  time.Time `json:"use_time"`
	From     time.Time `json:"valid_from"`
	Until    time.Time `json:"valid_until"`
	Expected struct {
		Platform   string
		Date       *time.Time `json:"platform_tcb_date"`
		Advisories []string
		Module     string `json:"tdx_module"`
		QE         string
		Final      string
	}
}

// genuineQuotes returns the quotes of the manifest.
func genuineQuotes(t testing.TB) []genuine {
	t.Helper()
	var manifest struct{ Quotes []genuine }
	vectors.JSON(t, "tdx/manifest.json", &manifest)
	if len(manifest.Quotes) < 7 {
		t.Fatalf("only %d genuine quotes in the manifest", len(manifest.Quotes))
	}
	return manifest.Quotes
}

// genuineQuote returns the quote called name.
func genuineQuote(t testing.TB, name string) genuine {
	t.Helper()
	for _, g := range genuineQuotes(t) {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no vector %s", name)
	return genuine{}
}

func (g genuine) raw(t testing.TB) []byte { return vectors.Read(t, "tdx/"+g.File) }

// with returns what the set makes of g.
func (g genuine) with(t testing.TB, set string) expectations {
	t.Helper()
	for _, e := range g.Collateral {
		if e.Set == set {
			return e
		}
	}
	t.Fatalf("no set %s for %s", set, g.Name)
	return expectations{}
}

// hasSet reports whether the files of a set are at hand: the manifest names more
// sets than there are folders.
func hasSet(t testing.TB, set string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(vectors.Path(t, "tdx/collateral"), set))
	return err == nil
}

// files is a Source of what a test names.
type files map[string][]evidence.Collateral

func (f files) Get(_ context.Context, name string) ([]evidence.Collateral, error) {
	if c := f[name]; c != nil {
		return c, nil
	}
	return nil, evidence.ErrNotFound
}

// genuineSet returns a set of collateral of the shared vectors. What it does not
// have is left out.
func genuineSet(t testing.TB, set string, fmspc tdx.FMSPC) files {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(vectors.Path(t, "tdx/collateral"), set, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return b
	}
	f := files{}
	for _, c := range []struct{ name, data, issuer string }{
		{tdx.TCBInfoName(fmspc), "tcb_info.json", "tcb_info_chain.pem"},
		{tdx.QEIdentityName(), "qe_identity.json", "qe_identity_chain.pem"},
		{tdx.PCKCRLName(tdx.PlatformCA), "pck_crl.der", "pck_crl_chain.pem"},
		{tdx.RootCRLName(), "root_ca_crl.der", ""},
	} {
		data := read(c.data)
		if data == nil {
			continue
		}
		var issuer []byte
		if c.issuer != "" {
			issuer = read(c.issuer)
		}
		f[c.name] = []evidence.Collateral{{Data: data, Issuer: issuer}}
	}
	return f
}
