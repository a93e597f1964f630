package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/strictjson"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/vtpm"
)

const about = `Usage: ekcheck

Answers a Keylime tenant whether the EK of an agent is that of a guest that a broker
accepted evidence of. In tenant.conf, with the path of this program:

  require_ek_cert = False
  ek_check_script = /usr/local/libexec/ekcheck

The tenant runs it without arguments and says of which agent in the environment:
AGENT_UUID, EK, EK_TPM, EK_CERT, PROVKEYS and TPM_CERT_STORE. The first agent that
is asked about becomes that of the EK, for ever; another one is refused.

Which broker is asked is in the environment of the tenant, or else in the file
ekcheck.json beside the program (its name and .json):

  TEEBROKER_URL              url              such as https://broker.example:8443
  TEEBROKER_CA               ca               PEM of the authority of its certificate
  TEEBROKER_TOKEN_FILE       token_file       the owner's token is in this file
  TEEBROKER_TENANT           tenant           of which the token has to be
  TEEBROKER_ALLOW_SIMULATED  allow_simulated  "true" takes the word of a broker of
                                              simulated platforms, for tests

To try it by hand:

  AGENT_UUID=d432fbb3-d2f1-4a97-9ef7-75bd81c00000 EK="$(cat ek.pem)" \
    EK_TPM="$(base64 -w0 ek.tpm2b)" ekcheck

Exit status: 0 the EK is bound to accepted evidence, 1 it is not, or not any more,
2 there is no answer: usage, unreadable input, or a broker that can't be reached.
`

// limit is how long a broker may take. A tenant waits meanwhile.
const limit = 20 * time.Second

// run is the program.
func run(ctx context.Context, args []string, env func(string) string, self string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		if args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
			fmt.Fprint(stdout, about)
			return cli.Yes
		}
		fmt.Fprintln(stderr, "ekcheck: takes no arguments; ekcheck -h tells more")
		return cli.Unusable
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	said, err := check(ctx, env, self)
	var no refusal
	switch {
	case errors.As(err, &no):
		fmt.Fprintf(stderr, "ekcheck: refused: %s\n", cli.Printable(no.Error()))
		return cli.No
	case err != nil:
		fmt.Fprintf(stderr, "ekcheck: %s\n", cli.Printable(err.Error()))
		return cli.Unusable
	}
	fmt.Fprintln(stdout, cli.Printable(said))
	return cli.Yes
}

// refusal is an answer that is no.
type refusal struct{ error }

func refuse(format string, a ...any) error { return refusal{fmt.Errorf(format, a...)} }

// check returns what is known of the EK, if that is enough.
func check(ctx context.Context, env func(string) string, self string) (string, error) {
	q, err := readQuestion(env)
	if err != nil {
		return "", err
	}
	c, err := readConfig(env, self)
	if err != nil {
		return "", err
	}
	client, err := c.client()
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(q.ek.Area())
	got, err := client.RegisterAgent(ctx, digest, v1.AgentRegistration{Agent: q.agent, Public: q.ek.Area()})
	var p *v1.Problem
	switch {
	case errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != http.StatusUnauthorized && p.Status != http.StatusTooManyRequests:
		return "", refuse("the broker says %s: %s", p.Code, p.Title)
	case err != nil:
		return "", err
	}
	id := got.Identity
	switch {
	case id.EK != digest || id.Agent != q.agent || id.Instance == (strictjson.UUID{}) || len(id.Public) > 0 && !bytes.Equal(id.Public, q.ek.Area()):
		return "", errors.New("the answer of the broker is about something else")
	case id.State != store.IdentityLive:
		return "", refuse("the EK is %s", id.State)
	case got.Simulated && !c.simulated():
		return "", refuse("the broker is one of simulated platforms")
	}
	return fmt.Sprintf("accepted: agent %s is instance %s, release %s, epoch %d", q.agent, id.Instance, id.Release, id.Epoch), nil
}

// question is what a tenant asks.
type question struct {
	agent string
	ek    vtpm.Public
}

