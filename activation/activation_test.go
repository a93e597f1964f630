package activation_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/activation"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// A TPM below which there is an accepted report has its AK bound, and from then on
// its quotes verify.
func TestActivate(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name string
		tpm  vtpmtest.Device
		edit func(*guest)
	}{
		{"ECC", ecc(), func(g *guest) {}},
		{"all services", ecc(), func(g *guest) { g.svsm.Services = true }},
		{"RSA", platform().rsa, func(g *guest) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.register(instance, func(i *teebroker.Instance) { i.AllowEphemeralVTPM = true })
			g := w.guest(tt.tpm)
			tt.edit(g)
			if err := w.quoted(g); !errors.Is(err, evidence.Untrusted) {
				t.Fatalf("a quote before: %v", err)
			}
			got, err := w.activate(g)
			w.check(err)
			if err := w.quoted(g); err != nil {
				t.Fatalf("a quote after: %v", err)
			}
			ek, ak := sha256.Sum256(tt.tpm.EK()[2:]), parsed(t, tt.tpm.AK())
			if got.EK != ek || !bytes.Equal(got.AK, []byte(ak.Name)) {
				t.Errorf("%+v", got)
			}
			x, err := w.Live(t.Context(), tenant, instance)
			agent, _ := vtpm.AgentID(parsed(t, tt.tpm.EK()).Key)
			chip := platform().chip.ID()
			if err != nil || x.EK != ek || !bytes.Equal(x.Public, tt.tpm.EK()[2:]) || x.AgentID != agent || got.AgentID != agent || !x.Has([]byte(ak.Name)) || !bytes.Equal(x.Seen.Chip, chip[:]) {
				t.Errorf("%+v, %v", x, err)
			}
			other := w.guest(ecc())
			other.svsm.TPM = tt.tpm
			ev := other.svsm.Evidence(vtpmtest.Quote{}, binding(t))
			ev.Raw, _ = other.tpm.Quote(vtpmtest.Quote{}, binding(t))
			for i, it := range ev.Items {
				if it.Type == vtpm.AK {
					ev.Items[i].Data = other.tpm.AK()
				}
			}
			if _, err := w.quotes.Verify(t.Context(), ev, binding(t)); !errors.Is(err, evidence.Untrusted) {
				t.Errorf("another AK below the same report: %v", err)
			}
		})
	}
}

