package vtpm

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// DecodeReferenceValues decodes one object of a policy document, strictly.
// Members are called as the fields of [ReferenceValues], in snake_case:
// docs/policy-vtpm.md lists them with their types. Members left out of a complete
// object accept nothing and demand nothing; those left out of a partial one
// constrain nothing. A partial object is for a Policy that narrows another.
func DecodeReferenceValues(object []byte, partial bool) (ReferenceValues, error) {
	var rv ReferenceValues
	if partial {
		rv = unconstrained()
	}
	if _, err := refvalues.Object(object, rv.members()); err != nil {
		return ReferenceValues{}, fmt.Errorf("vtpm: reference values: %w", err)
	}
	return rv, nil
}

// unconstrained returns the ReferenceValues that accept every claim.
func unconstrained() ReferenceValues {
	return ReferenceValues{
		Links:          evidence.Anything[Link](),
		AllowNoTEE:     true,
		Manifests:      evidence.Anything[Manifest](),
		EKs:            evidence.Anything[[32]byte](),
		AKs:            evidence.Anything[[32]byte](),
		UserData:       evidence.Anything[[64]byte](),
		AllowOtherPCRs: true,
	}
}

// members returns the members of the object that is decoded into rv, one for
// each field.
func (rv *ReferenceValues) members() []refvalues.Member {
	return []refvalues.Member{
		{Name: "links", Decode: refvalues.Set(&rv.Links, linkOf)},
		{Name: "allow_no_tee", Decode: refvalues.Value(&rv.AllowNoTEE, refvalues.Plain)},
		{Name: "manifests", Decode: refvalues.Set(&rv.Manifests, manifestOf)},
		{Name: "eks", Decode: refvalues.Set(&rv.EKs, refvalues.Fixed)},
		{Name: "aks", Decode: refvalues.Set(&rv.AKs, refvalues.Fixed)},
		{Name: "user_data", Decode: refvalues.Set(&rv.UserData, refvalues.Fixed)},
		{Name: "pcrs", Decode: refvalues.List(&rv.PCRs, pcrRuleOf)},
		{Name: "allow_other_pcrs", Decode: refvalues.Value(&rv.AllowOtherPCRs, refvalues.Plain)},
		{Name: "events", Decode: refvalues.List(&rv.Events, eventRuleOf)},
		{Name: "ima", Decode: refvalues.Value(&rv.IMA, imaRulesOf)},
		{Name: "require_proof", Decode: refvalues.Value(&rv.RequireProof, refvalues.Plain)},
		{Name: "require_safe_clock", Decode: refvalues.Value(&rv.RequireSafeClock, refvalues.Plain)},
	}
}

// oneOf decodes one of names.
func oneOf[T ~string](raw json.RawMessage, names ...T) (T, error) {
	name, err := refvalues.Plain[string](raw)
	if err == nil && !slices.Contains(names, T(name)) {
		err = fmt.Errorf("unknown name %.40q", name)
	}
	if err != nil {
		return "", err
	}
	return T(name), nil
}

// linkOf decodes a Link, but not that of a check left out.
func linkOf(raw json.RawMessage) (Link, error) {
	return oneOf(raw, LinkAK, LinkEK, LinkCertificate)
}

func manifestOf(raw json.RawMessage) (Manifest, error) { return oneOf(raw, manifests()...) }

func bankOf(raw json.RawMessage) (Alg, error) { return refvalues.Named(raw, hashes()...) }

func indexOf(raw json.RawMessage) (int, error) {
	index, err := refvalues.Plain[uint8](raw)
	if err == nil && index >= pcrCount {
		err = fmt.Errorf("PCR %d, not 0 to %d", index, pcrCount-1)
	}
	return int(index), err
}

// pcrSetOf decodes a PCR and the Set that the member name has, of digests of its
// bank. All members must be there.
func pcrSetOf(raw json.RawMessage, name string) (p PCR, set evidence.Set[Octets], err error) {
	err = refvalues.Whole(raw, []refvalues.Member{
		{Name: "bank", Decode: refvalues.Value(&p.Bank, bankOf)},
		{Name: "index", Decode: refvalues.Value(&p.Index, indexOf)},
		{Name: name, Decode: func(raw json.RawMessage) error {
			return refvalues.Set(&set, func(raw json.RawMessage) (Octets, error) {
				b, err := refvalues.Octets(raw, p.Bank.size())
				return Octets(b), err
			})(raw)
		}},
	})
	return p, set, err
}

func pcrRuleOf(raw json.RawMessage) (PCRRule, error) {
	p, set, err := pcrSetOf(raw, "values")
	return PCRRule{p, set}, err
}

func eventRuleOf(raw json.RawMessage) (EventRule, error) {
	p, set, err := pcrSetOf(raw, "digests")
	return EventRule{p, set}, err
}

// imaRulesOf decodes IMARules, of which the files must be there.
func imaRulesOf(raw json.RawMessage) (*IMARules, error) {
	r := &IMARules{Files: map[string]evidence.Set[string]{}}
	has, err := refvalues.Object(raw, []refvalues.Member{
		{Name: "files", Decode: r.decodeFiles},
		{Name: "allow_violations", Decode: refvalues.Value(&r.AllowViolations, refvalues.Plain)},
		{Name: "allow_unchecked_boot_aggregate", Decode: refvalues.Value(&r.AllowUncheckedBootAggregate, refvalues.Plain)},
	})
	if err == nil && !has["files"] {
		err = errors.New("files is missing")
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *IMARules) decodeFiles(raw json.RawMessage) error {
	files, err := refvalues.Plain[map[string]json.RawMessage](raw)
	if err != nil {
		return err
	}
	for path, text := range files {
		if path == "" {
			return errors.New("an empty path")
		}
		var set evidence.Set[string]
		if err := refvalues.Set(&set, fileDigestOf)(text); err != nil {
			return fmt.Errorf("%.80q: %w", path, err)
		}
		r.Files[path] = set
	}
	return nil
}

// fileDigestOf decodes a digest as lists have it: the hash, a colon, hexadecimal.
func fileDigestOf(raw json.RawMessage) (string, error) {
	s, err := refvalues.Plain[string](raw)
	if err != nil {
		return "", err
	}
	algorithm, digits, _ := strings.Cut(s, ":")
	b, err := strictjson.ParseHex(digits)
	if err != nil || len(b) == 0 || len(b) != imaDigestSize([]byte(algorithm)) {
		return "", errors.New("not a digest such as sha256:9f86…")
	}
	return s, nil
}
