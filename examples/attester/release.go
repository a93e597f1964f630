package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	guestside "github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

const aboutRelease = `
Ask a broker for a secret of this guest, as often as it takes.

The hardware signs the broker's nonce, a key made for this boot and what is asked
for, so that nobody on the way can exchange any of it or open the answer. The
secret is used only if the broker that -identity names signed for it; leave that
out only if the instance admits guests that pin no broker. Prints the SHA-256 of
the secret, or writes it to -out with mode 0600:

  attester release -tee snp -broker https://broker.example:8443 -tenant default \
    -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose disk \
    -identity broker.id -out secret.bin

As a guest of a simulated platform, which was launched for the instance:

  attester release -tee snp -simulate sim -broker http://127.0.0.1:8080 \
    -tenant default -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose disk -identity broker.id

A secret with epochs is the key of state that the host can't put back. -state names
the directory of that state, of two files and the wrapped key of the epoch, for
backups; the broker has the latter too. The state itself goes
to -out, and only after the broker acknowledged the boot. A first boot makes 32 random
bytes; -state-in replaces the state afterwards, durably:

  attester release -tee snp -broker https://broker.example:8443 -tenant default \
    -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm \
    -identity broker.id -state /var/lib/guest -out state.bin

With -identity what is asked is sealed to the broker's request key, so that the host sees
sizes and times only; without such a key nothing is asked, unless -allow-unsealed is
given. The clock has to be right within the hour that the broker's keys document is good
for. Plain HTTP is as good as TLS then.
Exit status: 0 the secret, 1 the broker refused, 2 it can't be reached.`

// release is one guest that asks for one secret.
type release struct {
	guest     *guest
	machine   machine
	broker    string
	purpose   string
	wrapped   string
	presented []byte // in place of what is in wrapped
	identity  string
	ca        string
	out       string
	state     string
	stateIn   string
	every     bool
	suite     string
	timeout   time.Duration
	json      bool
	unsealed  bool // where the broker has no request key

	confirmed uint64 // the epoch, of a secret with epochs

	// What is done with a state: before it is confirmed, if not nil, and after.
	inspect func(value []byte) ([32]byte, error)
	use     func(ctx context.Context, st *state.State, proof [32]byte) ([]byte, error)

	sleep func(context.Context, time.Duration) error // between tries
}

func releaseCommand(m machine) cli.Command {
	return cli.Command{Name: "attester release", About: aboutRelease, Env: releaseEnv, Setup: releaseSetup(m, sleep)}
}

// releaseSetup is the Setup of a guest on m that waits between tries with sleep.
func releaseSetup(m machine, sleep func(context.Context, time.Duration) error) func(*flag.FlagSet) cli.Action {
	return func(fs *flag.FlagSet) cli.Action {
		r := &release{guest: guestFlags(fs), machine: m, sleep: sleep}
		r.use = r.keep
		r.flags(fs)
		fs.StringVar(&r.purpose, "purpose", "", "`NAME` of the secret")
		fs.StringVar(&r.wrapped, "wrapped", "", "present the wrapped blob in this `FILE`")
		fs.StringVar(&r.out, "out", "", "write the secret to `FILE`, mode 0600")
		fs.StringVar(&r.state, "state", "", "the secret has epochs, and the state under it is in this `DIR`")
		fs.StringVar(&r.stateIn, "state-in", "", "with -state: store this `FILE` as the state, after the boot")
		return r.act
	}
}

// flags registers the flags of every guest that asks a broker.
func (r *release) flags(fs *flag.FlagSet) {
	fs.StringVar(&r.broker, "broker", "", "`URL` of the broker")
	fs.StringVar(&r.identity, "identity", "", "the broker id is in this `FILE`")
	fs.StringVar(&r.ca, "ca", "", "`PEM` of the authority of the broker's certificate (default the system's)")
	fs.BoolVar(&r.every, "write-mode", false, "with -state: the purpose is of mode write, and each change is announced")
	fs.StringVar(&r.suite, "suite", string(keywrap.MLKEM768X25519), "`SUITE` of the key")
	fs.DurationVar(&r.timeout, "timeout", time.Minute, "give up after this `DURATION`")
	fs.BoolVar(&r.unsealed, "allow-unsealed", false, "with -identity: ask in the clear if no request key of the broker can be had, which the host can see to")
	fs.BoolVar(&r.json, "json", false, "print one JSON object")
}

func releaseEnv(flag string) string {
	switch flag {
	case "broker":
		return "TEEBROKER_URL"
	case "identity":
		return "TEEBROKER_IDENTITY_FILE"
	case "ca":
		return cli.Variable(flag)
	}
	return ""
}

