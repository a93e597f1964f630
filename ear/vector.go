package ear

import (
	"encoding/json"
	"errors"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// A Category is one of the eight aspects of an Attester that AR4SI section 2.3
// tells apart.
type Category int

// The Categories.
const (
	InstanceIdentity Category = iota // it is who it says, and not compromised
	Configuration                    // how it is set up
	Executables                      // what it loaded
	FileSystem                       // what files it has
	Hardware                         // hardware and firmware are genuine, and without known holes
	RuntimeOpaque                    // others can't look into its memory
	StorageOpaque                    // others can't read what it stores
	SourcedData                      // data from elsewhere is what it should be

	categories = iota
)

// names of the categories in JSON.
func categoryNames() [categories]string {
	return [...]string{
		"instance-identity", "configuration", "executables", "file-system",
		"hardware", "runtime-opaque", "storage-opaque", "sourced-data",
	}
}

// String returns the name of c in JSON, or "".
func (c Category) String() string {
	if c < 0 || c >= categories {
		return ""
	}
	return categoryNames()[c]
}

// A Tier is how much trust a trustworthiness claim supports. Higher is better. The
// zero Tier is the worst.
type Tier int

// The Tiers, from bad to good.
const (
	Contraindicated Tier = iota // there is a reason not to trust it
	Warning                     // there is something that not everybody accepts
	None                        // nothing is said
	Affirming                   // it is as it should be

	tiers = iota
)

func tierNames() [tiers]string {
	return [...]string{"contraindicated", "warning", "none", "affirming"}
}

// String returns the name of t in JSON, or "".
func (t Tier) String() string {
	if t < 0 || t >= tiers {
		return ""
	}
	return tierNames()[t]
}

// MarshalJSON implements [json.Marshaler].
func (t Tier) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON implements [json.Unmarshaler]. Numbers, which other serialisations
// have, are none.
func (t *Tier) UnmarshalJSON(data []byte) error {
	var s *string
	if err := json.Unmarshal(data, &s); err != nil || s == nil {
		return errors.New("not a trustworthiness tier")
	}
	for i, name := range tierNames() {
		if name == *s {
			*t = Tier(i)
			return nil
		}
	}
	return errors.New("not a trustworthiness tier")
}

// A Vector is a trustworthiness vector: a value for each [Category], zero where
// nothing is said. What the values mean is in AR4SI section 2.3.4 and docs/ear.md.
type Vector [categories]int8

// Values of trustworthiness claims that are used here, of AR4SI section 2.3.4.
const (
	malfunction  int8 = -1 // any category: the Verifier could not say
	cryptoFailed int8 = 99 // any category: a signature does not verify

	trustworthy     int8 = 2  // instance-identity
	compromised     int8 = 96 // instance-identity
	unknownInstance int8 = 97 // instance-identity

	approvedConfig     int8 = 2  // configuration
	unsupportable      int8 = 96 // configuration
	approvedBoot       int8 = 3  // executables: those that were loaded at boot
	unsafeExecutables  int8 = 32 // executables: known to have holes
	unknownExecutables int8 = 33 // executables

	genuineHardware int8 = 2  // hardware
	unsafeHardware  int8 = 32 // hardware: known to have holes
	revokedHardware int8 = 96 // hardware: contraindicated
	unknownHardware int8 = 97 // hardware

	encryptedMemory int8 = 2  // runtime-opaque
	isolatedMemory  int8 = 32 // runtime-opaque: from other guests
	visibleMemory   int8 = 96 // runtime-opaque
)

// tier returns the tier of a value, AR4SI section 2.3.3.
func tier(v int8) Tier {
	switch {
	case v >= -1 && v <= 1:
		return None
	case v >= -32 && v <= 31:
		return Affirming
	case v >= -96 && v <= 95:
		return Warning
	}
	return Contraindicated
}

// Tier returns the tier of the worst claim of v, which no status may be better than.
// Categories of which nothing is said don't count; if nothing is said of any, it is
// None.
func (v Vector) Tier() Tier {
	worst, said := Affirming, false
	for _, value := range v {
		if value != 0 {
			worst, said = min(worst, tier(value)), true
		}
	}
	if !said {
		return None
	}
	return worst
}

// lower sets the value of c unless it has one that is no better.
func (v *Vector) lower(c Category, value int8) {
	if v[c] == 0 || tier(value) < tier(v[c]) {
		v[c] = value
	}
}

// MarshalJSON implements [json.Marshaler]. Categories of which nothing is said are
// left out.
func (v Vector) MarshalJSON() ([]byte, error) {
	m := map[string]int8{}
	for c, value := range v {
		if value != 0 {
			m[Category(c).String()] = value
		}
	}
	return json.Marshal(m)
}

// UnmarshalJSON implements [json.Unmarshaler]. A category that is not one of the
// eight is an error: it might be contraindicated.
func (v *Vector) UnmarshalJSON(data []byte) error {
	var m map[string]int8
	if err := strictjson.Unmarshal(data, &m); err != nil {
		return err
	}
	if m == nil {
		return errors.New("not a trustworthiness vector")
	}
	var got Vector
	for c := range Category(categories) {
		got[c] = m[c.String()]
		delete(m, c.String())
	}
	if len(m) != 0 {
		return errors.New("unknown trustworthiness claim")
	}
	*v = got
	return nil
}
