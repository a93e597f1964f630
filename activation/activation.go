// Package activation binds the attestation keys of vTPMs to the TEEs that they run
// in, by credential activation: TPM 2.0 Part 1, section 24.
//
// A guest shows the report of its TEE, which names the endorsement key of its TPM
// and was asked for with a nonce of the broker. If the instance that the guest
// claims to be would be released a secret for that report, a [Service] encrypts a
// secret to that EK, for the attestation key that the guest named. Only the TPM
// that has the EK can read it, and only while it has this AK: whoever shows the
// secret has shown that both are in one TPM, and the attributes of the AK are then
// true, since the Name in the credential covers them. With the secret the AK signs
// a quote, whose counts tell one TPM from its clone.
//
// What was bound is in store.Identities, and [AKs] is how a vtpm.Verifier asks for
// it. It does not follow that a TPM has good PCRs, nor that there is but one copy
// of its state: store.Identities says when two copies are noticed.
package activation

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/vtpm"
)

// Config configures a [Service]. Fields without a stated default are required.
type Config struct {
	Broker     *teebroker.Broker // judges the reports
	Verifier   *vtpm.Verifier    // verifies them
	Nonces     nonce.Store       // of Broker
	Kept       teebroker.Kept    // has sessions
	Identities store.Identities  // of the same state as Broker

	Life time.Duration    // of a session; if zero, 2 minutes
	Time func() time.Time // of sessions; if nil, time.Now
}

// Service is a teebroker.TPMs. It is safe for concurrent use.
type Service struct{ cfg Config }

var _ teebroker.TPMs = (*Service)(nil)

// New returns a Service, or an error that names the field of cfg at fault.
func New(cfg Config) (*Service, error) {
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Broker", cfg.Broker == nil},
		{"Verifier", cfg.Verifier == nil},
		{"Nonces", cfg.Nonces == nil},
		{"Kept", cfg.Kept == nil},
		{"Identities", cfg.Identities == nil},
	} {
		if f.missing {
			return nil, fmt.Errorf("activation: Config.%s is required", f.name)
		}
	}
	if cfg.Life == 0 {
		cfg.Life = 2 * time.Minute
	}
	if cfg.Life < 0 || cfg.Life > time.Hour {
		return nil, fmt.Errorf("activation: Config.Life is %v, want up to an hour", cfg.Life)
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	return &Service{cfg}, nil
}

// Challenge implements [teebroker.TPMs].
func (s *Service) Challenge(ctx context.Context) (teebroker.Challenge, error) {
	return s.cfg.Broker.Challenge(ctx, nonce.ProfileVTPM)
}

// Bind implements [teebroker.TPMs].
func (s *Service) Bind(ctx context.Context, b teebroker.TPMBinding) (teebroker.TPMCredential, error) {
	ak, err := vtpm.ParseAK(b.AK)
	if err != nil {
		return teebroker.TPMCredential{}, err
	}
	want, err := nonce.EK{Broker: b.Broker, Tenant: b.Tenant, Instance: b.Instance, AK: b.AK}.Bind(b.Nonce)
	if err != nil {
		return teebroker.TPMCredential{}, fmt.Errorf("activation: %w: %w", teebroker.MalformedRequest, err)
	}
	if len(b.Report.Layers) != 0 || len(b.Report.Items) > maxItems || len(b.Items) > maxItems {
		return teebroker.TPMCredential{}, fmt.Errorf("activation: %w: too many items, or layers below the report", teebroker.MalformedRequest)
	}
	var found attested
	inst, err := s.cfg.Broker.Admit(ctx, teebroker.Visit{
		Profile: nonce.ProfileVTPM, Nonce: b.Nonce, Tenant: b.Tenant, Instance: b.Instance, Broker: b.Broker,
		Request: requestID(b, want),
		Verify: func(ctx context.Context) ([]*evidence.Verified, error) {
			if found, err = s.attested(ctx, b, ak, want); err != nil {
				return nil, err
			}
			return []*evidence.Verified{found.report}, nil
		},
	})
	if err != nil {
		return teebroker.TPMCredential{}, err
	}
	return s.challenge(ctx, inst, found, ak)
}

