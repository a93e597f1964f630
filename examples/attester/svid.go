package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"time"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/protocol/spiffe"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

const aboutSVID = `
Get an identity of SPIFFE for this guest: a certificate, or with -audience a token.

The key is made here, and its public half is signed for by the hardware, along with
everything else that is asked for. The broker must have a trust domain, and the owner
authorize the purpose spiffe/x509 or spiffe/jwt:

  attester svid -tee snp -broker https://broker.example:8443 -tenant default \
    -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -identity broker.id \
    -key svid.key -out svid.pem

  attester svid … -audience db.example.org -key token.key -out token

-key is a new PKCS #8 key in PEM, of mode 0600; a token names it (cnf), for who asks for a
proof of possession. Exit status: 0 the identity, 1 the broker refused, 2 it can't be reached.`

// svid is one guest that asks for an identity.
type svid struct {
	release
	keyFile  string
	audience cli.List

	request spiffe.Request
	key     *ecdsa.PrivateKey
}

func svidCommand(m machine) cli.Command {
	return cli.Command{Name: "attester svid", About: aboutSVID, Env: releaseEnv, Setup: svidSetup(m, sleep)}
}

func svidSetup(m machine, sleep func(context.Context, time.Duration) error) func(*flag.FlagSet) cli.Action {
	return func(fs *flag.FlagSet) cli.Action {
		s := &svid{release: release{guest: guestFlags(fs), machine: m, sleep: sleep}}
		s.flags(fs)
		fs.Var(&s.audience, "audience", "a token for who is called `NAME,…`, instead of a certificate")
		fs.StringVar(&s.keyFile, "key", "", "write the private key to `FILE`, mode 0600")
		fs.StringVar(&s.out, "out", "", "write the certificates in PEM, or the token, to `FILE`, mode 0600")
		return s.act
	}
}

func (s *svid) act(args []string, stdout io.Writer) (bool, error) {
	switch {
	case len(args) != 0:
		return false, cli.Usagef("unexpected argument %q", args[0])
	case s.guest.tee == "" || s.broker == "" || s.guest.instance == nil || s.identity == "" || s.keyFile == "" || s.out == "":
		return false, cli.Usagef("-tee, -broker, -instance, -identity, -key and -out are required")
	}
	if s.guest.tenant == "" {
		s.guest.tenant = v1.DefaultTenant
	}
	s.purpose = spiffe.PurposeX509
	if len(s.audience) != 0 {
		s.purpose = spiffe.PurposeJWT
	}
	var err error
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return false, err
	}
	s.request = spiffe.Request{Tenant: s.guest.tenant, Instance: *s.guest.instance, Purpose: s.purpose, Audience: s.audience}
	if s.presented, err = spiffe.NewRequest(s.key, s.request); err != nil {
		return false, cli.Usagef("-audience: %w", err)
	}
	return s.answer(stdout, s.deliver)
}

// identified is what -json prints.
type identified struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
	Purpose string    `json:"purpose"`
	Key     string    `json:"key"`
	Out     string    `json:"out"`
}

func (s *svid) deliver(stdout io.Writer, secret []byte, _ released) error {
	v, out, err := s.parse(secret)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return err
	}
	defer clear(der)
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(key)
	if err := errors.Join(cli.WriteFile(s.keyFile, key, 0o600), cli.WriteFile(s.out, out, 0o600)); err != nil {
		return err
	}
	if s.json {
		return cli.WriteJSON(stdout, v)
	}
	p := cli.NewPage(stdout)
	p.Line(cli.Cell{Text: v.ID, Style: cli.Good}, cli.Cell{Text: "until " + v.Expires.Format(time.RFC3339)})
	p.Line(cli.Cell{Text: "in " + v.Out + ", its key in " + v.Key})
	_, err = p.WriteTo(stdout)
	return err
}

// parse returns what secret is, and how it is written to a file. The broker's receipt
// vouches for it: who the authority is, others ask the bundle.
func (s *svid) parse(secret []byte) (identified, []byte, error) {
	v := identified{Purpose: s.purpose, Key: s.keyFile, Out: s.out}
	if s.purpose == spiffe.PurposeJWT {
		got, err := spiffe.ParseJWT(secret, s.request, nil)
		if err != nil {
			return v, nil, err
		}
		v.ID, v.Expires = got.ID.String(), got.Expiry.UTC()
		return v, append([]byte(nil), secret...), nil
	}
	got, err := spiffe.ParseX509(secret, s.key, s.request, nil)
	if err != nil {
		return v, nil, err
	}
	v.ID, v.Expires = got.ID.String(), got.Certificates[0].NotAfter
	chain, _, err := got.Marshal()
	return v, chain, err
}
