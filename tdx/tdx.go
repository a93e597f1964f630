// Package tdx verifies Intel TDX quotes, versions 4 and 5, of TDX 1.0 and 1.5.
//
// A [Quote] is a view of bytes that somebody sent. A [Verifier] turns Evidence
// into [Claims], which then hold: a pinned root of Intel's vouches for a PCK, the
// key of one platform at its security versions; that key signed for a quoting
// enclave of Intel's, which made the attestation key; that key signed exactly
// these bytes; nobody revoked a key on the way; and the guest asked for the
// Binding to be signed. Claims.TCB says how platform, TDX module and quoting
// enclave stand to what Intel demands, by TCB Info and QE identity that are
// current and signed by Intel.
//
// It does not follow that the guest is a good one, that the platform is up to date
// or that the host may not debug the TD: these are claims, to be judged. Nor does
// it follow that the platform stands where it should. A platform whose keys were
// taken over its memory bus signs anything, and stays UpToDate; a genuine quote
// can be relayed from another machine: what is released has to be encrypted to a
// key in the Binding, and platforms that count should be listed by PPID or
// platform instance.
//
// Event logs may come along as Items. One that does not make the RTMRs what the
// quote says they are is refused; of one that does, Claims.Events have what was
// hashed.
//
// Documents: Intel TDX DCAP Quoting Library API (quotes), Intel TDX Module ABI (TD
// reports), Intel SGX PCK Certificate and CRL Profile, Intel PCS API version 4 (TCB
// Info, identities, lists and the algorithm over them).
package tdx

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/lru"
	"github.com/teebroker/teebroker/internal/pki"
)

// Format is the Evidence format of a raw quote.
const Format evidence.Format = "tdx-quote"

// Config says what makes a quote genuine and current. What makes it acceptable is
// a matter of policy.
type Config struct {
	Anchors [][]byte // root CAs in DER; required, usually [Intel]

	// Source has TCB Info, QE identity and CRLs; required. It may have several of
	// each: TCB Info and QE identity of the newest evaluation count of which both
	// are current, such as Intel's early set, and the list issued last.
	Source evidence.Source

	// Time returns the time at which validity is judged. If nil, time.Now.
	Time func() time.Time

	// CacheSize is how many platforms with verified keys are remembered. If zero, 4096.
	CacheSize int

	// StaleGrace is how long past its nextUpdate a CRL, TCB Info or QE identity is
	// still taken when the Source has nothing newer; certificates have no such
	// time. The claim "tdx.collateral.age" lets a policy ask for less. NotAfter of
	// results includes it.
	StaleGrace time.Duration

	// MinEvaluationDataNumber is the least tcbEvaluationDataNumber that TCB Info
	// and QE identity may have. Signed sets stay valid for a month, so who controls
	// the Source can show an earlier one after a TCB recovery. A caller that keeps
	// the highest TCB.EvaluationDataNumber it was given, and sets it here when it
	// starts again, can't be shown an earlier one than it has seen.
	MinEvaluationDataNumber uint32

	// SkipRevocationUnsafe accepts signers without CRLs. SkipTCBUnsafe leaves out
	// TCB Info and QE identity: any enclave that a PCK signed for is then taken for
	// Intel's quoting enclave, and nothing is known of the TCB. Results say so in
	// Skipped; an appraisal refuses them unless its policy allows it, and a broker
	// always.
	SkipRevocationUnsafe, SkipTCBUnsafe bool
}

// defaultCacheSize is some tens of megabytes.
const defaultCacheSize = 4096

// Verifier authenticates quotes; see [evidence.Verifier] and [Checks].
//
// The PCK and its CA are taken from the quote, which has them signed by a pinned
// root. What says how they stand is taken from the Source only: an Attester could
// choose the oldest that is still valid.
//
// Certificates, quoting enclaves and collateral, once verified, are remembered by
// the hash of their exact bytes. Their time and revocation are judged anew at each
// use, and no verdict is remembered.
type Verifier struct {
	cfg     Config
	anchors map[string]*anchor // by DER

	endorsements *lru.Cache[[32]byte, *endorsement]
	links        *lru.Cache[[32]byte, link]
	infos        *lru.Cache[cacheKey, *tcbInfo]
	identities   *lru.Cache[cacheKey, *qeIdentity]
	crls         *lru.Cache[cacheKey, *pki.CRL]
}

