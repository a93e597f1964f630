package ear

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// latest is the last time that a token may expire, in seconds: the year 36812.
const latest = 1 << 40

// object is one object of the claims. That no member of it, or below, is there twice
// was seen with the whole.
type object map[string]json.RawMessage

// decoder reads members, and does nothing more once one was at fault.
type decoder struct {
	names spelling
	err   error
}

// decode returns what the claims of a token say.
func (r *Reader) decode(payload []byte) (*EAR, error) {
	var o object
	if err := strictjson.Unmarshal(payload, &o); err != nil {
		return nil, &Error{Reason: Malformed, Err: err}
	}
	var d decoder
	var e EAR
	d.need(o, "eat_profile", &e.Profile)
	if d.err != nil {
		return nil, d.err
	}
	if !slices.Contains(r.profiles, e.Profile) {
		return nil, &Error{Reason: OtherProfile, Member: "eat_profile"}
	}
	d.names, _ = e.Profile.spelling()
	d.ear(o, &e)
	if d.err != nil {
		return nil, d.err
	}
	return &e, nil
}

// ear reads everything but the profile.
func (d *decoder) ear(o object, e *EAR) {
	var issued, expires int64
	var subs map[string]object
	d.own(o)
	d.need(o, "iat", &issued)
	d.need(o, "exp", &expires)
	d.need(o, "aud", &e.Audience)
	d.need(o, d.names.verifier, &e.Verifier)
	d.need(o, d.names.status, &e.Status)
	d.need(o, "submods", &subs)
	e.Nonce = d.nonce(o)
	d.must(e.Verifier.Developer != "" && e.Verifier.Build != "", d.names.verifier)
	d.must(issued > 0, "iat")
	d.must(expires > issued && expires <= latest, "exp")
	d.must(len(subs) > 0, "submods")
	e.Issued, e.Expires = time.Unix(issued, 0).UTC(), time.Unix(expires, 0).UTC()
	for _, label := range slices.Sorted(maps.Keys(subs)) {
		s := Submodule{Label: label}
		d.submodule(subs[label], &s)
		e.Submodules = append(e.Submodules, s)
	}
}

// submodule reads all of s but its label.
func (d *decoder) submodule(o object, s *Submodule) {
	var key struct {
		AKPub strictjson.Base64 `json:"akpub"`
	}
	var evidence, runtime, reasons object
	d.own(o)
	d.need(o, d.names.status, &s.Status)
	d.need(o, d.names.vector, &s.Vector)
	s.Signed = d.nonce(o)
	d.policies(o, s)
	if d.may(o, d.names.key, &key) {
		d.must(len(key.AKPub) > 0, d.names.key)
		s.Key = key.AKPub
	}
	d.may(o, d.names.reasons, &reasons)
	d.may(reasons, d.names.reasonCodes, &s.Reasons)
	d.may(o, d.names.evidence, &evidence)
	d.may(evidence, d.names.runtime, &runtime)
	var members map[string]string // a public JWK has no others than of text
	if d.may(runtime, d.names.teeKey, &members) {
		d.must(len(members) > 0, d.names.teeKey)
		s.TEEKey = slices.Clone(runtime[d.names.teeKey])
	}
}

// policies reads the names of the policies.
func (d *decoder) policies(o object, s *Submodule) {
	there, ids := false, ""
	if d.names.listed {
		there = d.may(o, d.names.policies, &s.PolicyIDs)
	} else if there = d.may(o, d.names.policies, &ids); there {
		s.PolicyIDs = strings.Split(ids, " ")
	}
	d.must(there == (len(s.PolicyIDs) > 0) && !slices.Contains(s.PolicyIDs, ""), d.names.policies)
}

// nonce reads the nonce of o, or nil.
func (d *decoder) nonce(o object) []byte {
	var b strictjson.Base64
	if d.may(o, "eat_nonce", &b) {
		d.must(len(b) >= minNonce && len(b) <= maxNonce, "eat_nonce")
	}
	return b
}

// need decodes the member called name, which must be there.
func (d *decoder) need(o object, name string, v any) {
	if !d.may(o, name, v) && d.err == nil {
		d.err = &Error{Reason: Malformed, Member: name, Err: errors.New("missing")}
	}
}

// may decodes the member called name, and reports whether it is there.
func (d *decoder) may(o object, name string, v any) bool {
	b, ok := o[name]
	if !ok || d.err != nil {
		return false
	}
	if err := strictjson.Unmarshal(b, v); err != nil {
		d.err = &Error{Reason: Malformed, Member: name, Err: err}
	}
	return true
}

// must refuses the member called name unless it is ok.
func (d *decoder) must(ok bool, name string) {
	if !ok && d.err == nil {
		d.err = &Error{Reason: Malformed, Member: name, Err: errors.New("out of range")}
	}
}

// own refuses names of the other profile: whoever reads those would be told
// something else.
func (d *decoder) own(o object) {
	foreign := "ear."
	if strings.HasPrefix(d.names.status, foreign) {
		foreign = "ear_"
	}
	for name := range o {
		if strings.HasPrefix(strings.ToLower(name), foreign) && d.err == nil {
			d.err = &Error{Reason: Malformed, Err: errors.New("names of another profile")}
		}
	}
}