func binding(t testing.TB) evidence.Binding {
	t.Helper()
	b, err := evidence.NewBinding([]byte("a nonce"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t testing.TB, b []byte) vtpm.Public {
	t.Helper()
	p, err := vtpm.ParsePublic(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// onAzure makes g a guest of Azure's paravisor.
func onAzure(g *guest, edit func(*vtpmtest.Azure)) {
	g.azure = &vtpmtest.Azure{TPM: platform().rsa, Report: func(data evidence.Binding) evidence.Evidence {
		return platform().chip.Report(g.svsm.Guest, data)
	}}
	if edit != nil {
		edit(g.azure)
	}
}

func TestActivateAzure(t *testing.T) {
	w := newWorld(t)
	g := w.guest(platform().rsa)
	onAzure(g, nil)
	got, err := w.activate(g)
	w.check(err)
	if got.EK != sha256.Sum256(platform().rsa.EK()[2:]) {
		t.Errorf("%+v", got)
	}
}

// unrestricted returns a TPM whose AK signs anything.
func akWith(attributes func(*tpm2.TPMAObject)) *vtpmtest.TPM {
	return vtpmtest.NewTPM(vtpmtest.ECC, nil, func(p *tpm2.TPMTPublic) { attributes(&p.ObjectAttributes) })
}

// What does not fit is refused before there is a credential, and binds nothing.
func TestBindRefuses(t *testing.T) {
	w := newWorld(t)
	another := ecc()
	drop := func(kind string) func([]evidence.Item) []evidence.Item {
		return func(is []evidence.Item) []evidence.Item {
			return slices.DeleteFunc(is, func(it evidence.Item) bool { return it.Type == kind })
		}
	}
	for name, tt := range map[string]struct {
		tpm  *vtpmtest.TPM // if nil, a new one
		edit func(*guest)
		want error
	}{
		"unrestricted AK":       {akWith(func(a *tpm2.TPMAObject) { a.Restricted = false }), nil, evidence.Untrusted},
		"AK that can be moved":  {akWith(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), nil, evidence.Untrusted},
		"AK made elsewhere":     {akWith(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }), nil, evidence.Untrusted},
		"AK that decrypts":      {akWith(func(a *tpm2.TPMAObject) { a.Decrypt = true }), nil, evidence.Untrusted},
		"no AK":                 {nil, func(g *guest) { g.binding.AK = []byte{0} }, evidence.Malformed},
		"EK of no template":     {vtpmtest.NewTPM(vtpmtest.ECC, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true }, nil), nil, evidence.Untrusted},
		"another AK than bound": {nil, func(g *guest) { g.bound = func(r *nonce.EK) { r.AK = another.AK() } }, evidence.NotBound},
		"bound for another instance": {nil, func(g *guest) {
			g.bound = func(r *nonce.EK) { r.Instance = neighbour }
		}, evidence.NotBound},
		"bound for another tenant": {nil, func(g *guest) { g.bound = func(r *nonce.EK) { r.Tenant = "other" } }, evidence.NotBound},
		"bound for no broker":      {nil, func(g *guest) { g.bound = func(r *nonce.EK) { r.Broker = nil } }, evidence.NotBound},
		"another nonce":            {nil, func(g *guest) { g.nonce = func(n *[64]byte) { n[63]++ } }, evidence.NotBound},
		"a manifest of another EK": {nil, func(g *guest) {
			g.items = func(is []evidence.Item) []evidence.Item {
				is[1].Data = another.EK()[2:]
				return is
			}
		}, evidence.NotBound},
		"a manifest of another service": {nil, func(g *guest) {
			g.svsm.Manifest = func([]byte) []byte { return vtpmtest.UEFIMM().Manifest }
		}, evidence.Malformed},
		"services without a vTPM": {nil, func(g *guest) {
			g.svsm.Services = true
			g.svsm.Manifest = func([]byte) []byte { return vtpmtest.Table(vtpmtest.UEFIMM()) }
		}, evidence.Malformed},
		"a manifest cut short": {nil, func(g *guest) {
			g.svsm.Manifest = func(m []byte) []byte { return m[:len(m)-1] }
		}, evidence.Malformed},
		"no manifest":        {nil, func(g *guest) { g.items = drop(vtpm.SVSMManifest) }, evidence.Malformed},
		"no items":           {nil, func(g *guest) { g.items = func([]evidence.Item) []evidence.Item { return nil } }, evidence.Malformed},
		"too many items":     {nil, func(g *guest) { g.items = func([]evidence.Item) []evidence.Item { return make([]evidence.Item, 65) } }, teebroker.MalformedRequest},
		"VMPL 2":             {nil, func(g *guest) { g.svsm.Guest.VMPL = 2 }, evidence.Untrusted},
		"another image":      {nil, func(g *guest) { g.svsm.Guest.Measurement[0]++ }, teebroker.Denied},
		"a debug guest":      {nil, func(g *guest) { g.svsm.Guest.Policy = 0x30000 | 1<<19 }, teebroker.Denied},
		"launched as nobody": {nil, func(g *guest) { g.svsm.Guest.HostData = [32]byte{} }, teebroker.LaunchIdentity},
		"launched as a neighbour": {nil, func(g *guest) {
			g.svsm.Guest.HostData = teebroker.LaunchID(tenant, neighbour)
		}, teebroker.LaunchIdentity},
		"a changed report": {nil, func(g *guest) {
			g.svsm.Guest.Fault = func(b []byte) []byte { b[0x2a0]++; return b }
		}, evidence.BadSignature},
		"an instance that is not there": {nil, func(g *guest) { g.binding.Instance = [16]byte{9} }, teebroker.NoInstance},
		"no instance":                   {nil, func(g *guest) { g.binding.Instance = [16]byte{}; g.bound = func(r *nonce.EK) { r.Instance = instance } }, teebroker.MalformedRequest},
		"another broker":                {nil, func(g *guest) { g.binding.Broker = bytes.Repeat([]byte{1}, 32) }, teebroker.Denied},
		"no broker":                     {nil, func(g *guest) { g.binding.Broker = nil }, teebroker.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			tpm := tt.tpm
			if tpm == nil {
				tpm = ecc()
			}
			g := w.guest(tpm)
			if tt.edit != nil {
				tt.edit(g)
			}
			c, err := w.challenge(g)
			if !errors.Is(err, tt.want) || c.Session != "" || c.Blob != nil {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if all, err := w.EKs(t.Context(), tenant, instance); err != nil || len(all) != 0 {
				t.Errorf("known after it: %v, %v", all, err)
			}
		})
	}
}

// The blob of the paravisor has to be of this nonce, and of the keys that came
// along.
func TestBindAzureRefuses(t *testing.T) {
	w := newWorld(t)
	modulus := func(key any) []byte {
		return []byte(base64.RawURLEncoding.EncodeToString(key.(*rsa.PublicKey).N.Bytes()))
	}
	ak, ek := modulus(platform().rsa.AKKey()), modulus(platform().rsa.EKKey())
	instead := func(of, other []byte) func(*guest) {
		return func(g *guest) {
			onAzure(g, func(a *vtpmtest.Azure) {
				a.Runtime = func(b []byte) []byte { return bytes.Replace(b, of, other, 1) }
			})
		}
	}
	le := binary.LittleEndian.PutUint32
	for name, tt := range map[string]struct {
		edit func(*guest)
		want error
	}{
		"user data of another nonce": {func(g *guest) { g.nonce = func(n *[64]byte) { n[0]++ } }, evidence.NotBound},
		"another EK":                 {instead(ek, ak), evidence.NotBound},
		"another AK":                 {instead(ak, ek), evidence.NotBound},
		"an AK of another kind":      {func(g *guest) { g.binding.AK = ecc().AK() }, evidence.NotBound},
		"no EK":                      {func(g *guest) { g.items = func(is []evidence.Item) []evidence.Item { return is[:1] } }, evidence.Malformed},
		"no EK among the keys": {func(g *guest) {
			onAzure(g, func(a *vtpmtest.Azure) {
				a.Runtime = func(b []byte) []byte { return bytes.Replace(b, []byte("HCLEkPub"), []byte("HCLEkPux"), 1) }
			})
		}, evidence.NotBound},
		"runtime data longer than the blob": {func(g *guest) {
			onAzure(g, func(a *vtpmtest.Azure) { a.Blob = func(b []byte) []byte { le(b[1232:], 1<<31); return b } })
		}, evidence.Malformed},
		"runtime data shorter than they are": {func(g *guest) {
			onAzure(g, func(a *vtpmtest.Azure) {
				a.Blob = func(b []byte) []byte { le(b[1232:], binary.LittleEndian.Uint32(b[1232:])-1); return b }
			})
		}, evidence.Malformed},
		"a size of nothing": {func(g *guest) {
			onAzure(g, func(a *vtpmtest.Azure) { a.Blob = func(b []byte) []byte { le(b[8:], 0); return b } })
		}, evidence.Malformed},
		"cut short": {func(g *guest) {
			onAzure(g, func(a *vtpmtest.Azure) { a.Blob = func(b []byte) []byte { return b[:1240] } })
		}, evidence.Malformed},
		"runtime data that the report is not of": {func(g *guest) {
			onAzure(g, func(a *vtpmtest.Azure) {
				a.Blob = func(b []byte) []byte { return bytes.Replace(b, []byte("26F8BC30"), []byte("26F8BC31"), 1) }
			})
		}, evidence.NotBound},
	} {
		t.Run(name, func(t *testing.T) {
			g := w.guest(platform().rsa)
			onAzure(g, nil)
			tt.edit(g)
			if _, err := w.challenge(g); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// Who can't show what was in the credential, with the AK, binds nothing; who can,
// does it once.
func TestActivateRefuses(t *testing.T) {
	w := newWorld(t)
	tpm := ecc()
	g := w.guest(tpm)
	first, err := w.challenge(g)
	w.check(err)
	second, err := w.challenge(g)
	w.check(err)
	secret2, err := tpm.Activate(second.Blob)
	w.check(err)

	if _, err := ecc().Activate(first.Blob); err == nil {
		t.Fatal("another TPM reads the credential")
	}
	twoAKs := *g
	twoAKs.binding.AK = ecc().AK() // of another TPM: the report is of this one
	c, err := w.challenge(&twoAKs)
	w.check(err)
	if _, err := tpm.Activate(c.Blob); err == nil {
		t.Fatal("a credential for an AK of another TPM opens")
	}

	refuse := func(what string, want error, edit func(*teebroker.TPMProof)) {
		t.Helper()
		p, err := w.prove(g, first)
		w.check(err)
		edit(&p)
		if got, err := w.service.Activate(t.Context(), p); !errors.Is(err, want) || got.AK != nil {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if _, err := w.Live(t.Context(), tenant, instance); !errors.Is(err, store.NotFound) {
			t.Errorf("%s: bound: %v", what, err)
		}
	}
	quote := func(d vtpmtest.Device, session string) []byte {
		want, err := nonce.QuoteBinding(session)
		w.check(err)
		raw, _ := d.Quote(vtpmtest.Quote{}, want)
		return raw
	}
	refuse("the secret of another session", teebroker.Denied, func(p *teebroker.TPMProof) { p.Secret = secret2 })
	refuse("a bit of the secret", teebroker.Denied, func(p *teebroker.TPMProof) { p.Secret[31]++ })
	refuse("a short secret", teebroker.MalformedRequest, func(p *teebroker.TPMProof) { p.Secret = p.Secret[1:] })
	refuse("a session that is none", teebroker.MalformedRequest, func(p *teebroker.TPMProof) { p.Session += "=" })
	refuse("a session that never was", teebroker.Gone, func(p *teebroker.TPMProof) { p.Session = "AAAA" + p.Session[4:] })
	refuse("another session's quote", evidence.NotBound, func(p *teebroker.TPMProof) { p.Quote = quote(tpm, second.Session) })
	refuse("another TPM's quote", evidence.BadSignature, func(p *teebroker.TPMProof) { p.Quote = quote(ecc(), p.Session) })
	refuse("no quote", evidence.Malformed, func(p *teebroker.TPMProof) { p.Quote = nil })
	refuse("a changed quote", evidence.BadSignature, func(p *teebroker.TPMProof) { p.Quote[len(p.Quote)-1]++ })

	p, err := w.prove(g, first)
	w.check(err)
	if _, err := w.service.Activate(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.Activate(t.Context(), p); !errors.Is(err, teebroker.InProgress) {
		t.Errorf("the same again: %v", err)
	}
	p.Quote = quote(tpm, p.Session)
	if _, err := w.service.Activate(t.Context(), p); !errors.Is(err, teebroker.NonceSpent) {
		t.Errorf("again with another quote: %v", err)
	}
	p, err = w.prove(g, second)
	w.check(err)
	w.now = w.now.Add(2 * time.Minute)
	if _, err := w.service.Activate(t.Context(), p); !errors.Is(err, teebroker.Gone) {
		t.Errorf("too late: %v", err)
	}
}

// A nonce serves one binding, and no other profile.
func TestNonces(t *testing.T) {
	w := newWorld(t)
	g := w.guest(ecc())
	c, err := w.service.Challenge(t.Context())
	w.check(err)
	b := w.ask(g, c.Nonce)
	if _, err := w.service.Bind(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.Bind(t.Context(), b); !errors.Is(err, teebroker.InProgress) {
		t.Errorf("the same again: %v", err)
	}
	if _, err := w.service.Bind(t.Context(), w.ask(g, c.Nonce)); !errors.Is(err, teebroker.NonceSpent) {
		t.Errorf("another with the nonce: %v", err)
	}
	v1, err := w.broker.Challenge(t.Context(), nonce.ProfileV1)
	w.check(err)
	if _, err := w.service.Bind(t.Context(), w.ask(g, v1.Nonce)); !errors.Is(err, teebroker.NonceSpent) {
		t.Errorf("a nonce to release with: %v", err)
	}
	late, err := w.service.Challenge(t.Context())
	w.check(err)
	b = w.ask(g, late.Nonce)
	w.now = w.now.Add(6 * time.Minute)
	if _, err := w.service.Bind(t.Context(), b); !errors.Is(err, teebroker.NonceSpent) {
		t.Errorf("too late: %v", err)
	}
}

// What the owner changes between the two requests counts.
func TestChangedBetween(t *testing.T) {
	w := newWorld(t)
	g := w.guest(ecc())
	c, err := w.challenge(g)
	w.check(err)
	p, err := w.prove(g, c)
	w.check(err)
	w.register(instance, func(i *teebroker.Instance) { i.AllowEphemeralVTPM = true })
	if _, err := w.service.Activate(t.Context(), p); !errors.Is(err, teebroker.NotAuthorized) {
		t.Errorf("%v", err)
	}
}

// Clones are noticed by where they are and by their counts.
func TestClones(t *testing.T) {
	again := func(edit func(*guest)) func(*world, *vtpmtest.TPM) error {
		return func(w *world, tpm *vtpmtest.TPM) error {
			g := w.guest(tpm)
			edit(g)
			_, err := w.activate(g)
			return err
		}
	}
	for name, tt := range map[string]struct {
		then func(*world, *vtpmtest.TPM) error
		why  store.Suspicion
	}{
		"the same again":    {again(func(*guest) {}), ""},
		"another start":     {again(func(g *guest) { g.tpm.(*vtpmtest.TPM).ResetCount++; g.svsm.Chip = platform().chip2 }), ""},
		"on another chip":   {again(func(g *guest) { g.svsm.Chip = platform().chip2 }), store.TwoPlaces},
		"in another guest":  {again(func(g *guest) { g.svsm.Guest.ReportID[0] = 77 }), store.TwoPlaces},
		"an earlier start":  {again(func(g *guest) { g.tpm.(*vtpmtest.TPM).ResetCount-- }), store.Backwards},
		"an earlier resume": {again(func(g *guest) { g.tpm.(*vtpmtest.TPM).RestartCount-- }), store.Backwards},
		"another EK":        {func(w *world, _ *vtpmtest.TPM) error { _, err := w.activate(w.guest(ecc())); return err }, store.OtherEK},
		"in the neighbour": {again(func(g *guest) {
			g.binding.Instance, g.svsm.Guest.HostData = neighbour, teebroker.LaunchID(tenant, neighbour)
		}), store.OtherInstance},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tpm := ecc()
			tpm.ResetCount, tpm.RestartCount = 5, 5
			g := w.guest(tpm)
			_, err := w.activate(g)
			w.check(err)
			err = tt.then(w, tpm)
			ek := sha256.Sum256(tpm.EK()[2:])
			x, found := w.ByEK(t.Context(), tenant, ek)
			w.check(found)
			if tt.why == "" {
				if err != nil || x.State != store.IdentityLive {
					t.Errorf("%v, %s", err, x.State)
				}
				return
			}
			if !errors.Is(err, teebroker.Held) || x.State != store.IdentityHeld || x.Why != tt.why {
				t.Errorf("%v, %s, %s", err, x.State, x.Why)
			}
			if err := w.quoted(g); !errors.Is(err, evidence.Untrusted) {
				t.Errorf("a quote while held: %v", err)
			}
			if _, err := w.ResumeEK(t.Context(), tenant, instance, ek); err != nil {
				t.Fatal(err)
			}
			if err := w.quoted(g); !errors.Is(err, evidence.Untrusted) {
				t.Errorf("a quote before the AK is bound again: %v", err)
			}
			_, err = w.activate(g)
			w.check(err)
			w.check(w.quoted(g))
		})
	}
}

// Seen is of the quote, and of the report below it.
func TestSeen(t *testing.T) {
	w := newWorld(t)
	tpm := ecc()
	tpm.ResetCount, tpm.RestartCount = 3, 4
	g := w.guest(tpm)
	g.svsm.Guest.ReportID[0] = 9
	_, err := w.activate(g)
	w.check(err)
	got, err := w.quotes.Verify(t.Context(), g.svsm.Evidence(vtpmtest.Quote{}, binding(t)), binding(t))
	w.check(err)
	ek, s, ok := activation.Seen(got)
	chip := platform().chip.ID()
	if !ok || ek != sha256.Sum256(tpm.EK()[2:]) || !bytes.Equal(s.Chip, chip[:]) || s.ResetCount != 3 || s.RestartCount != 4 || len(s.Run) != 32 || s.Run[0] != 9 {
		t.Errorf("%+v, %v", s, ok)
	}
	x, err := w.See(t.Context(), tenant, ek, s)
	if err != nil || x.Seen.ResetCount != 3 {
		t.Errorf("%+v, %v", x, err)
	}
	if _, _, ok := activation.Seen(got.Layers[0]); ok {
		t.Error("a report is taken for a quote")
	}
}

// keptFails is a Kept that fails.
type keptFails struct{ teebroker.Kept }

func (keptFails) Put(context.Context, string, []byte, time.Time) error { return errors.New("full") }
func (keptFails) Get(context.Context, string) ([]byte, error)          { return []byte("{}"), nil }

// Parts that fail leave the outcome open, and nothing bound.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	good := activation.Config{Broker: w.broker, Verifier: w.quotes, Nonces: w.Store, Kept: w.Store, Identities: w.Store}
	for name, edit := range map[string]func(*activation.Config){
		"no broker":     func(c *activation.Config) { c.Broker = nil },
		"no verifier":   func(c *activation.Config) { c.Verifier = nil },
		"no nonces":     func(c *activation.Config) { c.Nonces = nil },
		"no sessions":   func(c *activation.Config) { c.Kept = nil },
		"no identities": func(c *activation.Config) { c.Identities = nil },
		"a long life":   func(c *activation.Config) { c.Life = 2 * time.Hour },
	} {
		c := good
		edit(&c)
		if s, err := activation.New(c); err == nil || s != nil {
			t.Errorf("%s: a service", name)
		}
	}
	bad := good
	bad.Kept, bad.Time = keptFails{w.Store}, func() time.Time { return w.now }
	s, err := activation.New(bad)
	w.check(err)
	g := w.guest(ecc())
	c, err := s.Challenge(t.Context())
	w.check(err)
	if _, err := s.Bind(t.Context(), w.ask(g, c.Nonce)); !errors.Is(err, teebroker.Unavailable) {
		t.Errorf("a session that is not kept: %v", err)
	}
	if _, err := s.Activate(t.Context(), teebroker.TPMProof{Session: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Secret: make([]byte, 32)}); !errors.Is(err, teebroker.Unavailable) {
		t.Errorf("a session that is damaged: %v", err)
	}
	digest := string(make([]byte, 32))
	for what, name := range map[string]vtpm.Name{
		"nothing": "", "short": vtpm.Name("\x00\x0b" + digest[1:]), "long": vtpm.Name("\x00\x0b" + digest + "x"), "another hash": vtpm.Name("\x00\x0c" + digest),
	} {
		if ok, err := activation.AKs(nil).Activated(t.Context(), name, name); ok || err != nil {
			t.Errorf("%s: %v, %v", what, ok, err)
		}
	}
}
