package nonce_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// allow accepts every key.
var allow = keywrap.Allow{MinRSABits: 2048, Suites: []keywrap.Suite{
	keywrap.MLKEM768X25519, keywrap.P384, keywrap.P256, keywrap.X25519, keywrap.MLKEM1024P384,
	keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521, keywrap.JWERSA,
}}

// hexBytes are written in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// fields are those of a V1 transcript, well formed or not.
type fields struct {
	Nonce    hexBytes `json:"nonce_hex"`
	Broker   hexBytes `json:"broker_hex"`
	Tenant   string   `json:"tenant"`
	Instance hexBytes `json:"instance_hex"`
	Purpose  string   `json:"purpose"`
	Format   string   `json:"format"`
	Suite    string   `json:"suite"`
	Key      hexBytes `json:"key_hex"`
	Blob     hexBytes `json:"blob_hex"`
}

// transcript writes f as section 3 of the protocol says, whatever f holds.
func (f fields) transcript(label string) []byte {
	t := append([]byte(label), make([]byte, 128-len(label))...)
	for tag, v := range [][]byte{
		1: f.Nonce, 2: f.Broker, 3: []byte(f.Tenant), 4: f.Instance, 5: []byte(f.Purpose),
		6: []byte(f.Format), 7: []byte(f.Suite), 8: f.Key, 9: f.Blob,
	} {
		if tag > 0 {
			t = append(t, byte(tag), byte(len(v)>>24), byte(len(v)>>16), byte(len(v)>>8), byte(len(v)))
			t = append(t, v...)
		}
	}
	return t
}

// bind gives f to the package, through the types that callers have.
func (f fields) bind() (evidence.Binding, error) {
	n, err := nonce.Parse(f.Nonce)
	if err != nil {
		return evidence.Binding{}, err
	}
	key, err := keywrap.Parse(keywrap.Suite(f.Suite), f.Key, allow)
	if err != nil {
		return evidence.Binding{}, err
	}
	var instance [16]byte // an instance of another length can't be written down
	copy(instance[:], f.Instance)
	r := nonce.V1{Broker: f.Broker, Tenant: f.Tenant, Instance: instance, Purpose: f.Purpose, Format: evidence.Format(f.Format), Blob: f.Blob}
	return r.Bind(n, key)
}

// v1Vectors are the parts of v1_binding.json that are about bindings.
type v1Vectors struct {
	Binding struct {
		Cases []struct {
			Name       string   `json:"name"`
			Fields     fields   `json:"fields"`
			Transcript hexBytes `json:"transcript_hex"`
			Binding    hexBytes `json:"binding_hex"`
			Small      hexBytes `json:"binding_for_small_carrier_sha256_hex"`
			Two        struct {
				Evidence []struct {
					Format  string   `json:"format"`
					Binding hexBytes `json:"binding_hex"`
				} `json:"evidence"`
			} `json:"two_evidences"`
		} `json:"cases"`
		Wrong      map[string]string `json:"wrong_bindings_must_not_match"`
		NearMisses []struct {
			Name string   `json:"name"`
			A    nearMiss `json:"a"`
			B    nearMiss `json:"b"`
		} `json:"near_misses"`
	} `json:"binding"`
	RefusedNames []struct {
		Field string   `json:"field"`
		Value hexBytes `json:"value_hex"`
		Why   string   `json:"why"`
	} `json:"refused_names"`
	CrossProtocol struct {
		LabelBlock hexBytes `json:"label_block_hex"`
		SVSM       []struct {
			Name     string   `json:"name"`
			InputLen int      `json:"input_len"`
			First    hexBytes `json:"input_first_128_hex"`
			Sum      hexBytes `json:"sha512_hex"`
		} `json:"svsm"`
		ECKeys struct {
			Points []struct {
				Curve string   `json:"curve"`
				Point hexBytes `json:"point_hex"`
			} `json:"points"`
		} `json:"ec_keys"`
		Lengths struct {
			Shortest int `json:"shortest_v1_transcript"`
			SVSM     int `json:"kbs_svsm_input"`
		} `json:"lengths"`
	} `json:"cross_protocol"`
}

type nearMiss struct {
	Fields     fields   `json:"fields"`
	Transcript hexBytes `json:"transcript_hex"`
	Binding    hexBytes `json:"binding_hex"`
	WellFormed bool     `json:"well_formed"`
}

func readV1(t testing.TB) v1Vectors {
	var v v1Vectors
	vectors.JSON(t, "wire/vectors/v1_binding.json", &v)
	return v
}