func (r *release) act(args []string, stdout io.Writer) (bool, error) {
	switch {
	case len(args) != 0:
		return false, cli.Usagef("unexpected argument %q", args[0])
	case r.guest.tee == "" || r.broker == "" || r.guest.instance == nil || r.purpose == "":
		return false, cli.Usagef("-tee, -broker, -instance and -purpose are required")
	case r.state == "" && (r.stateIn != "" || r.every):
		return false, cli.Usagef("-state-in and -write-mode go with -state")
	case r.state != "" && r.identity == "":
		return false, cli.Usagef("-state needs -identity: anybody could say that there is no state yet")
	}
	return r.answer(stdout, r.deliver)
}

// answer asks, and has what came of it delivered.
func (r *release) answer(stdout io.Writer, deliver func(io.Writer, []byte, released) error) (bool, error) {
	if r.guest.tenant == "" {
		r.guest.tenant = v1.DefaultTenant
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	secret, got, err := r.run(ctx)
	defer clear(secret)
	if errors.Is(err, v1.ErrNoRequestKey) {
		return false, fmt.Errorf("%w (-allow-unsealed asks all the same)", err)
	}
	var p *v1.Problem
	if errors.As(err, &p) && p.Status < 500 {
		return false, r.refused(stdout, p)
	}
	if err != nil {
		return false, err
	}
	return true, deliver(stdout, secret, got)
}

// released is what -json prints.
type released struct {
	Release strictjson.UUID `json:"release"`
	SHA256  string          `json:"sha256"`
	Bytes   int             `json:"bytes"`
	Pinned  bool            `json:"pinned"` // the broker's receipt was checked
	Tries   int             `json:"tries"`
	Epoch   uint64          `json:"epoch,omitempty"` // that was confirmed
	Out     string          `json:"out,omitempty"`
}

func (r *release) deliver(stdout io.Writer, secret []byte, got released) error {
	sum := sha256.Sum256(secret)
	got.SHA256, got.Bytes, got.Pinned, got.Out = fmt.Sprintf("%x", sum), len(secret), r.identity != "", r.out
	if r.out != "" {
		if err := cli.WriteFile(r.out, secret, 0o600); err != nil {
			return err
		}
	}
	if r.json {
		return cli.WriteJSON(stdout, got)
	}
	p := cli.NewPage(stdout)
	p.Line(cli.Cell{Text: got.SHA256, Style: cli.Good}, cli.Cell{Text: fmt.Sprintf("%d bytes, release %s", got.Bytes, got.Release)})
	if !got.Pinned {
		p.Line(cli.Cell{Text: "nobody says who sent it: no -identity was given", Style: cli.Warn})
	}
	if r.out != "" {
		p.Line(cli.Cell{Text: "in " + r.out})
	}
	_, err := p.WriteTo(stdout)
	return err
}

func (r *release) refused(stdout io.Writer, problem *v1.Problem) error {
	if r.json {
		return cli.WriteJSON(stdout, map[string]any{"refused": problem})
	}
	p := cli.NewPage(stdout)
	p.Line(cli.Cell{Text: "refused: " + problem.Code, Style: cli.Bad}, cli.Cell{Text: problem.Title})
	_, err := p.WriteTo(stdout)
	return err
}

// run returns the secret, the caller's to clear.
func (r *release) run(ctx context.Context) ([]byte, released, error) {
	cfg := guestside.Config{Tenant: r.guest.tenant, Instance: *r.guest.instance, Purpose: r.purpose}
	if r.identity != "" {
		id, err := cli.ReadBrokerID(r.identity)
		if err != nil {
			return nil, released{}, err
		}
		cfg.Broker = id[:]
	}
	client, err := r.client(cfg.Broker)
	if err != nil {
		return nil, released{}, err
	}
	cfg.Wrapped = r.presented
	if r.wrapped != "" {
		if cfg.Wrapped, err = cli.ReadFile(r.wrapped, v1.MaxRelease); err != nil {
			return nil, released{}, err
		}
	}
	// One key for every try: what was sealed to it is never sealed to another.
	if cfg.Key, err = keywrap.Generate(keywrap.Suite(r.suite)); err != nil {
		return nil, released{}, err
	}
	s, err := guestside.New(cfg)
	if err != nil {
		return nil, released{}, err
	}
	return r.ask(ctx, client, s)
}

// client returns what asks the broker, in sealed requests if the guest pins it.
func (r *release) client(broker []byte) (*v1.Client, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if r.ca != "" {
		b, err := cli.ReadFile(r.ca, 1<<20)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, errors.New("-ca: no certificates")
		}
	}
	var sealTo [32]byte
	copy(sealTo[:], broker)
	return v1.NewClient(v1.ClientConfig{
		SealTo: sealTo, AllowUnsealed: r.unsealed && broker != nil,
		URL: r.broker, AllowPlainHTTP: true, // all that is answered is compared
		HTTP: &http.Client{
			Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
}

// Tries: of the same bytes, and of a nonce with evidence for it.
const (
	sameTries  = 3
	freshTries = 8
	pause      = 500 * time.Millisecond
)

// ask follows the rules of section 5 of the protocol: the identical bytes first; a
// new nonce and new evidence, with the same key, if the nonce was spent or the
// outcome is not known. The secret is the first that opens.
func (r *release) ask(ctx context.Context, c *v1.Client, s *guestside.Session) ([]byte, released, error) {
	var got released
	var last error
	for fresh := range freshTries {
		if fresh > 0 {
			if err := r.sleep(ctx, pause<<min(fresh-1, 4)); err != nil {
				break
			}
		}
		body, err := r.request(ctx, c, s)
		if err != nil && !again(err) {
			return nil, got, err
		}
		if last = err; err != nil {
			continue
		}
		got.Tries++
		secret, id, err := r.send(ctx, c, s, body)
		if err == nil {
			got.Release, got.Epoch = id, r.confirmed
			return secret, got, nil
		}
		if last = err; !again(err) && !errors.Is(err, teebroker.NonceSpent) && !errors.Is(err, guestside.NotOpened) {
			return nil, got, err
		}
	}
	return nil, got, last
}

// again reports whether a try decided nothing: the broker was out of reach, said so,
// or asked to come back.
func again(err error) bool {
	var p *v1.Problem
	if !errors.As(err, &p) {
		return !errors.Is(err, teebroker.ErrKeys) && !errors.As(err, new(guestside.Error)) && !errors.As(err, new(*localError))
	}
	return errors.Is(err, teebroker.Unavailable) || errors.Is(err, teebroker.InProgress) || errors.Is(err, teebroker.RateLimited)
}

// localError is one that asking again does not help against.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// request takes a nonce and has it signed with all that is asked for.
func (r *release) request(ctx context.Context, c *v1.Client, s *guestside.Session) ([]byte, error) {
	challenge, err := c.Challenge(ctx, nonce.ProfileV1)
	if err != nil {
		return nil, err
	}
	ev, err := r.evidence(s, challenge.Nonce)
	if err != nil {
		return nil, &localError{err}
	}
	return v1.MarshalRequest(s.Request(challenge.Nonce, ev))
}

// evidence has n signed by the platform.
func (r *release) evidence(s *guestside.Session, n nonce.Nonce) (evidence.Evidence, error) {
	format := map[string]evidence.Format{teeSNP: snp.Format, teeTDX: tdx.Format, teeCCA: cca.Format}[r.guest.tee]
	binding, err := s.Bind(n, format)
	if err != nil {
		return evidence.Evidence{}, err
	}
	g := *r.guest
	if g.dir == "" {
		// Whoever launched a real guest decided for whom.
		g.tenant, g.instance = "", nil
	}
	q, err := g.quote(r.machine, binding)
	if err != nil {
		return evidence.Evidence{}, err
	}
	return q.evidence(format), nil
}

// evidence returns q with what a guest sends along. Status, such as revocation, is
// the broker's to know.
func (q quote) evidence(format evidence.Format) evidence.Evidence {
	ev := evidence.Evidence{Format: format, Raw: q.raw}
	for _, item := range []struct{ file, kind string }{{tableFile, snp.CertTable}, {vekFile, snp.VEK}, {ccelFile, tdx.CCEL}} {
		if data := q.endorsements[item.file]; data != nil {
			ev.Items = append(ev.Items, evidence.Item{Type: item.kind, Data: data})
		}
	}
	return ev
}

// send sends body until there is an answer to it, and opens that.
func (r *release) send(ctx context.Context, c *v1.Client, s *guestside.Session, body []byte) ([]byte, [16]byte, error) {
	var last error
	for i := range sameTries {
		if i > 0 {
			if err := r.sleep(ctx, pause<<(i-1)); err != nil {
				return nil, [16]byte{}, last
			}
		}
		resp, err := c.Release(ctx, body)
		if err == nil {
			secret, err := r.open(ctx, c, s, resp)
			return secret, resp.Release, err
		}
		if last = err; !again(err) {
			return nil, [16]byte{}, err
		}
	}
	return nil, [16]byte{}, last
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
