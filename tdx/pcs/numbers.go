package pcs

import (
	"errors"
	"math"
	"time"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// NumbersName returns the name of the list of tcbEvaluationDataNumbers that there
// are TCB Info and QE identities for. No Verifier asks for it.
func NumbersName() string { return "/tdx/certification/v4/tcbevaluationdatanumbers" }

// Number is one tcbEvaluationDataNumber: the demands of one TCB recovery.
type Number struct {
	Number   uint32
	Recovery time.Time // tcbRecoveryEventDate: when its issues were disclosed
	Date     time.Time // tcbDate: all issues disclosed before are fixed at its highest level
}

// maxNumbers bounds a list. Genuine ones have less than ten.
const maxNumbers = 256

// ParseNumbers returns what data, an answer under [NumbersName], says, in its
// order, or false if it is none. Nothing is verified: it is for people who want
// to know what is to come, and no floor may follow from it.
func ParseNumbers(data []byte) ([]Number, bool) {
	var numbers []Number
	if len(data) > maxDocument {
		return nil, false
	}
	err := strictjson.Decode(data, func(d *strictjson.Decoder) {
		d.Object(
			strictjson.Required("tcbEvaluationDataNumbers", func() { numbers = numbersIn(d) }),
			strictjson.Required("signature", func() { d.Text() }),
		)
	})
	if err != nil {
		return nil, false
	}
	return numbers, true
}

// numbersIn reads the signed member. There is another document like it, of SGX.
func numbersIn(d *strictjson.Decoder) (numbers []Number) {
	d.Object(
		strictjson.Required("id", func() {
			if string(d.Text()) != "TDX" {
				d.Fail(errors.New("not of TDX"))
			}
		}),
		strictjson.Required("version", func() { d.Uint(math.MaxUint32) }),
		strictjson.Required("issueDate", func() { timeIn(d) }),
		strictjson.Required("nextUpdate", func() { timeIn(d) }),
		strictjson.Required("tcbEvalNumbers", func() {
			d.Array(func() {
				if len(numbers) == maxNumbers {
					d.Fail(errors.New("too many"))
					return
				}
				numbers = append(numbers, numberIn(d))
			})
		}),
	)
	if len(numbers) == 0 {
		d.Fail(errors.New("none"))
	}
	return numbers
}

func numberIn(d *strictjson.Decoder) (n Number) {
	d.Object(
		strictjson.Required("tcbEvaluationDataNumber", func() { n.Number = uint32(d.Uint(math.MaxUint32)) }),
		strictjson.Required("tcbRecoveryEventDate", func() { n.Recovery = timeIn(d) }),
		strictjson.Required("tcbDate", func() { n.Date = timeIn(d) }),
	)
	return n
}

func timeIn(d *strictjson.Decoder) (t time.Time) {
	if err := t.UnmarshalText(d.Text()); err != nil {
		d.Fail(err)
	}
	return t
}

func isNumbers(data []byte) bool {
	_, ok := ParseNumbers(data)
	return ok
}
