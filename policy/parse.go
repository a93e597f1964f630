package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// DocumentType is what the member "policy" of every document says.
const DocumentType = "teebroker/1"

// What a document may have at most.
const (
	MaxDocument     = 1 << 20 // bytes
	MaxFormats      = 16      // in "require" and in "optional"
	MaxAlternatives = 64      // of one format
	MaxName         = 128     // bytes, of "name" and of "version"
)

// Decoders say which formats policy documents may speak of and how, usually
// {snp.Format: Decoder(snp.DecodeReferenceValues), …}. A decoder is given one
// JSON object without duplicate members; if partial is false, members left out
// accept nothing, if true they are not constrained.
type Decoders map[evidence.Format]func(object []byte, partial bool) (Rule, error)

// Decoder adapts a decoder that returns a concrete Rule.
func Decoder[R Rule](decode func([]byte, bool) (R, error)) func([]byte, bool) (Rule, error) {
	return func(b []byte, partial bool) (Rule, error) { return decode(b, partial) }
}

// document is what a policy document says, before its rules are decoded.
type document struct {
	Policy   string       `json:"policy"`
	Name     string       `json:"name"`
	Version  string       `json:"version"`
	Scope    Scope        `json:"scope"`
	Require  alternatives `json:"require"`
	Optional alternatives `json:"optional"`
}

type alternatives map[evidence.Format][]json.RawMessage

// Parse reads one policy document: strict JSON, in which unknown, duplicate
// and case-variant members, nulls, lone surrogates and trailing data are errors.
//
//	{"policy": "teebroker/1", "name": "prod", "version": "7", "scope": "global",
//	 "require": {"snp-report": [{"measurements": ["…"], "vmpls": [0], …}, …]}}
//
// The objects of one format are alternatives, at least one. A document of scope
// global is complete; image and instance documents are partial, since a
// complete one has to accept too. "optional" may be left out, nothing else, and
// one format must be named. The Policy keeps a copy of doc.
func Parse(doc []byte, d Decoders) (*Policy, error) {
	if len(doc) > MaxDocument {
		return nil, fmt.Errorf("policy: document of %d bytes, more than %d", len(doc), MaxDocument)
	}
	var parsed document
	if err := strictjson.Unmarshal(doc, &parsed); err != nil {
		return nil, fmt.Errorf("policy: document: %w", err)
	}
	if err := parsed.complete(); err != nil {
		return nil, fmt.Errorf("policy: document: %w", err)
	}
	require, err := parsed.Require.decode(d, parsed.Scope)
	if err != nil {
		return nil, fmt.Errorf("policy: document: require: %w", err)
	}
	optional, err := parsed.Optional.decode(d, parsed.Scope)
	if err != nil {
		return nil, fmt.Errorf("policy: document: optional: %w", err)
	}
	return &Policy{
		Name: parsed.Name, Version: parsed.Version, Scope: parsed.Scope,
		Document: bytes.Clone(doc), Require: require, Optional: optional,
	}, nil
}

// complete returns what is wrong with d apart from its rules.
func (d document) complete() error {
	switch {
	case d.Policy != DocumentType:
		return fmt.Errorf("policy is %.40q, not %q", d.Policy, DocumentType)
	case !printable(d.Name) || strings.Contains(d.Name, "@"):
		return errors.New("name is missing, too long, or not plain text without @")
	case !printable(d.Version):
		return errors.New("version is missing, too long, or not plain text")
	case !slices.Contains([]Scope{Global, Image, Instance}, d.Scope):
		return fmt.Errorf("scope is %.40q, not global, image or instance", d.Scope)
	case d.Require == nil:
		return errors.New("require is missing")
	case len(d.Require)+len(d.Optional) == 0:
		return errors.New("no format is named, so everything would be refused")
	}
	for f := range d.Require {
		if _, twice := d.Optional[f]; twice {
			return fmt.Errorf("format %.40q is both in require and in optional", f)
		}
	}
	return nil
}

// printable reports whether s is a name that people can read in a log.
func printable(s string) bool {
	return s != "" && len(s) <= MaxName && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// decode returns the Rule of every format, or the first error in their order.
func (as alternatives) decode(d Decoders, s Scope) (map[evidence.Format]Rule, error) {
	if len(as) > MaxFormats {
		return nil, fmt.Errorf("more than %d formats", MaxFormats)
	}
	rules := map[evidence.Format]Rule{}
	for _, f := range slices.Sorted(maps.Keys(as)) {
		decode := d[f]
		if decode == nil {
			return nil, fmt.Errorf("unknown format %.40q", f)
		}
		rule, err := decodeAny(as[f], decode, !s.complete())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		rules[f] = rule
	}
	return rules, nil
}

// decodeAny returns the Rule that accepts what one of objects does.
func decodeAny(objects []json.RawMessage, decode func([]byte, bool) (Rule, error), partial bool) (Any, error) {
	if len(objects) == 0 || len(objects) > MaxAlternatives {
		return nil, fmt.Errorf("%d alternatives, not 1 to %d: an empty list accepts nothing", len(objects), MaxAlternatives)
	}
	rules := make(Any, len(objects))
	for i, object := range objects {
		if object[0] != '{' {
			return nil, fmt.Errorf("alternative %d: not an object", i+1)
		}
		rule, err := decode(object, partial)
		if err == nil && rule == nil {
			err = errors.New("no rule")
		}
		if err != nil {
			return nil, fmt.Errorf("alternative %d: %w", i+1, err)
		}
		rules[i] = rule
	}
	return rules, nil
}
