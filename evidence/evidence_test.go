package evidence_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

func binding(t *testing.T, b []byte) evidence.Binding {
	t.Helper()
	got, err := evidence.NewBinding(b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNewBinding(t *testing.T) {
	for _, tt := range []struct {
		name string
		sum  []byte
		ok   bool
	}{
		{"one byte", []byte{1}, true},
		{"64 bytes", bytes.Repeat([]byte{1}, 64), true},
		{"zeros and a one", append(make([]byte, 63), 1), true},
		{"none", nil, false},
		{"65 bytes are not truncated", bytes.Repeat([]byte{1}, 65), false},
		{"one zero", []byte{0}, false},
		{"all zero", make([]byte, 64), false},
	} {
		b, err := evidence.NewBinding(tt.sum)
		if (err == nil) != tt.ok || b.Checked() != tt.ok {
			t.Errorf("%s: %v, checked %v", tt.name, err, b.Checked())
		}
		if tt.ok && !bytes.Equal(b.Bytes(), tt.sum) {
			t.Errorf("%s: other bytes", tt.name)
		}
	}
}

func TestMatch(t *testing.T) {
	short := binding(t, []byte{1, 2})
	padded := [64]byte{1, 2}
	tail := [64]byte{1, 2, 63: 1}
	for _, tt := range []struct {
		name          string
		b             evidence.Binding
		field         [64]byte
		padded, exact bool // exact: of the first two bytes of field
	}{
		{"equal", short, padded, true, true},
		{"something behind it", short, tail, false, true},
		{"other", short, [64]byte{1, 3}, false, false},
		{"zero field", short, [64]byte{}, false, false},
		{"zero Binding, zero field", evidence.Binding{}, [64]byte{}, false, false},
		{"zero Binding", evidence.Binding{}, padded, false, false},
		{"unchecked", evidence.UncheckedBindingUnsafe(), padded, true, true},
		{"a trailing zero is part of it", binding(t, []byte{1, 2, 0}), padded, true, false},
	} {
		if got := tt.b.MatchPadded(&tt.field); got != tt.padded {
			t.Errorf("%s: MatchPadded = %v", tt.name, got)
		}
		if got := tt.b.MatchExact(tt.field[:2]); got != tt.exact {
			t.Errorf("%s: MatchExact = %v", tt.name, got)
		}
	}
	if (evidence.Binding{}).MatchExact(nil) {
		t.Error("the zero Binding matches nothing at all")
	}
	if evidence.UncheckedBindingUnsafe().Checked() {
		t.Error("unchecked is not a value to compare")
	}
	got := short.Bytes()
	got[0] = 9
	if short.Bytes()[0] != 1 {
		t.Error("Bytes shares memory")
	}
}

type verifier func() (*evidence.Verified, error)

func (f verifier) Verify(context.Context, evidence.Evidence, evidence.Binding) (*evidence.Verified, error) {
	return f()
}

func TestVerifiers(t *testing.T) {
	vs := evidence.Verifiers{
		"good":  verifier(func() (*evidence.Verified, error) { return &evidence.Verified{Format: "good"}, nil }),
		"other": verifier(func() (*evidence.Verified, error) { return &evidence.Verified{Format: "good"}, nil }),
		"none":  verifier(func() (*evidence.Verified, error) { return nil, nil }),
		"both": verifier(func() (*evidence.Verified, error) {
			return &evidence.Verified{Format: "both"}, &evidence.Error{Reason: evidence.Stale}
		}),
		"nil": nil,
	}
	for format, reason := range map[evidence.Format]error{
		"good": nil, "other": evidence.Unsupported, "none": evidence.Unsupported,
		"both": evidence.Stale, "nil": evidence.Unsupported, "unknown": evidence.Unsupported,
	} {
		got, err := vs.Verify(t.Context(), evidence.Evidence{Format: format}, evidence.Binding{})
		if !errors.Is(err, reason) || (got == nil) != (err != nil) {
			t.Errorf("%s: %v, %v, want %v", format, got, err, reason)
		}
	}
	var none evidence.Verifiers
	if _, err := none.Verify(t.Context(), evidence.Evidence{}, evidence.Binding{}); !errors.Is(err, evidence.Unsupported) {
		t.Errorf("no verifiers: %v", err)
	}
}

func TestError(t *testing.T) {
	cause := errors.New("why")
	err := fmt.Errorf("reading: %w", &evidence.Error{Format: "f", Reason: evidence.Revoked, Check: "c", Field: "ASK", Err: cause})
	if !errors.Is(err, evidence.Revoked) || !errors.Is(err, cause) || errors.Is(err, evidence.Stale) {
		t.Errorf("%v matches the wrong things", err)
	}
	if got := err.Error(); got != "reading: f: ASK: revoked: why" {
		t.Error(got)
	}
	if got := (&evidence.Error{Format: "f", Reason: evidence.Malformed}).Error(); got != "f: malformed" {
		t.Error(got)
	}
}

// Nothing is called passed that nobody saw pass.
func TestOutcomes(t *testing.T) {
	checks := []evidence.Check{{Name: "form"}, {Name: evidence.BindingCheck}, {Name: "revocation"}, {Name: "signature"}}
	value, unchecked := binding(t, []byte{1}), evidence.UncheckedBindingUnsafe()
	const passed, failed, skipped, not = evidence.Passed, evidence.Failed, evidence.Skipped, evidence.NotReached
	for _, tt := range []struct {
		name string
		want evidence.Binding
		got  *evidence.Verified
		err  error
		outs [4]evidence.Outcome
	}{
		{"good", value, &evidence.Verified{}, nil, [4]evidence.Outcome{passed, passed, passed, passed}},
		{"nothing at all", value, nil, nil, [4]evidence.Outcome{not, not, not, not}},
		{"unchecked", unchecked, &evidence.Verified{Skipped: []string{"revocation"}}, nil, [4]evidence.Outcome{passed, skipped, skipped, passed}},
		{"first refused", value, nil, &evidence.Error{Check: "form"}, [4]evidence.Outcome{failed, not, not, not}},
		{"refused", value, nil, &evidence.Error{Check: "revocation"}, [4]evidence.Outcome{passed, passed, failed, not}},
		{"refused after a skipped check", value, nil, &evidence.Error{Check: "signature", Skipped: []string{"revocation"}}, [4]evidence.Outcome{passed, passed, skipped, failed}},
		{"refused, unchecked", unchecked, nil, &evidence.Error{Check: "signature"}, [4]evidence.Outcome{passed, skipped, passed, failed}},
		{"unknown check", value, nil, &evidence.Error{Check: "dispatch"}, [4]evidence.Outcome{not, not, not, not}},
		{"other error", value, nil, context.Canceled, [4]evidence.Outcome{not, not, not, not}},
		{"error beside a result", value, &evidence.Verified{}, context.Canceled, [4]evidence.Outcome{not, not, not, not}},
	} {
		i := 0
		for c, o := range evidence.Outcomes(checks, tt.want, tt.got, tt.err) {
			if o != tt.outs[i] {
				t.Errorf("%s: %s is %s, want %s", tt.name, c.Name, o, tt.outs[i])
			}
			i++
		}
		if i != len(checks) {
			t.Errorf("%s: %d outcomes", tt.name, i)
		}
	}
	for range evidence.Outcomes(checks, value, nil, nil) {
		break // an iterator that goes on would panic
	}
}

func TestValue(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, tt := range []struct {
		v          evidence.Value
		text, json string
	}{
		{evidence.Value{}, "absent", "null"},
		{evidence.Bool(true), "true", "true"},
		{evidence.Uint(1<<64 - 1), "18446744073709551615", "18446744073709551615"},
		{evidence.Text(`a"b`), `a"b`, `"a\"b"`},
		{evidence.Bytes([]byte{0xAB, 0}), "ab00", `"ab00"`},
		{evidence.Bytes(nil), "", `""`},
		{evidence.Time(at), "2026-01-02T02:04:05Z", `"2026-01-02T02:04:05Z"`},
		{evidence.List(evidence.Uint(1), evidence.Text("x")), "[1 x]", `[1,"x"]`},
		{evidence.List(), "[]", "[]"},
	} {
		if got := tt.v.String(); got != tt.text {
			t.Errorf("%s, want %s", got, tt.text)
		}
		if got, err := json.Marshal(tt.v); err != nil || string(got) != tt.json {
			t.Errorf("%s, want %s (%v)", got, tt.json, err)
		}
	}
}

func TestValueEqual(t *testing.T) {
	values := []evidence.Value{
		evidence.Bool(false), evidence.Bool(true), evidence.Uint(0), evidence.Uint(1), evidence.Text(""), evidence.Text("00"),
		evidence.Bytes(nil), evidence.Bytes([]byte{0}), evidence.Time(time.Unix(0, 0)), evidence.Time(time.Unix(1, 0)),
		evidence.List(), evidence.List(evidence.Uint(1)), evidence.List(evidence.Bytes([]byte{0})),
	}
	for i, v := range values {
		for j, w := range values {
			if v.Equal(w) != (i == j) {
				t.Errorf("%v equal to %v: %v", v, w, v.Equal(w))
			}
		}
		if v.Equal(evidence.Value{}) || (evidence.Value{}).Equal(v) {
			t.Errorf("%v equals absent", v)
		}
	}
	if (evidence.Value{}).Equal(evidence.Value{}) {
		t.Error("absent equals absent")
	}
	raw := []byte{1}
	v := evidence.Bytes(raw)
	raw[0] = 2
	if v.String() != "01" {
		t.Error("Bytes keeps the caller's slice")
	}
}

func TestValueSameKind(t *testing.T) {
	kinds := [][]evidence.Value{
		{evidence.Bool(false), evidence.Bool(true)},
		{evidence.Uint(0), evidence.Uint(1)},
		{evidence.Text(""), evidence.Text("00")},
		{evidence.Bytes(nil), evidence.Bytes([]byte{0})},
		{evidence.Time(time.Unix(0, 0)), evidence.Time(time.Unix(1, 0))},
		{evidence.List(), evidence.List(evidence.Uint(1))},
	}
	for i, vs := range kinds {
		for j, ws := range kinds {
			if vs[0].SameKind(ws[1]) != (i == j) {
				t.Errorf("%v and %v of one kind: %v", vs[0], ws[1], i != j)
			}
		}
		if vs[0].SameKind(evidence.Value{}) || (evidence.Value{}).SameKind(vs[0]) {
			t.Errorf("%v and absent of one kind", vs[0])
		}
	}
	if (evidence.Value{}).SameKind(evidence.Value{}) {
		t.Error("absent has a kind")
	}
}

func TestSet(t *testing.T) {
	var zero evidence.Set[int]
	if zero.Has(0) || zero.IsAnything() || evidence.OneOf[int]().Has(0) {
		t.Error("an empty Set accepts")
	}
	s := evidence.OneOf(1, 2)
	if !s.Has(1) || s.Has(3) || s.IsAnything() {
		t.Error("OneOf")
	}
	s.Values()[0] = 3
	if !slices.Equal(s.Values(), []int{1, 2}) {
		t.Error("Values shares memory")
	}
	if a := evidence.Anything[int](); !a.Has(7) || !a.IsAnything() || a.Values() != nil {
		t.Error("Anything")
	}
}

func TestMismatch(t *testing.T) {
	m := evidence.Mismatch{Claim: "snp.vmpl", Got: evidence.Uint(2), Op: evidence.In, Want: evidence.List(evidence.Uint(0))}
	if got := m.String(); got != "snp.vmpl: got 2, want one of [0]" {
		t.Error(got)
	}
}

func ExampleFromPeer() {
	ctx := evidence.FromPeer(context.Background(), "192.0.2.1") // then given to Verify
	fmt.Println(evidence.Peer(ctx))
	fmt.Println(evidence.Peer(context.Background()))
	// Output:
	// 192.0.2.1 true
	//  false
}

func ExampleNewBinding() {
	want, err := evidence.NewBinding([]byte{0xca, 0xfe})
	if err != nil {
		panic(err)
	}
	reportData := [64]byte{0xca, 0xfe}
	fmt.Println(want.MatchPadded(&reportData), want.MatchExact(reportData[:]))
	// Output: true false
}
