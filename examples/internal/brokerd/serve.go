package brokerd

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/activation"
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/protocol/kbs"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/checkpoint"
)

// Budgets of guests whose evidence was accepted, and how long things may take.
const (
	perInstance = 32   // releases and redeliveries at once; one more every second
	perChip     = 4096 // the same, for all guests of a platform; 100 more a second

	headerTime = 5 * time.Second
	readTime   = 30 * time.Second
	writeTime  = 60 * time.Second
	idleTime   = 2 * time.Minute
	stopTime   = 20 * time.Second
)

// broker is everything that serves.
type broker struct {
	files    files
	db       *database
	tokens   tokens
	engine   *teebroker.Broker
	tpms     *activation.Service
	server   *v1.Server
	handler  http.Handler
	cache    *collateral.Cache // or nil
	keeper   *checkpoint.Keeper
	log      *slog.Logger
	software bool // attestation keys that can be copied
}

// Serve serves until ctx ends, and then finishes what it began. What a person shall
// do next goes to stdout, the log to stderr.
func Serve(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	b, err := o.open(ctx, slog.New(slog.NewJSONHandler(stderr, nil)))
	if err != nil {
		return err
	}
	defer b.close()
	config, err := o.tls()
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	scheme := "http"
	if config != nil {
		l, scheme = tls.NewListener(l, config), "https"
	}
	url := scheme + "://" + l.Addr().String()
	b.announce(o, url)
	if _, err := io.WriteString(stdout, o.suggest(b.files, url)); err != nil {
		return err
	}
	return serve(ctx, l, b)
}

func (o Options) check() error {
	switch {
	case (o.TLSCert == "") != (o.TLSKey == ""):
		return cli.Usagef("-tls-cert and -tls-key go together")
	case o.AllowSample && o.TrustSimulated == "":
		return cli.Usagef("-allow-sample-evidence-unsafe: only together with -trust-simulated, on state that is marked")
	}
	if o.TLSCert == "" {
		host, _, err := net.SplitHostPort(o.Listen)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return cli.Usagef("-listen %s: without -tls-cert and -tls-key, owners' tokens would be anybody's; serve on loopback, behind what ends TLS", o.Listen)
		}
	}
	return nil
}

func (b *broker) close() {
	if b.db != nil {
		b.db.close()
	}
	if b.cache != nil {
		_ = b.cache.Close() // what is kept is durable
	}
	b.tokens.close()
}

// open opens the state and puts everything together.
func (o Options) open(ctx context.Context, log *slog.Logger) (*broker, error) {
	b := &broker{log: log, tokens: tokens{}}
	if err := b.assemble(ctx, o); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *broker) assemble(ctx context.Context, o Options) (err error) {
	if b.files, err = o.files(); err != nil {
		return err
	}
	source, err := b.source(o)
	if err != nil {
		return err
	}
	verifiers, roots, err := o.verifiers(source)
	if err != nil {
		return err
	}
	keys, err := o.keys(ctx, b.files, b.tokens)
	if err != nil {
		return err
	}
	attestation, err := keys.Keys(b.tokens.opener(ctx))
	if err != nil {
		return err
	}
	if b.software = !attestation.InToken(); b.software && o.RequireHSM {
		return errors.New("-require-hsm: the attestation keys are in a file, where they can be copied; -attestation-key pkcs11:… names one in a token")
	}
	if err := b.openRecord(ctx, o, keys); err != nil {
		return err
	}
	tpms, err := withTPMs(verifiers, activation.AKs(b.db))
	if err != nil {
		return err
	}
	release, err := nonce.NewHMAC(nonce.Config{Key: keys.NonceKey(), Generation: b.db.Generation()})
	if err != nil {
		return err
	}
	verification, err := nonce.NewHMAC(nonce.Config{Key: verificationKey(keys.NonceKey()), Generation: b.db.Generation()})
	if err != nil {
		return err
	}
	wrap, err := keywrap.NewWrapKey("wrap-1", wrapKey(keys.CipherKey()))
	if err != nil {
		return err
	}
	requests, err := keys.RequestKeys()
	if err != nil {
		return err
	}
	if len(requests) == 0 {
		b.log.Warn("the key file has no request key: guests can't seal what they ask; broker key add -request makes one")
	}
	identities, err := o.spiffe(b.files, keys, time.Now())
	if err != nil {
		return err
	}
	var credentials teebroker.Credentials // nil, not an Authority that is
	if identities != nil {
		credentials = identities
	}
	b.engine, err = teebroker.New(teebroker.Config{
		Credentials: credentials, Verifier: verifiers, Issuer: kbs.Issuer(release), Nonces: b.db, Directory: b.db, Secrets: b.db, Kept: b.db,
		Ledger:   v1.Budget(b.db, v1.Rate{Burst: perInstance, Every: time.Second}, v1.Rate{Burst: perChip, Every: 10 * time.Millisecond}, nil),
		Identity: keys.Identity(), Keys: attestation, Wrap: wrap, RequestKeys: requests, Orders: store.Bodies{},
		SimulatedRoots: roots, SimulatedState: b.db.Simulated(),
	})
	if err != nil {
		return err
	}
	if b.tpms, err = activation.New(activation.Config{Broker: b.engine, Verifier: tpms, Nonces: b.db, Kept: b.db, Identities: b.db}); err != nil {
		return err
	}
	if err := b.finish(ctx, o, keys, verifiers, verification); err != nil {
		return err
	}
	if b.handler, err = b.serveKBS(o, keys); err != nil {
		return err
	}
	if b.handler, err = b.serveKeylime(o, verifiers, keys, b.handler); err != nil {
		return err
	}
	b.handler = unclean(b.serveBundle(identities, b.handler))
	return nil
}

