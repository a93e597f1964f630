package ear_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"testing"

	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

var errRemoved = errors.New("removed")

// broken is a token that was removed.
type broken struct{ *ecdsa.PrivateKey }

func (broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errRemoved }

// Whatever was refused, and of how much evidence: nothing of it affirms, something
// says so, and no key is attested.
func TestUnacceptedNeverAffirms(t *testing.T) {
	formats := []evidence.Format{"snp-report", "tdx-quote", "cca-token", "vtpm-quote", "other"}
	names := []string{"format", "policy", "scope", "evidence", "bound", "layer.bound", "skipped", "", ".", "other.claim", "snpx", "unknown"}
	for _, page := range []string{"claims.md", "claims-tdx.md", "claims-cca.md"} {
		b, err := os.ReadFile("../docs/" + page)
		check(t, err)
		for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\|").FindAllStringSubmatch(string(b), -1) {
			names = append(names, m[1])
		}
	}
	if len(names) < 150 {
		t.Fatalf("%d claims", len(names))
	}
	recipient, _ := jweKey(t)
	random := rand.New(rand.NewPCG(1, 2))
	for _, profile := range profiles() {
		p := newPair(t, profile, elliptic.P256())
		refuted := func(what string, a policy.Appraisal) {
			t.Helper()
			if a.Accepted() {
				t.Fatalf("%s: accepted", what)
			}
			r := result(a)
			r.Key = recipient
			e := p.read(r)
			if e.Status > ear.Warning {
				t.Errorf("%s: %v", what, e.Status)
			}
			for _, s := range e.Submodules {
				if s.Status == ear.Affirming || s.Key != nil || s.TEEKey != nil {
					t.Errorf("%s: %+v", what, s)
				}
			}
		}
		refuted("zero", policy.Appraisal{})
		for _, name := range names {
			refuted(name, appraise([]*evidence.Verified{verified("snp-report")}, name))
		}
		for range 200 {
			var got []*evidence.Verified
			for range random.IntN(4) {
				v := verified(formats[random.IntN(len(formats))])
				switch random.IntN(6) {
				case 0:
					v.Bound = false
				case 1:
					v.Skipped = []string{"revocation"}
				case 2:
					v.Layers = []*evidence.Verified{verified(formats[random.IntN(len(formats))]), nil}
				case 3:
					v.Claims = nil
				case 4:
					v = nil
				}
				got = append(got, v)
			}
			refuse := []string{names[random.IntN(len(names))], names[random.IntN(len(names))]}
			if a := appraise(got, refuse[:random.IntN(3)]...); !a.Accepted() {
				refuted(refuse[0]+" "+refuse[1], a)
			}
		}
	}
}

// What a policy refuses is about the evidence whose format the claim is of; what is
// of no evidence's format is about all.
func TestWhoIsRefused(t *testing.T) {
	snp, cca := verified("snp-report"), verified("cca-token")
	p := newPair(t, ear.Draft03, elliptic.P256())
	status := func(a policy.Appraisal) (got []ear.Tier) {
		for _, s := range p.read(result(a)).Submodules {
			got = append(got, s.Status)
		}
		return got // cca-token before snp-report
	}
	for claim, want := range map[string][2]ear.Tier{
		"cca.rim":          {ear.Warning, ear.None},
		"cca.debug":        {ear.Contraindicated, ear.None},
		"snp.vmpl":         {ear.None, ear.Contraindicated},
		"tdx.mrtd":         {ear.Warning, ear.Warning},
		"snpx.measurement": {ear.Contraindicated, ear.Contraindicated},
		"snp":              {ear.Contraindicated, ear.Contraindicated},
	} {
		if got := status(appraise([]*evidence.Verified{snp, cca}, claim)); len(got) != 2 || [2]ear.Tier(got) != want {
			t.Errorf("%s: %v, want %v", claim, got, want)
		}
	}
}

