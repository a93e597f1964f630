package ear

import (
	"crypto/ecdh"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
)

// maxReasons is how many reasons a submodule gives at most.
const maxReasons = 64

// nothing is the label of the submodule that stands for no evidence at all.
const nothing = "evidence"

// judge returns a submodule for each evidence of r and each layer below it.
func (i *Issuer) judge(r Result) ([]Submodule, error) {
	if r.Refused != nil {
		v := failed(r.Refused.Reason)
		return []Submodule{{Label: i.label(0, formatName(r.Refused.Format), 0), Status: min(v.Tier(), None), Vector: v, Reasons: []string{string(r.Refused.Reason)}}}, nil
	}
	ids, err := policyIDs(r.Appraisal)
	if err != nil {
		return nil, err
	}
	rows := table()
	ms := slices.Collect(r.Appraisal.Mismatches())
	var subs subjects
	earlier := map[evidence.Format]int{}
	for n, v := range r.Appraisal.Verified() {
		if v != nil {
			subs = subs.add(i.label(n, string(v.Format), earlier[v.Format]), v)
			earlier[v.Format]++
		}
	}
	if len(subs) == 0 {
		subs = subjects{{label: i.label(0, nothing, 0)}}
	}
	var out []Submodule
	for _, s := range subs {
		sub := s.judge(rows, subs.about(s, ms), r.Appraisal.Accepted())
		sub.PolicyIDs = ids
		out = append(out, sub)
	}
	if r.Appraisal.Accepted() && r.Key.Suite() != "" {
		if err := i.attest(&out[0], r.Key); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// label returns the label of the nth evidence, which is of this format like others
// before it.
func (i *Issuer) label(n int, format string, earlier int) string {
	switch {
	case i.cfg.Profile == KBS:
		return fmt.Sprintf("cpu%d", n)
	case earlier == 0:
		return format
	}
	return fmt.Sprintf("%s.%d", format, earlier)
}

// formatName returns f, which may be what a stranger wrote, or the label of nothing.
func formatName(f evidence.Format) string {
	ok := f != "" && len(f) <= 32
	for _, c := range f {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return nothing
	}
	return string(f)
}

// subjects are verified evidence with labels, layers included.
type subjects []subject

type subject struct {
	label string
	v     *evidence.Verified // nil for no evidence
}

// add adds v and the layers below it.
func (ss subjects) add(label string, v *evidence.Verified) subjects {
	ss = append(ss, subject{label, v})
	for n, l := range v.Layers {
		if l != nil {
			ss = ss.add(fmt.Sprintf("%s.layer%d", label, n), l)
		}
	}
	return ss
}

// about returns those of ms that are about s: claims of its format, and claims of
// which no evidence has the format, which are about all.
func (ss subjects) about(s subject, ms []evidence.Mismatch) (out []evidence.Mismatch) {
	for _, m := range ms {
		if s.family(m) || !slices.ContainsFunc(ss, func(o subject) bool { return o.family(m) }) {
			out = append(out, m)
		}
	}
	return out
}

// family reports whether m is on a claim of the format of s: "snp.vmpl" is of
// "snp-report".
func (s subject) family(m evidence.Mismatch) bool {
	if s.v == nil {
		return false
	}
	tee, _, _ := strings.Cut(string(s.v.Format), "-")
	prefix, _, dotted := strings.Cut(m.Claim, ".")
	return dotted && tee == prefix
}

// judge returns what is said of s, of which ms was refused.
func (s subject) judge(rows []row, ms []evidence.Mismatch, accepted bool) Submodule {
	out := Submodule{Label: s.label}
	best := None
	if s.v != nil {
		out.Vector = affirmed(s.v, accepted)
		out.Signed = s.v.Signed
		if accepted && s.v.Bound && len(s.v.Skipped) == 0 {
			best = Affirming
		}
		if s.v.Claims != nil {
			for name, value := range s.v.Claims.All() {
				out.Vector.observe(rows, name, value)
			}
		}
	} else {
		out.Vector.lower(Configuration, unsupportable)
	}
	for _, m := range ms {
		out.Vector.refused(rows, m.Claim)
		if !slices.Contains(out.Reasons, m.Claim) && len(out.Reasons) < maxReasons {
			out.Reasons = append(out.Reasons, m.Claim)
		}
	}
	out.Status = min(out.Vector.Tier(), best)
	return out
}

// attest says that evidence was bound to key.
func (i *Issuer) attest(s *Submodule, key keywrap.Recipient) error {
	var err error
	if s.Key, err = publicKeyInfo(key); err != nil {
		return err
	}
	if i.cfg.Profile != KBS {
		return nil
	}
	if s.TEEKey = key.JWK(); s.TEEKey == nil {
		return fmt.Errorf("ear: a key of suite %s has no JWK", key.Suite())
	}
	return nil
}

// publicKeyInfo returns the SubjectPublicKeyInfo of key.
func publicKeyInfo(key keywrap.Recipient) ([]byte, error) {
	var pub any
	var err error
	switch b := key.Bytes(); key.Suite() {
	case keywrap.P256, keywrap.JWEP256:
		pub, err = ecdh.P256().NewPublicKey(b)
	case keywrap.P384, keywrap.JWEP384:
		pub, err = ecdh.P384().NewPublicKey(b)
	case keywrap.JWEP521:
		pub, err = ecdh.P521().NewPublicKey(b)
	case keywrap.X25519:
		pub, err = ecdh.X25519().NewPublicKey(b)
	case keywrap.JWERSA:
		pub, err = x509.ParsePKCS1PublicKey(b)
	default:
		err = errors.New("no SubjectPublicKeyInfo")
	}
	if err != nil {
		return nil, fmt.Errorf("ear: a key of suite %s: %w", key.Suite(), err)
	}
	return x509.MarshalPKIXPublicKey(pub)
}
