package keylime

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/vtpm"
)

// runtimePolicy says which files may have been measured.
type runtimePolicy struct {
	digests  map[string][]string // bytes, by path
	excludes []*regexp.Regexp
}

// runtimeJSON is Keylime's form of a runtime policy, version 1.
type runtimeJSON struct {
	Meta *struct {
		Version   *uint32 `json:"version"`
		Generator *uint32 `json:"generator"`
		Timestamp string  `json:"timestamp"`
	} `json:"meta"`
	Release  *uint64             `json:"release"`
	Digests  map[string][]string `json:"digests"`
	Excludes []string            `json:"excludes"`
	Keyrings map[string][]string `json:"keyrings"`
	IMA      *struct {
		Ignored []string `json:"ignored_keyrings"`
		Hash    string   `json:"log_hash_alg"`
		DM      jsonNull `json:"dm_policy"`
	} `json:"ima"`
	Buffers map[string][]string `json:"ima-buf"`
	Keys    string              `json:"verification-keys"`
}

// jsonNull is null.
type jsonNull struct{}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (*jsonNull) UnmarshalJSON(b []byte) error {
	if string(b) != "null" {
		return errors.New("device mapper policies are not supported")
	}
	return nil
}

// Most of a runtime policy.
const (
	maxExcludes    = 256
	maxExcludeSize = 8 << 10 // bytes of all
)

func parseRuntimePolicy(raw []byte) (*runtimePolicy, error) {
	text, err := policyText(raw)
	if err != nil || text == nil {
		return nil, err
	}
	members, err := strictjson.Members(text)
	if err != nil {
		return nil, err
	}
	if _, ok := members["payload"]; ok {
		return nil, errors.New("a signed policy (DSSE): there is no key here to verify it with")
	}
	for _, name := range []string{"meta", "release", "digests", "excludes", "keyrings", "ima", "ima-buf", "verification-keys"} {
		if _, ok := members[name]; !ok {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	var j runtimeJSON
	if err := strictjson.Unmarshal(text, &j); err != nil {
		return nil, err
	}
	if err := j.supported(); err != nil {
		return nil, err
	}
	p := &runtimePolicy{digests: map[string][]string{}}
	if err := p.addDigests(j.Digests); err != nil {
		return nil, err
	}
	if p.excludes, err = parseExcludes(j.Excludes); err != nil {
		return nil, err
	}
	if len(p.digests) == 0 && len(p.excludes) == 0 {
		return nil, errors.New("neither digests nor excludes: it accepts nothing")
	}
	return p, nil
}

// supported reports what of j is not handled. All of it would let more pass.
func (j *runtimeJSON) supported() error {
	switch {
	case j.Meta == nil || j.Meta.Version == nil || j.Meta.Generator == nil || *j.Meta.Version > 1:
		return errors.New("meta: not of version 1")
	case j.Release == nil || j.IMA == nil:
		return errors.New("release or ima is null")
	case !slices.Contains([]string{"sha1", "sha256", "sha384", "sha512"}, j.IMA.Hash):
		return errors.New("log_hash_alg is not known")
	case len(j.Keyrings) > 0 || len(j.IMA.Ignored) > 0:
		return errors.New("keyrings are not supported")
	case len(j.Buffers) > 0:
		return errors.New("ima-buf is not supported")
	case j.Keys != "":
		return errors.New("verification-keys are not supported: signatures of files count for nothing")
	}
	return nil
}

func (p *runtimePolicy) addDigests(from map[string][]string) error {
	for path, list := range from {
		if path == "" || len(list) == 0 || len(list) > maxValues {
			return fmt.Errorf("digests of %.80q: none, too many, or of no path", path)
		}
		for _, s := range list {
			b, err := strictjson.ParseHex(s)
			if err != nil || !slices.Contains([]int{20, 32, 48, 64}, len(b)) {
				return fmt.Errorf("digests of %.80q: not lower-case hexadecimal of a digest", path)
			}
			p.digests[path] = append(p.digests[path], string(b))
		}
	}
	return nil
}

// foreign are parts of expressions that mean something else to Python, for which they
// were written, than here, or nothing.
func foreign() []string {
	return []string{"(?", "[:", "{,", `\Q`, `\E`, `\C`, `\z`, `\Z`, `\p`, `\P`, `\b`, `\B`, `\W`, `\D`, `\S`, "&&", "||", "--", "~~"}
}

// parseExcludes compiles expressions for the beginnings of paths.
func parseExcludes(list []string) ([]*regexp.Regexp, error) {
	size := 0
	var excludes []*regexp.Regexp
	for _, s := range list {
		size += len(s)
		if len(list) > maxExcludes || size > maxExcludeSize {
			return nil, fmt.Errorf("more than %d excludes, or %d bytes of them", maxExcludes, maxExcludeSize)
		}
		plain := strings.ReplaceAll(s, "(?:", "(")
		for _, f := range foreign() {
			if strings.Contains(plain, f) {
				return nil, fmt.Errorf("exclude %.80q: %s is not supported", s, f)
			}
		}
		if _, err := syntax.Parse(s, syntax.Perl); err != nil { // on its own, not only between brackets
			return nil, fmt.Errorf("exclude %.80q is no expression that is supported", s)
		}
		e, err := regexp.Compile(`\A(?:` + s + `)`)
		if err != nil {
			return nil, fmt.Errorf("exclude %.80q is no expression that is supported", s)
		}
		if e.MatchString("") || e.MatchString("/") {
			return nil, fmt.Errorf("exclude %.80q excludes everything", s)
		}
		excludes = append(excludes, e)
	}
	return excludes, nil
}

// judge returns why the files that were measured are not as p wants them. A nil p
// wants nothing, and there is no list then.
func (p *runtimePolicy) judge(ctx context.Context, c *vtpm.Claims) (fs []*failure) {
	if p == nil {
		return nil
	}
	bad := func(id, format string, args ...any) {
		fs = append(fs, &failure{component: imaComponent, id: id, message: fmt.Sprintf(format, args...)})
	}
	first := true
	for e := range c.IMA.All() {
		if ctx.Err() != nil {
			bad(unavailable, "there was no time to look at all of the measurement list")
			fs[len(fs)-1].cause = &evidence.Error{Format: vtpm.Format, Reason: evidence.Unavailable, Field: "ima_measurement_list", Err: ctx.Err()}
		}
		if len(fs) == maxFailures || ctx.Err() != nil {
			return fs
		}
		aggregate := first && c.IMA.BootAggregate // which is of the PCRs that are quoted
		first = false
		digests, listed := p.digests[e.Path]
		switch {
		case e.Violation:
			bad("validation.tomtou", "a file was written while it was measured")
		case aggregate, slices.Contains(digests, string(e.Digest)), p.excluded(e.Path):
		case listed:
			bad(runtimeHash, "hash not found in runtime policy: %.200q", e.Path)
		default:
			bad("validation.ima-ng.not_in_allowlist", "file not found in allowlist: %.200q", e.Path)
		}
	}
	return fs
}

func (p *runtimePolicy) excluded(path string) bool {
	return slices.ContainsFunc(p.excludes, func(e *regexp.Regexp) bool { return e.MatchString(path) })
}