// NewVerifier returns a Verifier, or an error that names the field of cfg at
// fault. It checks that the anchors are roots, but not that they are valid now. It
// does not keep cfg.Anchors.
func NewVerifier(cfg Config) (*Verifier, error) {
	switch {
	case len(cfg.Anchors) == 0:
		return nil, errors.New("tdx: Config.Anchors: none")
	case cfg.Source == nil:
		return nil, errors.New("tdx: Config.Source: none")
	case cfg.StaleGrace < 0:
		return nil, errors.New("tdx: Config.StaleGrace: negative")
	case cfg.CacheSize < 0:
		return nil, errors.New("tdx: Config.CacheSize: negative")
	case cfg.CacheSize == 0:
		cfg.CacheSize = defaultCacheSize
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	anchors, err := newAnchors(cfg.Anchors)
	if err != nil {
		return nil, err
	}
	cfg.Anchors = nil
	return newVerifier(cfg, anchors), nil
}

// newVerifier returns a Verifier that remembers nothing.
func newVerifier(cfg Config, anchors map[string]*anchor) *Verifier {
	return &Verifier{
		cfg:          cfg,
		anchors:      anchors,
		endorsements: lru.New[[32]byte, *endorsement](cfg.CacheSize),
		links:        lru.New[[32]byte, link](keptLinks),
		infos:        lru.New[cacheKey, *tcbInfo](keptDocuments),
		identities:   lru.New[cacheKey, *qeIdentity](keptDocuments),
		crls:         lru.New[cacheKey, *pki.CRL](keptCRLs),
	}
}

// Verify implements [evidence.Verifier]. On success the result has [*Claims].
func (v *Verifier) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	now := v.cfg.Time()
	q, log, err := open(ev)
	if err != nil {
		return nil, err
	}
	if err := q.checkBinding(want); err != nil {
		return nil, err
	}
	e, err := v.endorse(q.data)
	if err != nil {
		return nil, err
	}
	end, err := e.until(now)
	if err != nil {
		return nil, err
	}
	if !verifyRaw(e.key, q.data.signature, q.signed) {
		return nil, fail(checkSignature, evidence.BadSignature, "Quote Signature", nil)
	}
	events, err := q.checkEvents(log)
	if err != nil {
		return nil, err
	}
	r := &run{v: v, now: now, end: end}
	tcb, err := r.status(ctx, q, e)
	if err != nil {
		return nil, err
	}
	data := q.ReportData()
	return &evidence.Verified{
		Format:    Format,
		Claims:    newClaims(q, e, events, tcb, r),
		Bound:     want.Checked(),
		Signed:    data[:],
		Root:      e.root.sum,
		Skipped:   r.skipped,
		CheckedAt: now,
		NotAfter:  r.end,
	}, nil
}

// status asks the Source how what stands behind q is now. Its errors name the
// checks that were skipped before.
func (r *run) status(ctx context.Context, q Quote, e *endorsement) (TCB, error) {
	err := r.checkRevocation(ctx, e)
	if err != nil {
		return TCB{}, err
	}
	tcb, err := r.checkTCB(ctx, q, e)
	var failed *evidence.Error
	if errors.As(err, &failed) {
		failed.Skipped = r.skipped
	}
	return tcb, err
}

// open parses copies of the quote that ev is and of the event log that came along.
func open(ev evidence.Evidence) (Quote, EventLog, error) {
	switch {
	case ev.Format != Format:
		return Quote{}, EventLog{}, fail(checkFormat, evidence.Unsupported, "format", nil)
	case len(ev.Layers) != 0:
		return Quote{}, EventLog{}, fail(checkFormat, evidence.Malformed, "layers", errors.New("a quote rests on no other evidence"))
	}
	log, err := openItems(ev.Items)
	if err != nil {
		return Quote{}, EventLog{}, err
	}
	// One byte more than a quote may have is enough to see that there is one more.
	q, err := ParseQuote(bytes.Clone(ev.Raw[:min(len(ev.Raw), MaxQuoteSize+1)]))
	return q, log, err
}

func (q Quote) checkBinding(want evidence.Binding) error {
	data := q.ReportData()
	if !want.MatchPadded(&data) {
		return fail(checkBinding, evidence.NotBound, "REPORTDATA", nil)
	}
	return nil
}
