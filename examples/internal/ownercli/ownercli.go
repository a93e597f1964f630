// Package ownercli is the owner's program.
package ownercli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/strictjson"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// Program returns the program.
func Program() cli.Group {
	g := cli.Group{
		Name: "owner",
		About: `
The owner's side of a broker: says which instances there are, what they have to
be, which secrets they get, and how often. The broker is in TEEBROKER_URL, the
owner's token in the file TEEBROKER_OWNER_TOKEN_FILE; flags win:

  export TEEBROKER_URL=http://127.0.0.1:8080 TEEBROKER_OWNER_TOKEN_FILE=owner.token
  owner policy put -name first -in policy.json
  owner register -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -policy first
  owner secret put -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose disk -in secret.bin
  owner authorize -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose disk`,
		Commands: []cli.Command{
			keyCommand(), registerCommand(), secretCommand(), wrapCommand(), authorizeCommand(),
			policyPutCommand(), policyGetCommand(), policyExplainCommand(),
			statusCommand(), rewrapCommand(), recordCommand(), provisionCommand(),
		},
	}
	for _, act := range []string{"hold", "resume", "recover", "retire", "epoch"} {
		g.Commands = append(g.Commands, epochCommand(act))
	}
	return g
}

// env is the Env of every command.
func env(flag string) string {
	switch flag {
	case "broker":
		return "TEEBROKER_URL"
	case "token-file":
		return "TEEBROKER_OWNER_TOKEN_FILE"
	case "order-key":
		return "TEEBROKER_ORDER_KEY_FILE"
	case "identity":
		return "TEEBROKER_IDENTITY_FILE"
	case "tenant", "ca", "cert", "key":
		return cli.Variable(flag)
	}
	return ""
}

// service is which broker is meant, as whom, and how to print what it says.
type service struct {
	url, token, tenant string
	order              string
	ca, cert, key      string
	json               bool
}

func serviceFlags(fs *flag.FlagSet) *service {
	s := &service{}
	fs.StringVar(&s.url, "broker", "http://127.0.0.1:8080", "`URL` of the broker; https:// unless it is on this host")
	fs.StringVar(&s.token, "token-file", "", "the owner's token is in this `FILE`")
	fs.StringVar(&s.tenant, "tenant", v1.DefaultTenant, "act as `TENANT`, of which the token has to be")
	fs.StringVar(&s.order, "order-key", "", "sign orders with the owner key in this `FILE`, see owner key")
	fs.StringVar(&s.ca, "ca", "", "`PEM` of the authority of the broker's certificate (default the system's)")
	fs.StringVar(&s.cert, "cert", "", "`PEM` of a client certificate, instead of a token")
	fs.StringVar(&s.key, "key", "", "`PEM` of its private key")
	fs.BoolVar(&s.json, "json", false, "print one JSON object")
	return s
}

// client returns who asks the broker.
func (s *service) client() (*v1.Client, error) {
	cfg := v1.ClientConfig{URL: s.url, Tenant: s.tenant}
	if s.token == "" && s.cert == "" {
		return nil, cli.Usagef("-token-file is required, or TEEBROKER_OWNER_TOKEN_FILE; or -cert and -key")
	}
	if s.token != "" {
		b, err := cli.ReadFile(s.token, 4<<10)
		if err != nil {
			return nil, err
		}
		cfg.Token = strings.TrimSpace(string(b))
	}
	if s.order != "" {
		key, err := readOrderKey(s.order)
		if err != nil {
			return nil, err
		}
		cfg.OrderKey = key
	}
	t, err := s.tls()
	if err != nil {
		return nil, err
	}
	cfg.HTTP = &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	return v1.NewClient(cfg)
}

func (s *service) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13}
	if s.ca != "" {
		b, err := cli.ReadFile(s.ca, 1<<20)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, errors.New("-ca: no certificates")
		}
	}
	if (s.cert == "") != (s.key == "") {
		return nil, cli.Usagef("-cert and -key go together")
	}
	if s.cert != "" {
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return nil, fmt.Errorf("-cert, -key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// A result is what a command prints.
type result struct {
	json any
	page func(*cli.Page)
}

// no is a result that is not a yes.
type no struct{ result }

// Error implements error.
func (*no) Error() string { return "no" }

// line is the result of what has nothing to tell but that it was done.
func line(format string, a ...any) result {
	text := fmt.Sprintf(format, a...)
	return result{map[string]any{"done": text}, func(p *cli.Page) { p.Line(cli.Cell{Text: text, Style: cli.Good}) }}
}

// command returns an Action that asks the broker with do. What the broker refuses
// is a no, and is printed; that it can't be reached is no answer.
func (s *service) command(do func(ctx context.Context, c *v1.Client) (result, error)) cli.Action {
	return func(args []string, stdout io.Writer) (bool, error) {
		if len(args) != 0 {
			return false, cli.Usagef("unexpected argument %q", args[0])
		}
		c, err := s.client()
		if err != nil {
			return false, err
		}
		r, err := do(context.Background(), c)
		var refusal *v1.Problem
		if errors.As(err, &refusal) && (refusal.Status < 500 || refusal.Status == http.StatusNotImplemented) {
			return false, s.print(stdout, s.refused(refusal))
		}
		var answer *no
		if errors.As(err, &answer) {
			return false, s.print(stdout, answer.result)
		}
		if err != nil {
			return false, err
		}
		return true, s.print(stdout, r)
	}
}

func (s *service) refused(p *v1.Problem) result {
	return result{map[string]any{"refused": p}, func(page *cli.Page) {
		page.Line(cli.Cell{Text: "refused: " + p.Code, Style: cli.Bad}, cli.Cell{Text: p.Title})
		if p.Code == string(teebroker.Forbidden) && strings.Contains(p.Title, "order") && s.order == "" {
			page.Line(cli.Cell{Text: "this takes orders only: -order-key FILE, or TEEBROKER_ORDER_KEY_FILE"})
		}
		page.Line(cli.Cell{Text: "the broker's log has it as request " + p.Request, Style: cli.Dim})
	}}
}

func (s *service) print(w io.Writer, r result) error {
	if s.json {
		return cli.WriteJSON(w, r.json)
	}
	p := cli.NewPage(w)
	r.page(p)
	_, err := p.WriteTo(w)
	return err
}

// instanceFlag registers -instance, which is required.
type instanceFlag struct{ id strictjson.UUID }

func (i *instanceFlag) register(fs *flag.FlagSet) {
	fs.Func("instance", "`UUID` of the instance", func(text string) (err error) {
		if i.id, err = strictjson.ParseUUID(text); err != nil {
			return errors.New("want a UUID in lower case, such as 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11")
		}
		return nil
	})
}

// missing returns an error that names the first of flags, given in pairs of name
// and value, that is empty.
func missing(flags ...string) error {
	for i := 0; i+1 < len(flags); i += 2 {
		if flags[i+1] == "" {
			return cli.Usagef("-%s is required", flags[i])
		}
	}
	return nil
}

func (i *instanceFlag) text() string {
	if i.id == (strictjson.UUID{}) {
		return ""
	}
	return i.id.String()
}