// verificationKey returns the key of the nonces of verification, which has no
// other use.
func verificationKey(key [32]byte) [32]byte {
	return sha256.Sum256(append([]byte("teebroker/broker/verification nonces/v1 "), key[:]...))
}

// wrapKey makes another key of the one of the key file, for the wrapped keys of
// epochs.
func wrapKey(key [32]byte) [32]byte {
	return sha256.Sum256(append([]byte("teebroker/broker/wrap key/v1 "), key[:]...))
}

// finish brings the state up to what the options say, and makes the server.
func (b *broker) finish(ctx context.Context, o Options, keys *keyfile.File, verifiers evidence.Verifiers, verification nonce.Issuer) error {
	warning, err := ownerToken(ctx, b.files.token, b.db)
	switch {
	case err != nil:
		return err
	case warning != "":
		b.log.Warn(warning)
	}
	if err := writeID(b.files.id, b.engine.ID()); err != nil {
		return err
	}
	policies, err := o.operatorPolicies(ctx, b.db)
	if err != nil {
		return err
	}
	identities, err := o.identities(b.db, keys)
	if err != nil {
		return err
	}
	b.server, err = v1.New(v1.Config{
		Broker: b.engine, Allow: v1.Suites(), Keys: b.engine.KeysDocument,
		Owner: b.db, Tenants: b.db, Operator: policies,
		Verify:  &v1.VerifyConfig{Verifier: verifiers, Issuer: verification, Nonces: b.db},
		Explain: &v1.ExplainConfig{Verifier: verifiers, Decoders: Decoders()}, Identities: identities, TPMs: b.tpms,
		PerSource: v1.Rate{Burst: 2000, Every: 5 * time.Millisecond}, // a host's guests may share its address
		Ready:     b.db.ready, Observe: b.observe, Checkpoints: b.keeper,
	})
	return err
}

// observe logs a request. Probes that went well are not logged.
func (b *broker) observe(e v1.Event) {
	if e.Code == "" && (e.Route == v1.PathHealth || e.Route == v1.PathReady || e.Route == v1.PathMetrics) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request", e.ID), slog.String("method", e.Method), slog.String("route", e.Route),
		slog.String("source", e.Source), slog.Int("status", e.Status), slog.Duration("took", e.Duration),
	}
	if e.Tenant != "" {
		attrs = append(attrs, slog.String("tenant", e.Tenant))
	}
	if e.Sealed {
		attrs = append(attrs, slog.Bool("sealed", true))
	}
	level := slog.LevelInfo
	if e.Err != nil {
		attrs = append(attrs, slog.String("code", e.Code), slog.String("error", e.Err.Error()))
		if e.Status >= http.StatusInternalServerError {
			level = slog.LevelError
		}
	}
	b.log.LogAttrs(context.Background(), level, "request", attrs...)
}

// announce says where everything is, and everything that should worry an operator.
// Keys and tokens are named by their files only.
func (b *broker) announce(o Options, url string) {
	id := b.engine.ID()
	b.log.Info("serving", "url", url, "broker_id", base64URL(id[:]), "state", b.files.dir,
		"keys", b.files.keys, "owner_token", b.files.token, "broker_id_file", b.files.id, "simulated", b.db.Simulated())
	for _, w := range b.db.Warnings() {
		b.log.Warn(w)
	}
	if b.software {
		b.log.Warn("the attestation keys are in a file: whoever reads it unwraps what owners wrapped; every receipt says so")
	}
	if b.db.Simulated() {
		b.log.Warn("simulated platforms are trusted: this state releases secrets to guests that prove nothing; every receipt says so")
	} else if o.Collateral == "" && !o.Fetch {
		b.log.Warn("without -collateral or -fetch nothing is known of revocation or TCBs, and all evidence is refused as unavailable")
	}
}

// tls returns what to serve with, or nil for plain HTTP.
func (o Options) tls() (*tls.Config, error) {
	if o.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("-tls-cert, -tls-key: %w", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequestClientCert, // known by its key, see protocol/v1
		NextProtos: []string{"http/1.1"},
	}, nil
}

// serve answers on l until ctx ends, and then for as long as answers take.
func serve(ctx context.Context, l net.Listener, b *broker) error {
	s := &http.Server{
		Handler: b.handler, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime,
		IdleTimeout: idleTime, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
	}
	background, end := context.WithCancel(ctx)
	var refreshing sync.WaitGroup
	refreshing.Go(func() { b.refresh(background) })
	open, stopLooking := context.WithCancel(context.WithoutCancel(ctx)) // until the last answer
	refreshing.Go(func() { b.look(open) })
	defer refreshing.Wait()
	defer stopLooking()
	defer end()
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	b.log.Info("stopping")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	return s.Shutdown(grace)
}
