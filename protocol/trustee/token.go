package trustee

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/delegated"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// maxClaims is how many claims a service may make of one Evidence.
const maxClaims = 512

// annotated is the member that has what the service found in the evidence.
const annotated = "ear.veraison.annotated-evidence"

// token is what is taken from a token of a service.
type token struct {
	claims     delegated.Claims
	reportData []byte // as the service found it
	expires    time.Time
}

// parseToken reads the token for evidence of tee: a JWT in the form of an EAR with one
// submodule, "cpu0". Who signed it is not looked at: it came by TLS from who is believed.
func parseToken(b []byte, tee string) (*token, error) {
	parts := strings.Split(strings.TrimSpace(string(b)), ".")
	if len(parts) != 3 {
		return nil, errors.New("not a JWT")
	}
	payload, err := b64(parts[1])
	if err != nil {
		return nil, errors.New("payload is not base64url")
	}
	var body struct {
		Expires *uint64                    `json:"exp"`
		Submods map[string]json.RawMessage `json:"submods"`
	}
	if err := strictjson.UnmarshalKnown(payload, &body); err != nil {
		return nil, err
	}
	if body.Expires == nil || *body.Expires > 1<<40 {
		return nil, errors.New("no exp")
	}
	if len(body.Submods) != 1 || body.Submods["cpu0"] == nil {
		return nil, errors.New("not one submodule cpu0")
	}
	t := &token{expires: time.Unix(int64(*body.Expires), 0)}
	if err := t.submodule(body.Submods["cpu0"], tee); err != nil {
		return nil, err
	}
	return t, nil
}

// submodule reads what the service says of the one evidence.
func (t *token) submodule(raw json.RawMessage, tee string) error {
	members, err := strictjson.Members(raw)
	if err != nil {
		return err
	}
	if status, err := word(members["ear.status"]); err == nil {
		t.claims = append(t.claims, delegated.Claim{Name: tee + ".status", Value: evidence.Text(status)})
	}
	if err := authentic(members[vector]); err != nil {
		return err
	}
	found, err := strictjson.Members(members[annotated])
	if err != nil {
		return fmt.Errorf("%s: %w", annotated, err)
	}
	if found[tee] == nil || string(found[tee]) == "null" {
		return fmt.Errorf("nothing about evidence of %s", tee)
	}
	text, err := word(found["report_data"])
	if err != nil {
		return fmt.Errorf("report_data: %w", err)
	}
	if t.reportData, err = hex.DecodeString(text); err != nil || len(t.reportData) == 0 {
		return errors.New("report_data is not hexadecimal")
	}
	return t.flatten(tee, found[tee], 0)
}

// vector is the member that has the trustworthiness vector.
const vector = "ear.trustworthiness-vector"

// What any claim of a trustworthiness vector may be, AR4SI section 2.3.2, and then is
// not about what a policy makes of genuine evidence.
const (
	malfunction = -1 // of the verifier
	notGenuine  = 99 // cryptographic validation failed
)

// authentic returns an error if the vector says that nobody vouches for the evidence. A
// token need not have one.
func authentic(raw []byte) error {
	if raw == nil {
		return nil
	}
	var values map[string]int64
	if err := strictjson.Unmarshal(raw, &values); err != nil {
		return fmt.Errorf("%s: %w", vector, err)
	}
	for _, v := range values {
		switch v {
		case malfunction:
			return errors.New("the service says that it failed")
		case notGenuine:
			return errors.New("the service says that cryptographic validation failed")
		}
	}
	return nil
}

// word returns the string that raw is.
func word(raw []byte) (s string, err error) {
	err = strictjson.Unmarshal(raw, &s)
	return s, err
}

// flatten adds what is in raw under name: strings, booleans and whole numbers as they are,
// members of objects behind a dot, lists of these as lists. What is null, a fraction or
// negative makes no claim.
func (t *token) flatten(name string, raw []byte, depth int) error {
	switch {
	case depth > strictjson.MaxDepth:
		return errors.New("nested too deeply")
	case len(t.claims) >= maxClaims:
		return errors.New("too many claims")
	}
	if len(raw) == 0 || raw[0] != '{' {
		if v := value(raw); !v.IsZero() {
			t.claims = append(t.claims, delegated.Claim{Name: name, Value: v})
		}
		return nil
	}
	members, err := strictjson.Members(raw)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(members))
	for n := range members {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if !plain(n) || depth == 0 && (n == "delegated_to" || n == "status") {
			continue // two places would have one name, or a claim of a result
		}
		if err := t.flatten(name+"."+n, members[n], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// plain reports whether name can be a part of the name of a claim.
func plain(name string) bool {
	return name != "" && len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// value returns the Value of a JSON value that is no object, or the zero Value.
func value(raw []byte) evidence.Value {
	var text string
	var flag bool
	var n uint64
	var list []json.RawMessage
	switch {
	case strictjson.Unmarshal(raw, &text) == nil:
		return evidence.Text(text)
	case strictjson.Unmarshal(raw, &flag) == nil:
		return evidence.Bool(flag)
	case strictjson.Unmarshal(raw, &n) == nil:
		return evidence.Uint(n)
	case strictjson.Unmarshal(raw, &list) == nil && len(list) <= maxClaims:
		vs := make([]evidence.Value, 0, len(list))
		for _, one := range list {
			if strings.HasPrefix(string(one), "[") || strings.HasPrefix(string(one), "{") {
				return evidence.Value{}
			}
			v := value(one)
			if v.IsZero() {
				return evidence.Value{}
			}
			vs = append(vs, v)
		}
		return evidence.List(vs...)
	}
	return evidence.Value{}
}
