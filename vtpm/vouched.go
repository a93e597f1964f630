package vtpm

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
)

// Vouched is a quote whose AK somebody else vouches for, such as a registrar that
// had a credential activated with it. What it says of hardware is what they say.
type Vouched struct {
	AK       Public
	Quote    Quote
	PCRs     []byte // values, as the item [PCRs] has them
	EventLog []byte // as the item [EventLog]; nil if there is none
	IMA      []byte // as the item [IMAList]; nil if there is none
}

// Open verifies that AK signed the quote, that extraData is exactly extra, that the
// PCRs have the values given, and that the logs make these of them. Claims are of
// [LinkUnlinked]: that is all that is known here, and no policy accepts it. They own
// their memory. Errors wrap an [*evidence.Error].
func (v Vouched) Open(extra []byte) (*Claims, error) {
	if err := v.AK.checkAK(); err != nil {
		return nil, err
	}
	q, err := v.Quote.own()
	if err != nil {
		return nil, err
	}
	if len(extra) == 0 || subtle.ConstantTimeCompare(extra, q.ExtraData) != 1 {
		return nil, fail(checkBinding, evidence.NotBound, "extraData", nil)
	}
	g := ground{ak: v.AK.Key, akPublic: &v.AK}
	if err := g.checkSignature(q); err != nil {
		return nil, err
	}
	values, err := q.openPCRs(v.PCRs)
	if err != nil {
		return nil, err
	}
	c := &Claims{Quote: q, PCRs: values, Link: LinkUnlinked, ground: g}
	logs, max := items{}, limits()
	for kind, log := range map[string][]byte{EventLog: v.EventLog, IMAList: v.IMA} {
		switch {
		case len(log) > max[kind]:
			return nil, fail(checkItems, evidence.Malformed, kind, fmt.Errorf("%d bytes", len(log)))
		case log != nil:
			logs[kind] = log
		}
	}
	if err := c.openLogs(logs); err != nil {
		return nil, err
	}
	return c, nil
}

// own returns q with memory of its own: parsed again, so that what was signed and what
// is said can't differ.
func (q Quote) own() (Quote, error) {
	attest := bytes.Clone(q.attest)
	if len(attest) == 0 {
		return Quote{}, fail(checkQuote, evidence.Malformed, "TPM2B_ATTEST", errors.New("no quote"))
	}
	made := Quote{attest: attest, signature: q.signature}
	if err := made.parseAttest(); err != nil {
		return Quote{}, err
	}
	return made, nil
}
