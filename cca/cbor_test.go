package cca

import (
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		err      error
	}{
		{"number", "\x17", nil},
		{"negative number", "\x37", nil},
		{"number of eight bytes", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff", nil},
		{"longer than it need be", "\x1b\x00\x00\x00\x00\x00\x00\x00\x01", nil},
		{"bytes", "\x42ab", nil},
		{"length longer than it need be", "\x59\x00\x02ab", nil},
		{"text", "\x62\xc3\xa9", nil},
		{"no text", "\x60", nil},
		{"false", "\xf4", nil},
		{"null", "\xf6", nil},
		{"float", "\xf9\x3c\x00", nil},
		{"simple value of two bytes", "\xf8\x20", nil},
		{"empty array", "\x80", nil},
		{"array", "\x82\x01\x41a", nil},
		{"map", "\xa2\x01\x02\x61a\x03", nil},
		{"keys of several kinds", "\xa4\x00\x00\x20\x00\x60\x00\x61a\x00", nil},
		{"nested", strings.Repeat("\x81", maxDepth) + "\x00", nil},

		{"nothing", "", errTruncated},
		{"head without number", "\x18", errTruncated},
		{"half a number", "\x19\x01", errTruncated},
		{"bytes cut off", "\x42a", errTruncated},
		{"text cut off", "\x61", errTruncated},
		{"bytes without end", "\x5b\xff\xff\xff\xff\xff\xff\xff\xff", errTruncated},
		{"array cut off", "\x82\x01", errTruncated},
		{"map without value", "\xa1\x01", errTruncated},
		{"trailing", "\x01\x01", errTrailing},
		{"break", "\xff", errIndefinite},
		{"indefinite bytes", "\x5f\x41a\xff", errIndefinite},
		{"indefinite text", "\x7f\x61a\xff", errIndefinite},
		{"indefinite array", "\x9f\xff", errIndefinite},
		{"indefinite map", "\xbf\xff", errIndefinite},
		{"indefinite number", "\x1f", errReserved},
		{"indefinite tag", "\xdf\x00", errReserved},
		{"reserved 28", "\x1c", errReserved},
		{"reserved 30", "\x5e", errReserved},
		{"simple value that has a shorter form", "\xf8\x1f", errReserved},
		{"tag", "\xc0\x60", errTag},
		{"tag in an array", "\x81\xd8\x18\x40", errTag},
		{"tag of a key", "\xa1\xc1\x00\x00", errTag},
		{"invalid UTF-8", "\x61\xff", errUTF8},
		{"surrogate", "\x63\xed\xa0\x80", errUTF8},
		{"key of bytes", "\xa1\x40\x00", errKey},
		{"key of an array", "\xa1\x80\x00", errKey},
		{"key of a map", "\xa1\xa0\x00", errKey},
		{"key null", "\xa1\xf6\x00", errKey},
		{"key of a float", "\xa1\xf9\x3c\x00\x00", errKey},
		{"duplicate", "\xa2\x01\x02\x01\x02", errDuplicate},
		{"duplicate in another length", "\xa2\x01\x02\x18\x01\x02", errDuplicate},
		{"duplicate apart", "\xa3\x01\x02\x02\x02\x01\x02", errDuplicate},
		{"duplicate text", "\xa2\x61a\x02\x61a\x02", errDuplicate},
		{"duplicate text in another length", "\xa2\x61a\x02\x78\x01a\x02", errDuplicate},
		{"duplicate negative", "\xa2\x20\x02\x20\x02", errDuplicate},
		{"duplicate below an unknown key", "\xa1\x18\x63\x81\xa2\x01\x02\x01\x02", errDuplicate},
		{"nested too deeply", strings.Repeat("\x81", maxDepth+1) + "\x00", errDeep},
		{"maps nested too deeply", strings.Repeat("\xa1\x00", maxDepth+1) + "\x00", errDeep},
		{"many elements", "\x9a\xff\xff\xff\xff", errItems},
		{"many pairs", "\xbb\xff\xff\xff\xff\xff\xff\xff\xff", errItems},
		{"one element too many", "\x99\x04\x01" + strings.Repeat("\x00", maxItems+1), errItems},
		{"elements too many in sum", "\x82" + strings.Repeat("\x99\x02\x00"+strings.Repeat("\x00", 512), 2), errItems},
	} {
		_, err := decode(tt.in, 0)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
	if _, err := decode("\x99\x04\x00"+strings.Repeat("\x00", maxItems), 0); err != nil {
		t.Errorf("as many as there may be: %v", err)
	}
}

func TestItem(t *testing.T) {
	it, err := decode("\xa4\x0a\x43abc\x27\x82\x18\xff\x61x\x61a\x05\x18\x2a\xa1\x01\x02", 0)
	if err != nil || it.kind != kindMap || it.len() != 4 {
		t.Fatalf("%+v, %v", it, err)
	}
	if v, ok := it.at(10); !ok || v.kind != kindBytes || v.data != "abc" {
		t.Errorf("10: %+v", v)
	}
	v, ok := it.at(-8)
	if !ok || v.kind != kindArray || v.len() != 2 || !v.element(0).is(255) || v.element(1).data != "x" || len(v.elements()) != 2 {
		t.Errorf("-8: %+v", v)
	}
	if m, ok := it.at(42); !ok || m.kind != kindMap {
		t.Errorf("42: %+v", m)
	} else if n, ok := m.at(1); !ok || !n.is(2) || n.is(-3) || n.is(1) {
		t.Errorf("42/1: %+v", n)
	}
	for _, absent := range []int64{7, 8, -11, 1} {
		if _, ok := it.at(absent); ok {
			t.Errorf("%d is there", absent)
		}
	}
	if it.only(10, -8, 42) {
		t.Error("a text among the keys is not seen")
	}
	if it, _ := decode("\xa2\x01\x00\x02\x00", 0); !it.only(1, 2, 3) || it.only(1) || it.only() {
		t.Error("only")
	}
}

// What is read here is read alike by the decoder of package cbor in its strictest
// mode: nothing is accepted that it refuses.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"\xa4\x0a\x43abc\x27\x82\x18\xff\x61x\x61a\x05\x18\x2a\xa1\x01\x02", "\x9f\xff", "\xf8\x20", "\xfb\x00\x00\x00\x00\x00\x00\x00\x00",
		"\xa2\x01\x02\x18\x01\x02", "\xd2\x84", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	strict, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: maxDepth,
	}.DecMode()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		it, err := decode(string(in), 0)
		if err != nil {
			return
		}
		var other any
		if err := strict.Unmarshal(in, &other); err != nil {
			t.Fatalf("package cbor refuses: %v", err)
		}
		same(t, it, other)
	})
}