// Every published case has the published transcript and binding.
func TestV1Vectors(t *testing.T) {
	v := readV1(t)
	if len(v.Binding.Cases) != 23 {
		t.Fatalf("%d cases", len(v.Binding.Cases))
	}
	for _, c := range v.Binding.Cases {
		t.Run(c.Name, func(t *testing.T) {
			if !bytes.Equal(c.Fields.transcript("teebroker/v1/release"), c.Transcript) {
				t.Error("the test writes another transcript")
			}
			b, err := c.Fields.bind()
			if err != nil || !bytes.Equal(b.Bytes(), c.Binding) {
				t.Errorf("%x, %v", b.Bytes(), err)
			}
			if small := sha256.Sum256(b.Bytes()); !bytes.Equal(small[:], c.Small) {
				t.Errorf("for a small carrier: %x", small)
			}
			for _, ev := range c.Two.Evidence {
				f := c.Fields
				f.Format = ev.Format
				if b, err := f.bind(); err != nil || !bytes.Equal(b.Bytes(), ev.Binding) {
					t.Errorf("%s: %x, %v", ev.Format, b.Bytes(), err)
				}
			}
			for wrong, sum := range v.Binding.Wrong {
				if v.Binding.Wrong["case"] == c.Name && hex.EncodeToString(b.Bytes()) == sum {
					t.Errorf("equals the wrong one: %s", wrong)
				}
			}
		})
	}
}

// The two sides of a near miss differ, and a side that is not well formed is
// refused: only a transcript written by hand can have it.
func TestV1NearMisses(t *testing.T) {
	v := readV1(t)
	if len(v.Binding.NearMisses) != 23 {
		t.Fatalf("%d pairs", len(v.Binding.NearMisses))
	}
	for _, p := range v.Binding.NearMisses {
		t.Run(p.Name, func(t *testing.T) {
			if bytes.Equal(p.A.Binding, p.B.Binding) || bytes.Equal(p.A.Transcript, p.B.Transcript) {
				t.Error("no difference")
			}
			for name, side := range map[string]nearMiss{"a": p.A, "b": p.B} {
				sum := sha512.Sum512(side.Transcript)
				if !bytes.Equal(sum[:], side.Binding) {
					t.Errorf("%s: the vector contradicts itself", name)
				}
				b, err := side.Fields.bind()
				switch {
				case side.WellFormed && (err != nil || !bytes.Equal(b.Bytes(), side.Binding)):
					t.Errorf("%s: %x, %v", name, b.Bytes(), err)
				case !side.WellFormed && bytes.Equal(b.Bytes(), side.Binding):
					t.Errorf("%s: bound, and is not well formed", name)
				case !side.WellFormed && !strings.HasPrefix(p.Name, "other-label") && err == nil:
					t.Errorf("%s: accepted", name)
				}
			}
		})
	}
}

// Each value that is not in the grammar of its field is refused.
func TestV1RefusedNames(t *testing.T) {
	v := readV1(t)
	if len(v.RefusedNames) != 59 {
		t.Fatalf("%d names", len(v.RefusedNames))
	}
	for _, c := range v.RefusedNames {
		f := v.Binding.Cases[0].Fields
		switch c.Field {
		case "tenant":
			f.Tenant = string(c.Value)
		case "purpose":
			f.Purpose = string(c.Value)
		case "nonce":
			f.Nonce = c.Value
		case "broker":
			f.Broker = c.Value
		case "blob":
			f.Blob = c.Value
		case "instance":
			if len(c.Value) == 16 {
				t.Errorf("instance of 16 bytes refused: %s", c.Why)
			}
			continue // a type of 16 bytes holds no other
		default:
			t.Fatalf("field %q", c.Field)
		}
		if _, err := f.bind(); err == nil {
			t.Errorf("%s %q accepted: %s", c.Field, c.Value, c.Why)
		}
	}
}

// What another protocol has a guest sign is never a V1 transcript.
func TestV1CrossProtocol(t *testing.T) {
	v := readV1(t)
	cross := v.CrossProtocol
	bindings := map[string]bool{}
	for _, c := range v.Binding.Cases {
		b, err := c.Fields.bind()
		if err != nil || !bytes.Equal(c.Transcript[:128], cross.LabelBlock) {
			t.Errorf("%s: transcript does not begin with the label block, %v", c.Name, err)
		}
		bindings[string(b.Bytes())] = true
	}
	if len(bytes.Trim(cross.LabelBlock[64:], "\x00")) != 0 {
		t.Error("bytes 64 to 127 of the label block are not zero")
	}
	for _, m := range cross.SVSM {
		if m.InputLen >= 128 && bytes.Equal(m.First, cross.LabelBlock) || bindings[string(m.Sum)] {
			t.Errorf("%s: begins like a transcript", m.Name)
		}
	}
	suites := map[string]keywrap.Suite{"P256": keywrap.JWEP256, "P384": keywrap.JWEP384, "P521": keywrap.JWEP521}
	for _, p := range cross.ECKeys.Points {
		if _, err := keywrap.Parse(suites[p.Curve], p.Point, allow); err == nil {
			t.Errorf("%s: there is a key whose coordinates begin like a transcript", p.Curve)
		}
	}
	shortest := fields{Nonce: make([]byte, 32), Tenant: "t", Instance: make([]byte, 16), Purpose: "p", Format: "vtpm", Suite: "HPKE-X25519", Key: make([]byte, 32)}
	if n := len(shortest.transcript("teebroker/v1/release")); n != cross.Lengths.Shortest || n <= cross.Lengths.SVSM {
		t.Errorf("shortest transcript has %d bytes", n)
	}
}
