package tdx

import "time"

// Head is what a TCB Info or a QE identity says of itself.
type Head struct {
	Name                 string    // under which a Verifier asks for it
	Issued, NextUpdate   time.Time // issueDate and nextUpdate
	EvaluationDataNumber uint32    // tcbEvaluationDataNumber: which TCB recovery it is of
}

// HeadOf returns the Head of data, or false if it is neither TCB Info of TDX nor
// identity of the TD quoting enclave. As with [NamesOf], nothing is verified.
func HeadOf(data []byte) (Head, bool) {
	d, ok := readDocument(data)
	return Head{d.name, d.issued, d.next, d.number}, ok
}