// readQuestion reads what the tenant says of an agent, all of which has to be about one
// key. PROVKEYS and TPM_CERT_STORE mean nothing here.
func readQuestion(env func(string) string) (q question, err error) {
	if q.agent = env("AGENT_UUID"); q.agent == "" {
		return q, errors.New("AGENT_UUID is not set; a Keylime tenant sets it, ekcheck -h tells more")
	}
	raw, err := base64.StdEncoding.DecodeString(env("EK_TPM"))
	if err != nil || len(raw) == 0 {
		return q, errors.New("EK_TPM is not a TPM2B_PUBLIC in base64")
	}
	if q.ek, err = vtpm.ParsePublic(raw); err != nil {
		return q, refuse("EK_TPM: %w", err)
	}
	hashed, err := vtpm.HashEK(q.ek.Area())
	if err != nil {
		return q, refuse("EK_TPM: %w", err)
	}
	if store.HashedAgent(q.agent) && q.agent != hashed {
		return q, refuse("AGENT_UUID is the hash of another EK")
	}
	block, rest := pem.Decode([]byte(env("EK")))
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return q, errors.New("EK is not a public key in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return q, errors.New("EK is not a public key in PEM")
	}
	if vtpm.KeyDigest(key) != vtpm.KeyDigest(q.ek.Key) {
		return q, refuse("EK and EK_TPM are two keys")
	}
	if text := env("EK_CERT"); text != "" {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return q, errors.New("EK_CERT is not base64")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return q, refuse("EK_CERT is not a certificate")
		}
		if vtpm.KeyDigest(cert.PublicKey) != vtpm.KeyDigest(q.ek.Key) {
			return q, refuse("EK_CERT is of another key")
		}
	}
	return q, nil
}

// config says which broker is asked. The environment wins.
type config struct {
	URL            string `json:"url,omitempty"`
	CA             string `json:"ca,omitempty"`
	TokenFile      string `json:"token_file,omitempty"`
	Tenant         string `json:"tenant,omitempty"`
	AllowSimulated string `json:"allow_simulated,omitempty"`
}

func (c config) simulated() bool { return c.AllowSimulated == "true" }

func readConfig(env func(string) string, self string) (c config, err error) {
	b, err := cli.ReadFile(self+".json", 16<<10)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return c, err
	default:
		if err := strictjson.Unmarshal(b, &c); err != nil {
			return c, fmt.Errorf("%s.json: %w", self, err)
		}
	}
	for name, to := range map[string]*string{
		"TEEBROKER_URL": &c.URL, "TEEBROKER_CA": &c.CA, "TEEBROKER_TOKEN_FILE": &c.TokenFile,
		"TEEBROKER_TENANT": &c.Tenant, "TEEBROKER_ALLOW_SIMULATED": &c.AllowSimulated,
	} {
		if value := env(name); value != "" {
			*to = value
		}
	}
	switch {
	case c.URL == "":
		return c, errors.New("no broker: set TEEBROKER_URL, or url in " + self + ".json")
	case c.TokenFile == "":
		return c, errors.New("no credentials: set TEEBROKER_TOKEN_FILE, or token_file in " + self + ".json")
	case c.AllowSimulated != "" && c.AllowSimulated != "true" && c.AllowSimulated != "false":
		return c, errors.New("TEEBROKER_ALLOW_SIMULATED is neither true nor false")
	}
	return c, nil
}

func (c config) client() (*v1.Client, error) {
	token, err := cli.ReadFile(c.TokenFile, 4<<10)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(token)) == 0 {
		return nil, fmt.Errorf("%s: no token in it", c.TokenFile)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.CA != "" {
		b, err := cli.ReadFile(c.CA, 1<<20)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: no certificates", c.CA)
		}
	}
	return v1.NewClient(v1.ClientConfig{
		URL: c.URL, Token: strings.TrimSpace(string(token)), Tenant: c.Tenant,
		HTTP: &http.Client{
			Timeout:       limit,
			Transport:     &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
}
