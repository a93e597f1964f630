package activation

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/vtpm"
)

// session is what is kept between the two requests: nothing that opens anything,
// but whoever can change it can bind keys.
type session struct {
	Version    int               `json:"v"`
	Tenant     string            `json:"tenant"`
	Instance   strictjson.UUID   `json:"instance"`
	Generation uint64            `json:"generation"`
	EK         strictjson.Base64 `json:"ek"` // TPMT_PUBLIC
	AgentID    string            `json:"agent_id"`
	AK         strictjson.Base64 `json:"ak"`     // TPM2B_PUBLIC
	Secret     strictjson.Digest `json:"secret"` // SHA-256 of it
	Chip       strictjson.Hex    `json:"chip,omitempty"`
	Run        strictjson.Hex    `json:"run,omitempty"`
	Expires    time.Time         `json:"expires"`
}

const sessionVersion = 1

func (k session) encode() ([]byte, error) { return json.Marshal(k) }

func decodeSession(value []byte) (session, error) {
	var k session
	if err := strictjson.Unmarshal(value, &k); err != nil {
		return session{}, err
	}
	if k.Version != sessionVersion {
		return session{}, fmt.Errorf("version %d", k.Version)
	}
	return k, nil
}

// keptID is what a session is kept under: not what an Attestation could be.
func keptID(name string) string { return "tpm:" + name }

// chips are the claims that name the platform, in the order of preference.
func chips(f evidence.Format) []string {
	switch f {
	case "snp-report":
		return []string{"snp.chip"}
	case "tdx-quote":
		return []string{"tdx.platform_instance", "tdx.ppid"}
	}
	return nil
}

// claim returns the first of names that is there and not zero, or nil.
func claim(v *evidence.Verified, names ...string) []byte {
	found := map[string][]byte{}
	for name, value := range v.Claims.All() {
		if b, ok := value.Bytes(); ok && len(bytes.Trim(b, "\x00")) > 0 && slices.Contains(names, name) {
			found[name] = b
		}
	}
	for _, name := range names {
		if b := found[name]; b != nil {
			return b
		}
	}
	return nil
}

// Seen returns what a verified quote and the report below it say of the TPM, and the
// EK of it, SHA-256 of the TPMT_PUBLIC; false if v is no such quote. It is what
// store.Identities.See wants.
func Seen(v *evidence.Verified) (ek [32]byte, s store.Sighting, ok bool) {
	c, isQuote := vtpm.ClaimsOf(v)
	if !isQuote || len(v.Layers) != 1 {
		return ek, s, false
	}
	public, known := c.EK()
	if !known {
		return ek, s, false
	}
	report := v.Layers[0]
	ek, ok = digest(public.Name)
	return ek, Sighting(claim(report, chips(report.Format)...), claim(report, "snp.report_id"), c.Quote.Clock), ok
}

// AKs returns what a vtpm.Verifier is to ask for the AKs that were bound.
func AKs(ids store.Identities) vtpm.AKs { return aks{ids} }

type aks struct{ ids store.Identities }

// Activated implements [vtpm.AKs].
func (a aks) Activated(ctx context.Context, ek, ak vtpm.Name) (bool, error) {
	d, ok := digest(ek)
	if !ok {
		return false, nil
	}
	return a.ids.Activated(ctx, d, []byte(ak))
}

// digest returns the digest in a Name that has one of SHA-256, as EKs have.
func digest(n vtpm.Name) ([32]byte, bool) {
	if len(n) != 2+32 || binary.BigEndian.Uint16([]byte(n)) != uint16(vtpm.SHA256) {
		return [32]byte{}, false
	}
	return [32]byte([]byte(n[2:])), true
}

// unavailable is the error of a part that failed.
func unavailable(what string, err error) error {
	return fmt.Errorf("activation: %s: %w: %w", what, teebroker.Unavailable, err)
}

// fault returns err if it is a Refusal; anything else is Unavailable.
func fault(what string, err error) error {
	var r teebroker.Refusal
	if errors.As(err, &r) {
		return fmt.Errorf("activation: %s: %w", what, err)
	}
	return unavailable(what, err)
}
