package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
)

// What a [Registration] may have at most.
const (
	MaxImage    = 128 // bytes
	MaxPolicies = 16
	MaxClaims   = 16
	MaxProfiles = 256 // purposes that Profiles names
)

// PolicyName reports whether s can name a document: 1 to 64 of [a-z0-9._-].
func PolicyName(s string) bool { return names.Purpose(s) && !strings.Contains(s, "/") }

// Check returns an error that wraps [Invalid] if r can't be meant. That the
// policies exist, it can't know.
func (r Registration) Check() error {
	for _, check := range []func() error{r.checkPolicies, r.checkSuites, r.checkProfiles, r.Launch.check} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", Invalid, err)
		}
	}
	if len(r.Image) > MaxImage || strings.ContainsFunc(r.Image, func(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar }) {
		return fmt.Errorf("%w: image is too long or not plain text", Invalid)
	}
	return nil
}

func (r Registration) checkPolicies() error {
	if len(r.Policies) == 0 || len(r.Policies) > MaxPolicies {
		return fmt.Errorf("%d policies, want 1 to %d", len(r.Policies), MaxPolicies)
	}
	for i, name := range r.Policies {
		switch {
		case !PolicyName(name):
			return fmt.Errorf("%.80q can't name a policy", name)
		case slices.Contains(r.Policies[:i], name):
			return fmt.Errorf("policy %s is named twice", name)
		}
	}
	return nil
}

func (r Registration) checkSuites() error {
	known := []keywrap.Suite{
		keywrap.MLKEM768X25519, keywrap.P384, keywrap.P256, keywrap.X25519, keywrap.JWEP256, keywrap.JWEP384,
		keywrap.JWEP521, keywrap.JWERSA, keywrap.MLKEM1024P384,
	}
	if len(r.Suites) == 0 {
		return errors.New("no suites, so that no guest could be answered")
	}
	for i, s := range r.Suites {
		switch {
		case !slices.Contains(known, s):
			return fmt.Errorf("%.80q is not a suite", s)
		case slices.Contains(r.Suites[:i], s):
			return fmt.Errorf("suite %s is named twice", s)
		}
	}
	rsa := slices.Contains(r.Suites, keywrap.JWERSA)
	if rsa && (r.MinRSABits < 2048 || r.MinRSABits > 4096) || !rsa && r.MinRSABits != 0 {
		return fmt.Errorf("min_rsa_bits goes with %s, and is 2048 to 4096", keywrap.JWERSA)
	}
	return nil
}

func (r Registration) checkProfiles() error {
	if len(r.Profiles) > MaxProfiles {
		return fmt.Errorf("profiles of more than %d purposes", MaxProfiles)
	}
	for _, purpose := range slices.Sorted(maps.Keys(r.Profiles)) {
		if !names.Registrable(purpose) {
			return fmt.Errorf("%.80q is not a purpose", purpose)
		}
		ps := r.Profiles[purpose]
		if err := checkReleasing(ps); err != nil {
			return fmt.Errorf("profiles of %s: %w", purpose, err)
		}
	}
	return nil
}

// checkReleasing returns an error unless ps are profiles that something is
// released by, at least one, each once.
func checkReleasing(ps []nonce.Profile) error {
	if len(ps) == 0 {
		return errors.New("none")
	}
	for i, p := range ps {
		switch {
		case p != nonce.ProfileV1 && p != nonce.ProfileSVSM && p != nonce.ProfileCoCo && p != nonce.ProfileVTPM:
			return fmt.Errorf("%.80q is not a profile of releases", p)
		case slices.Contains(ps[:i], p):
			return fmt.Errorf("%s is named twice", p)
		}
	}
	return nil
}

func (l Launch) check() error {
	if len(l.Claims) > MaxClaims {
		return fmt.Errorf("more than %d launch claims", MaxClaims)
	}
	for i, c := range l.Claims {
		switch {
		case !names.Purpose(c.Name):
			return fmt.Errorf("%.80q can't name a launch claim", c.Name)
		case len(c.Want) > 64 || zero(c.Want):
			return fmt.Errorf("launch claim %s is empty, zero or longer than 64 bytes", c.Name)
		case slices.ContainsFunc(l.Claims[:i], func(d Claim) bool { return c.Name == d.Name && bytes.Equal(c.Want, d.Want) }):
			return fmt.Errorf("launch claim %s is named twice", c.Name)
		}
	}
	return nil
}

// zero reports whether b has no byte that is not zero.
func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// OwnClaims are the launch claims that [Launch.Own] stands for.
func OwnClaims(tenant string, id [16]byte) []Claim {
	own := teebroker.LaunchID(tenant, id)
	padded := func(n int) []byte { return append(own[:], make([]byte, n-len(own))...) }
	return []Claim{
		{Name: "snp.host_data", Want: padded(32)},
		{Name: "tdx.mrconfigid", Want: padded(48)},
		{Name: "cca.rpv", Want: padded(64)},
	}
}

// OwnValue returns the launch identity that c shows if it is one of
// [OwnClaims], of whichever instance.
func (c Claim) OwnValue() ([32]byte, bool) {
	sizes := map[string]int{"snp.host_data": 32, "tdx.mrconfigid": 48, "cca.rpv": 64}
	n, ok := sizes[c.Name]
	if !ok || len(c.Want) != n || !zero(c.Want[32:]) {
		return [32]byte{}, false
	}
	return [32]byte(c.Want), true
}

// Instance returns what r makes of an instance, under policies, which are the
// documents that r names, in its order. Blobs are left to the caller.
func (r Registration) Instance(tenant string, id [16]byte, generation uint64, policies []*policy.Policy) teebroker.Instance {
	inst := teebroker.Instance{
		Tenant: tenant, ID: id, Image: r.Image, Generation: generation, Policies: policies,
		Suites: keywrap.Allow{Suites: r.Suites, MinRSABits: r.MinRSABits}, Profiles: r.Profiles,
		AllowUnpinnedBroker: r.AllowUnpinnedBroker, AllowSharedLaunchIdentity: r.AllowSharedLaunchIdentity,
		AllowEphemeralVTPM: r.AllowEphemeralVTPM,
		Owner:              r.OwnerKey,
	}
	claims := r.Launch.Claims
	if r.Launch.Own {
		claims = append(OwnClaims(tenant, id), claims...)
	}
	var launch policy.Any
	for _, c := range claims {
		launch = append(launch, teebroker.LaunchClaim{Name: c.Name, Want: bytes.Clone(c.Want)})
	}
	if launch != nil { // a nil Any in an interface would not be nil
		inst.Launch = launch
	}
	return inst.Clone()
}

// Clone returns a copy of r that shares no memory with it.
func (r Registration) Clone() Registration {
	r.Policies, r.Suites = slices.Clone(r.Policies), slices.Clone(r.Suites)
	r.Launch.Claims = slices.Clone(r.Launch.Claims)
	for i, c := range r.Launch.Claims {
		r.Launch.Claims[i].Want = bytes.Clone(c.Want)
	}
	r.Profiles = maps.Clone(r.Profiles)
	for purpose, ps := range r.Profiles {
		r.Profiles[purpose] = slices.Clone(ps)
	}
	return r
}
