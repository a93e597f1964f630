package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// world is one set of roots, as both verifiers want them, and what there is
// under these roots to choose from.
type world struct {
	name       string
	anchors    []snp.Anchors
	roots      map[string]*trust.ProductCerts
	revocation bool // whether there are lists
	pool       []*endorsement
	lists      []*lists // the first is as it should be; with no revocation it is empty

	newVerifier func(snp.Config) (evidence.Verifier, error)

	mu        sync.Mutex
	verifiers map[time.Time]evidence.Verifier
}

func newWorld(name string, anchors []snp.Anchors) (*world, error) {
	w := &world{
		name:        name,
		anchors:     anchors,
		roots:       map[string]*trust.ProductCerts{},
		lists:       []*lists{{name: "none"}},
		newVerifier: func(cfg snp.Config) (evidence.Verifier, error) { return snp.NewVerifier(cfg) },
		verifiers:   map[time.Time]evidence.Verifier{},
	}
	for _, a := range anchors {
		ark, err := x509.ParseCertificate(a.ARK)
		if err != nil {
			return nil, err
		}
		ask, err := x509.ParseCertificate(a.ASK)
		if err != nil {
			return nil, err
		}
		asvk, err := x509.ParseCertificate(a.ASVK)
		if err != nil {
			return nil, err
		}
		w.roots[a.Line.String()] = &trust.ProductCerts{Ark: ark, Ask: ask, Asvk: asvk}
	}
	return w, nil
}

// verifier returns our Verifier with its clock at an instant, of which there are
// few: it has to check its roots when it is made.
func (w *world) verifier(at time.Time) (evidence.Verifier, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.verifiers[at]; v != nil {
		return v, nil
	}
	v, err := w.newVerifier(snp.Config{
		Anchors:              w.anchors,
		Source:               source{},
		Time:                 func() time.Time { return at },
		SkipRevocationUnsafe: !w.revocation,
	})
	if err != nil {
		return nil, err
	}
	w.verifiers[at] = v
	return v, nil
}

// ours is our verdict on c. What is no proper verdict is an error that is no
// [evidence.Error].
func ours(c *testCase) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("we panic: %v", p)
		}
	}()
	v, err := c.base.world.verifier(c.at)
	if err != nil {
		return fmt.Errorf("no verifier: %s", err)
	}
	want := evidence.UncheckedBindingUnsafe()
	if c.want != nil {
		if want, err = evidence.NewBinding(c.want); err != nil {
			return err
		}
	}
	got, err := v.Verify(context.WithValue(context.Background(), listsKey{}, c.lists), evidence.Evidence{
		Format: snp.Format,
		Raw:    c.report,
		Items:  []evidence.Item{{Type: snp.CertTable, Data: c.table()}},
	}, want)
	if (got == nil) != (err != nil) {
		return fmt.Errorf("a result: %t, and an error: %s", got != nil, err)
	}
	return err
}

// theirs is the verdict of go-sev-guest on c.
func theirs(c *testCase) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panics: %v", p)
		}
	}()
	report, err := abi.ReportToProto(c.report)
	if err != nil {
		return err
	}
	table := new(abi.CertTable)
	if err := table.Unmarshal(c.table()); err != nil {
		return err
	}
	a := &spb.Attestation{Report: report, CertificateChain: table.Proto()}
	if err := verify.SnpAttestation(a, c.base.world.options(c)); err != nil {
		return err
	}
	return validate.SnpAttestation(a, demands(c))
}

// options returns how go-sev-guest is to verify c. Roots are new for each case:
// it keeps lists in them.
func (w *world) options(c *testCase) *verify.Options {
	roots := map[string][]*trust.AMDRootCerts{}
	for line, certs := range w.roots {
		roots[line] = []*trust.AMDRootCerts{{ProductLine: line, ProductCerts: certs}}
	}
	return &verify.Options{
		CheckRevocations:    w.revocation,
		DisableCertFetching: true,
		Getter:              c.lists,
		Now:                 c.at,
		TrustedRoots:        roots,
	}
}

// demands returns what go-sev-guest is to validate: what is no policy. All that
// a guest may allow and a platform may have is allowed, and nothing required but
// the report data.
func demands(c *testCase) *validate.Options {
	return &validate.Options{
		GuestPolicy:               abi.SnpPolicy{SMT: true, MigrateMA: true, Debug: true, CXLAllowed: true},
		PlatformInfo:              &abi.SnpPlatformInfo{SMTEnabled: true, TSMEEnabled: true, TIOEnabled: true},
		PermitProvisionalFirmware: true,
		ReportData:                c.want,
	}
}

// lists are the revocation lists that AMD publishes, one for each line, whatever
// kind of key is asked for.
type lists struct {
	name string
	der  map[snp.Line][]byte
}

const keyServer = "https://kdsintf.amd.com"

// Get implements [trust.HTTPSGetter].
func (l *lists) Get(url string) ([]byte, error) {
	for line, der := range l.der {
		for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
			if der != nil && strings.TrimPrefix(url, keyServer) == snp.CRLName(line, kind) {
				return der, nil
			}
		}
	}
	return nil, errors.New("nothing there")
}

type listsKey struct{}

// source has the lists that ctx has: a Verifier has one Source for all cases.
type source struct{}

// Get implements [evidence.Source].
func (source) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	der, err := ctx.Value(listsKey{}).(*lists).Get(name)
	if err != nil {
		return nil, evidence.ErrNotFound
	}
	return []evidence.Collateral{{Data: der}}, nil
}
