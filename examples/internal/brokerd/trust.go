package brokerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/examples/internal/simulated"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/kbs"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/tdx"
)

// verifiers returns what decides whether evidence is genuine. With -trust-simulated
// a format is either simulated or genuine, never both.
func (o Options) verifiers() (evidence.Verifiers, [][32]byte, error) {
	var source evidence.Source = collateral.Fixed{}
	if o.Collateral != "" {
		folder := &folder{path: o.Collateral, now: time.Now}
		if err := folder.read(); err != nil {
			return nil, nil, fmt.Errorf("-collateral: %w", err)
		}
		source = folder
	}
	amd, err := snp.NewVerifier(snp.Config{Anchors: snp.AMD(), Source: source})
	if err != nil {
		return nil, nil, err
	}
	intel, err := tdx.NewVerifier(tdx.Config{Anchors: tdx.Intel(), Source: source})
	if err != nil {
		return nil, nil, err
	}
	all := evidence.Verifiers{snp.Format: amd, tdx.Format: intel}
	if o.TrustSimulated == "" {
		return all, nil, nil
	}
	t, err := simulated.Open(o.TrustSimulated)
	if err != nil {
		return nil, nil, fmt.Errorf("-trust-simulated: %w", err)
	}
	for format, v := range t.Verifiers {
		all[format] = v
	}
	if o.AllowSample {
		all[kbs.SampleFormat], all[kbs.SampleDeviceFormat] = kbs.Sample{}, kbs.Sample{}
		return all, append(t.Roots, kbs.SampleRoot()), nil
	}
	return all, t.Roots, nil
}

// reread is how old what was read of the folder may be.
const reread = 10 * time.Minute

// folder is a Source of the files in a folder, which is read again in a while.
type folder struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	files *collateral.Files
	at    time.Time
}

func (f *folder) read() error {
	files, err := collateral.Dir(f.path)
	if err != nil {
		return err
	}
	f.files, f.at = files, f.now()
	return nil
}

// Get implements [evidence.Source]. A folder that can't be read is as it was: what
// it had ends by itself.
func (f *folder) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	f.mu.Lock()
	if f.now().Sub(f.at) > reread {
		if err := f.read(); err != nil {
			f.at = f.now()
		}
	}
	files := f.files
	f.mu.Unlock()
	return files.Get(ctx, name)
}

// operatorPolicies stores the policies of a folder for every tenant, and has every
// instance that is registered name them. It returns their names.
func (o Options) operatorPolicies(ctx context.Context, d *database) ([]string, error) {
	if o.Policies == "" {
		return nil, nil
	}
	docs, err := readPolicies(o.Policies)
	if err != nil {
		return nil, fmt.Errorf("-policy: %w", err)
	}
	tenants, err := d.tenants(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, doc := range docs {
		names = append(names, doc.name)
		for _, tenant := range tenants {
			if err := d.PutPolicy(ctx, tenant, doc.name, doc.bytes); err != nil {
				return nil, fmt.Errorf("-policy: %s: %w", doc.name, err)
			}
		}
	}
	for _, tenant := range tenants {
		if err := adopt(ctx, d, tenant, names); err != nil {
			return nil, fmt.Errorf("-policy: tenant %s: %w", tenant, err)
		}
	}
	return names, nil
}

// adopt has every instance of tenant name policies first. What does already is not
// touched.
func adopt(ctx context.Context, owner store.Owner, tenant string, policies []string) error {
	ids, err := owner.Instances(ctx, tenant)
	if err != nil {
		return err
	}
	for _, id := range ids {
		st, err := owner.Status(ctx, tenant, id)
		if err != nil {
			return err
		}
		all := v1.WithOperator(policies, st.Registration.Policies)
		if slices.Equal(all, st.Registration.Policies) {
			continue
		}
		st.Registration.Policies = all
		if _, err := owner.Register(ctx, tenant, id, st.Registration); err != nil {
			return err
		}
	}
	return nil
}

type document struct {
	name  string
	bytes []byte
}

// readPolicies returns the documents in a folder by name, all of which are of scope
// global.
func readPolicies(dir string) ([]document, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var docs []document
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		b, err := cli.ReadFile(filepath.Join(dir, e.Name()), policy.MaxDocument)
		if err != nil {
			return nil, err
		}
		p, err := policy.Parse(b, Decoders())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if p.Scope != policy.Global {
			return nil, fmt.Errorf("%s: of scope %s, not global", e.Name(), p.Scope)
		}
		docs = append(docs, document{name, b})
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("%s: no policies NAME.json", dir)
	}
	return docs, nil
}