// What evidence shows of a guest that its host may look into, or of a platform with
// holes, no policy makes good.
func TestObserved(t *testing.T) {
	for _, profile := range profiles() {
		p := newPair(t, profile, elliptic.P256())
		for _, tt := range []struct {
			format evidence.Format
			claim  claim
			want   ear.Tier
		}{
			{"snp-report", claim{"snp.policy.debug", evidence.Bool(true)}, ear.Contraindicated},
			{"snp-report", claim{"snp.policy.debug", evidence.Bool(false)}, ear.Affirming},
			{"snp-report", claim{"snp.policy.smt", evidence.Bool(true)}, ear.Affirming},
			{"tdx-quote", claim{"tdx.td_attributes.debug", evidence.Bool(true)}, ear.Contraindicated},
			{"tdx-quote", claim{"tdx.td_attributes.hgs_plus_prof", evidence.Bool(true)}, ear.Contraindicated},
			{"tdx-quote", claim{"tdx.td_attributes.perf_prof", evidence.Bool(true)}, ear.Contraindicated},
			{"tdx-quote", claim{"tdx.td_attributes.pmt_prof", evidence.Bool(true)}, ear.Contraindicated},
			{"tdx-quote", claim{"tdx.tcb.status", evidence.Text("UpToDate")}, ear.Affirming},
			{"tdx-quote", claim{"tdx.tcb.status", evidence.Text("OutOfDate")}, ear.Warning},
			{"tdx-quote", claim{"tdx.tcb.status", evidence.Text("a status of the future")}, ear.Warning},
			{"tdx-quote", claim{"tdx.tcb.status", evidence.Text("Revoked")}, ear.Contraindicated},
			{"cca-token", claim{"cca.debug", evidence.Bool(true)}, ear.Contraindicated},
			{"cca-token", claim{"cca.debug", evidence.Bool(false)}, ear.Affirming},
		} {
			a := appraise([]*evidence.Verified{verified(tt.format, tt.claim)})
			if !a.Accepted() {
				t.Fatal(a.Err())
			}
			if e := p.read(result(a)); e.Status != tt.want || e.Submodules[0].Status != tt.want {
				t.Errorf("%s %v: %v, want %v", tt.claim.name, tt.claim.value, e.Status, tt.want)
			}
		}
	}
}

// Where a check was left out, and a policy allows that, nobody says whose evidence
// it is, and the result does not affirm.
func TestSkipped(t *testing.T) {
	v := verified("snp-report")
	v.Skipped = []string{"revocation"}
	pol := &policy.Policy{Name: "t", Version: "1", Document: []byte("d"), Require: map[evidence.Format]policy.Rule{v.Format: rule{}}, AllowSkipped: []string{"revocation"}}
	a := policy.Appraise([]*evidence.Verified{v}, pol)
	if !a.Accepted() {
		t.Fatal(a.Err())
	}
	e := newPair(t, ear.Draft03, elliptic.P256()).read(result(a))
	if e.Status != ear.None || e.Submodules[0].Vector[ear.InstanceIdentity] != 0 {
		t.Errorf("%+v", e)
	}
}

// Layers are submodules of their own.
func TestLayers(t *testing.T) {
	v, below := verified("vtpm-quote"), verified("snp-report", claim{"snp.policy.debug", evidence.Bool(true)})
	v.Layers = []*evidence.Verified{below}
	for profile, label := range map[ear.Profile]string{ear.Draft03: "vtpm-quote", ear.KBS: "cpu0"} {
		e := newPair(t, profile, elliptic.P256()).read(result(appraise([]*evidence.Verified{v})))
		if len(e.Submodules) != 2 || e.Submodules[0].Label != label || e.Submodules[1].Label != label+".layer0" {
			t.Fatalf("%+v", e.Submodules)
		}
		if e.Submodules[0].Status != ear.Affirming || e.Submodules[1].Status != ear.Contraindicated || e.Status != ear.Contraindicated {
			t.Errorf("%+v", e)
		}
	}
}

// Evidence of one format twice has two labels.
func TestLabels(t *testing.T) {
	v := verified("snp-report")
	e := newPair(t, ear.Draft03, elliptic.P256()).read(result(appraise([]*evidence.Verified{v, v, verified("cca-token")})))
	var labels []string
	for _, s := range e.Submodules {
		labels = append(labels, s.Label)
	}
	if got := len(labels); got != 3 || labels[0] != "cca-token" || labels[1] != "snp-report" || labels[2] != "snp-report.1" {
		t.Errorf("%v", labels)
	}
}
