package collateral_test

import (
	"context"
	"errors"
	"testing"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
)

var (
	_ evidence.Source = collateral.Fixed{}
	_ evidence.Source = (*collateral.Files)(nil)
)

func one(data string) []evidence.Collateral { return []evidence.Collateral{{Data: []byte(data)}} }

// failing is a Source that fails, or answers nothing if err is nil.
type failing struct{ err error }

func (f failing) Get(context.Context, string) ([]evidence.Collateral, error) { return nil, f.err }

func TestFixed(t *testing.T) {
	f := collateral.Fixed{"a": one("1"), "none": {}}
	if got, err := f.Get(t.Context(), "a"); err != nil || len(got) != 1 || string(got[0].Data) != "1" {
		t.Errorf("a: %v, %v", got, err)
	}
	for _, name := range []string{"none", "A", "b", ""} {
		if got, err := f.Get(t.Context(), name); !errors.Is(err, evidence.ErrNotFound) || got != nil {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
	if _, err := collateral.Fixed(nil).Get(t.Context(), "a"); !errors.Is(err, evidence.ErrNotFound) {
		t.Errorf("zero Fixed: %v", err)
	}
}

// Who appends to an answer does not write into what the next one gets.
func TestFixedAppend(t *testing.T) {
	f := collateral.Fixed{"a": append(one("1"), one("2")...)[:1]}
	got, err := f.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got, one("3")...)
	if all := f["a"][:2]; string(all[1].Data) != "2" {
		t.Errorf("now it has %s", all[1].Data)
	}
}

func TestFirst(t *testing.T) {
	down, off := errors.New("down"), errors.New("off")
	has, other := collateral.Fixed{"a": one("1")}, collateral.Fixed{"a": one("2"), "b": one("3")}
	for _, tt := range []struct {
		name    string
		sources []evidence.Source
		ask     string
		want    string
		errs    []error // that the error wraps
		not     []error // that it does not
	}{
		{"first", []evidence.Source{has, other}, "a", "1", nil, nil},
		{"second", []evidence.Source{has, other}, "b", "3", nil, nil},
		{"a failure does not hide the next", []evidence.Source{failing{down}, other}, "a", "2", nil, nil},
		{"an empty answer is none", []evidence.Source{failing{}, other}, "a", "2", nil, nil},
		{"nil has nothing", []evidence.Source{nil, other, nil}, "a", "2", nil, nil},
		{"nobody has it", []evidence.Source{has, failing{}, other}, "c", "", []error{evidence.ErrNotFound}, nil},
		{"one does not know", []evidence.Source{has, failing{down}}, "c", "", []error{down}, []error{evidence.ErrNotFound, off}},
		{"two do not know", []evidence.Source{failing{down}, failing{off}}, "c", "", []error{down, off}, []error{evidence.ErrNotFound}},
		{"none", nil, "a", "", []error{evidence.ErrNotFound}, nil},
		{"nested", []evidence.Source{collateral.First(), collateral.First(has)}, "a", "1", nil, nil},
	} {
		got, err := collateral.First(tt.sources...).Get(t.Context(), tt.ask)
		switch {
		case tt.want != "" && (err != nil || len(got) != 1 || string(got[0].Data) != tt.want):
			t.Errorf("%s: %v, %v", tt.name, got, err)
		case tt.want == "" && (err == nil || got != nil):
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
		for _, want := range tt.errs {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v does not wrap %v", tt.name, err, want)
			}
		}
		for _, not := range tt.not {
			if errors.Is(err, not) {
				t.Errorf("%s: %v wraps %v", tt.name, err, not)
			}
		}
	}
}

// A slice that is used again changes nothing.
func TestFirstCopies(t *testing.T) {
	sources := []evidence.Source{collateral.Fixed{"a": one("1")}}
	f := collateral.First(sources...)
	sources[0] = failing{}
	if got, err := f.Get(t.Context(), "a"); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