// maxItems bounds what comes with a report, and what it is of.
const maxItems = 64

// requestID is what the nonce is redeemed for: teebroker.RequestID of the report and
// digests of what it is of.
func requestID(b teebroker.TPMBinding, want evidence.Binding) [32]byte {
	all := []evidence.Evidence{b.Report}
	bindings := []evidence.Binding{want}
	for _, it := range b.Items {
		all = append(all, evidence.Evidence{Format: evidence.Format(it.Type), Raw: it.Data})
		bindings = append(bindings, want)
	}
	return teebroker.RequestID(all, bindings)
}

// attested is an EK that a report vouches for.
type attested struct {
	ek     vtpm.Public
	report *evidence.Verified
}

// attested verifies the report of b and what it is of, which has to be made for want.
func (s *Service) attested(ctx context.Context, b teebroker.TPMBinding, ak vtpm.Public, want evidence.Binding) (attested, error) {
	var blob, ek []byte
	for _, it := range b.Items {
		switch it.Type {
		case vtpm.HCL:
			blob = it.Data
		case vtpm.EK:
			ek = it.Data
		}
	}
	if blob == nil {
		ek, report, err := s.cfg.Verifier.VerifyEK(ctx, b.Report, b.Items, want)
		if err != nil {
			return attested{}, err
		}
		return attested{*ek, report}, nil
	}
	if len(b.Items) != 2 || ek == nil {
		return attested{}, unlike(evidence.Malformed, "items", "not a blob and an EK")
	}
	return s.azure(ctx, b.Report, blob, ek, ak, want)
}

// azure is attested for Azure's paravisor, which names keys and not their public
// areas: those that came along have to be of the same keys.
func (s *Service) azure(ctx context.Context, report evidence.Evidence, blob, public []byte, ak vtpm.Public, want evidence.Binding) (attested, error) {
	ek, err := vtpm.ParseEK(public)
	if err != nil {
		return attested{}, err
	}
	said, got, err := s.cfg.Verifier.VerifyHCL(ctx, blob, report)
	switch {
	case err != nil:
		return attested{}, err
	case !want.MatchExact(said.UserData[:]):
		return attested{}, unlike(evidence.NotBound, "user-data", "not asked for with this nonce")
	case said.EK == nil || !said.EK.Equal(ek.Key):
		return attested{}, unlike(evidence.NotBound, vtpm.EK, "not HCLEkPub")
	case !said.AK.Equal(ak.Key):
		return attested{}, unlike(evidence.NotBound, vtpm.AK, "not HCLAkPub")
	}
	return attested{ek, got}, nil
}

func unlike(reason evidence.Reason, field, why string) error {
	return &evidence.Error{Format: vtpm.Format, Reason: reason, Check: "binding", Field: field, Err: errors.New(why)}
}

// challenge makes a session: what the guest has to show, and all that follows if it
// does.
func (s *Service) challenge(ctx context.Context, inst teebroker.Instance, found attested, ak vtpm.Public) (teebroker.TPMCredential, error) {
	secret := make([]byte, secretSize)
	defer clear(secret)
	rand.Read(secret)
	blob, err := vtpm.MakeCredential(found.ek, ak.Name, secret)
	if err != nil {
		return teebroker.TPMCredential{}, unavailable("credential", err)
	}
	agent, err := vtpm.AgentID(found.ek.Key)
	if err != nil {
		return teebroker.TPMCredential{}, unavailable("agent", err)
	}
	expires := s.cfg.Time().Add(s.cfg.Life)
	if found.report.NotAfter.Before(expires) {
		expires = found.report.NotAfter
	}
	value, err := session{
		Version: sessionVersion, Tenant: inst.Tenant, Instance: inst.ID, Generation: inst.Generation,
		EK: found.ek.Area(), AgentID: agent, AK: ak.Marshal(), Secret: sha256.Sum256(secret), Expires: expires,
		Chip: claim(found.report, chips(found.report.Format)...), Run: claim(found.report, "snp.report_id"),
	}.encode()
	if err != nil {
		return teebroker.TPMCredential{}, unavailable("session", err)
	}
	var id [32]byte
	rand.Read(id[:])
	name := base64.RawURLEncoding.EncodeToString(id[:])
	if err := s.cfg.Kept.Put(ctx, keptID(name), value, expires); err != nil {
		return teebroker.TPMCredential{}, unavailable("session", err)
	}
	return teebroker.TPMCredential{Session: name, Blob: blob, Expires: expires}, nil
}