// same compares an item with what package cbor makes of it.
func same(t *testing.T, it item, other any) {
	switch other := other.(type) {
	case uint64:
		if it.kind != kindUint || it.arg != other {
			t.Errorf("%+v is %d", it, other)
		}
	case int64:
		if !it.is(other) {
			t.Errorf("%+v is %d", it, other)
		}
	case []byte:
		if it.kind != kindBytes || it.data != string(other) {
			t.Errorf("%+v is %x", it, other)
		}
	case string:
		if it.kind != kindText || it.data != other {
			t.Errorf("%+v is %q", it, other)
		}
	case []any:
		if it.kind != kindArray || it.len() != len(other) {
			t.Fatalf("%+v is %v", it, other)
		}
		for i, e := range it.elements() {
			same(t, e, other[i])
		}
	case map[any]any:
		if it.kind != kindMap || it.len() != len(other) {
			t.Fatalf("%+v is %v", it, other)
		}
		for k, v := range other {
			var label int64
			switch k := k.(type) {
			case uint64:
				label = int64(k)
			case int64:
				label = k
			default:
				continue
			}
			if label < 0 && func() bool { _, big := k.(uint64); return big }() {
				continue // more than fits, which no label is
			}
			value, ok := it.at(label)
			if !ok {
				t.Fatalf("%d is not in %+v", label, it)
			}
			same(t, value, v)
		}
	}
}