// secretSize is as long as a secret can be.
const secretSize = 32

// Activate implements [teebroker.TPMs]. A secret that is wrong costs nothing; one
// that is right is spent, whatever follows.
func (s *Service) Activate(ctx context.Context, p teebroker.TPMProof) (teebroker.TPMActivated, error) {
	var none teebroker.TPMActivated
	if id, err := base64.RawURLEncoding.Strict().DecodeString(p.Session); err != nil || len(id) != 32 || len(p.Secret) != secretSize {
		return none, fmt.Errorf("activation: %w: not a session or a secret", teebroker.MalformedRequest)
	}
	value, err := s.cfg.Kept.Get(ctx, keptID(p.Session))
	if err != nil {
		return none, fault("session", err)
	}
	k, err := decodeSession(value)
	if err != nil {
		return none, unavailable("session", err)
	}
	if !s.cfg.Time().Before(k.Expires) {
		return none, fmt.Errorf("activation: the session is over: %w", teebroker.Gone)
	}
	if sum := sha256.Sum256(p.Secret); subtle.ConstantTimeCompare(sum[:], k.Secret[:]) != 1 {
		return none, fmt.Errorf("activation: %w: not the secret of this session", teebroker.Denied)
	}
	ak, err := vtpm.ParseAK(k.AK)
	if err != nil {
		return none, unavailable("session", err)
	}
	want, err := nonce.QuoteBinding(p.Session)
	if err != nil {
		return none, unavailable("session", err)
	}
	q, err := ak.VerifyQuote(p.Quote, want)
	if err != nil {
		return none, err
	}
	if err := s.spend(ctx, p, k); err != nil {
		return none, err
	}
	return s.bind(ctx, k, ak, q)
}

// spend takes the session, once.
func (s *Service) spend(ctx context.Context, p teebroker.TPMProof, k session) error {
	once := nonce.Nonce(sha256.Sum256([]byte("teebroker/v1/ek-session" + p.Session)))
	err := s.cfg.Nonces.Redeem(ctx, once, sha256.Sum256(p.Quote), k.Expires)
	var spent nonce.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &spent):
		return fmt.Errorf("activation: %w", teebroker.Refusal(spent))
	}
	return unavailable("session", err)
}

// bind makes the AK one of the EK's.
func (s *Service) bind(ctx context.Context, k session, ak vtpm.Public, q vtpm.Quote) (teebroker.TPMActivated, error) {
	id, err := s.cfg.Identities.Bind(ctx, store.Bound{
		Tenant: k.Tenant, Instance: k.Instance, Generation: k.Generation, Public: k.EK, AgentID: k.AgentID,
		AK: []byte(ak.Name), Seen: Sighting(k.Chip, k.Run, q.Clock),
	})
	switch {
	case errors.Is(err, store.NotFound):
		return teebroker.TPMActivated{}, fmt.Errorf("activation: %w", teebroker.NoInstance)
	case err != nil:
		return teebroker.TPMActivated{}, fault("identity", err)
	}
	return teebroker.TPMActivated{EK: id.EK, AgentID: id.AgentID, AK: []byte(ak.Name)}, nil
}

// Sighting is what a quote says of its TPM, on a platform that the report below it
// names.
func Sighting(chip, run []byte, c vtpm.Clock) store.Sighting {
	return store.Sighting{
		Chip: bytes.Clone(chip), Run: bytes.Clone(run), ResetCount: c.ResetCount, RestartCount: c.RestartCount, Clock: c.Time,
	}
}
