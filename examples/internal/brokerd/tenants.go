package brokerd

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/teebroker/teebroker/examples/internal/cli"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

const (
	aboutAdd = `
Add a tenant, or another token of one.

Works on the database; a broker may run meanwhile, and knows at once. A new token
is written to -token-file with mode 0600, or a client certificate is taken, of
which the key counts and nothing else:

  broker tenant add -name acme -token-file acme.token
  broker tenant add -name acme -certificate acme.pem

A tenant gets an attestation key to wrap to in the key file, which the broker
reads at its next start.`

	aboutList = `
List tenants.

  broker tenant list`

	aboutRemove = `
End a token or a client certificate, at once.

  broker tenant remove -token-file acme.token`
)

// TenantCommands are broker tenant add, list and remove.
func TenantCommands() []cli.Command {
	return []cli.Command{
		{Name: "broker tenant add", About: aboutAdd, Env: cli.Variable, Setup: setupTenant("add")},
		{Name: "broker tenant list", About: aboutList, Env: cli.Variable, Setup: setupTenant("list")},
		{Name: "broker tenant remove", About: aboutRemove, Env: cli.Variable, Setup: setupTenant("remove")},
	}
}

type tenantOptions struct {
	Options
	name, token, certificate string
	simulated                bool
}

func setupTenant(act string) func(fs *flag.FlagSet) cli.Action {
	return func(fs *flag.FlagSet) cli.Action {
		var o tenantOptions
		dbFlag(fs, &o.DB)
		fs.StringVar(&o.AttestationKey, "attestation-key", "", "key file of the broker, `FILE` (default in your state directory)")
		fs.BoolVar(&o.simulated, "simulated", false, "the database is of simulated platforms")
		if act == "add" {
			fs.StringVar(&o.name, "name", "", "the `TENANT`: 1 to 64 of a-z, 0-9 and -")
		}
		if act != "list" {
			fs.StringVar(&o.token, "token-file", "", "`FILE` of a bearer token")
			fs.StringVar(&o.certificate, "certificate", "", "`PEM` of a client certificate")
		}
		return func(args []string, stdout io.Writer) (bool, error) {
			if len(args) != 0 {
				return false, cli.Usagef("unexpected argument %q", args[0])
			}
			if o.simulated {
				o.TrustSimulated = "." // names the state directory; nothing is trusted here
			}
			return true, o.run(context.Background(), act, stdout)
		}
	}
}

func (o tenantOptions) run(ctx context.Context, act string, stdout io.Writer) error {
	f, err := o.files()
	if err != nil {
		return err
	}
	t := tokens{}
	defer t.close()
	keys, err := o.keys(ctx, f, t)
	if err != nil {
		return err
	}
	d, err := o.openDatabase(ctx, f.db, keys, nil)
	if err != nil {
		return err
	}
	defer d.close()
	switch act {
	case "add":
		return o.add(ctx, d, f, t)
	case "remove":
		digest, err := o.digest()
		if err != nil {
			return err
		}
		return d.RemoveToken(ctx, digest)
	default:
		list, err := d.tenants(ctx)
		if err != nil {
			return err
		}
		for _, t := range list {
			if _, err := fmt.Fprintln(stdout, t); err != nil {
				return err
			}
		}
		return nil
	}
}

// add adds the tenant, with a key to wrap to if it has none.
func (o tenantOptions) add(ctx context.Context, d *database, f files, t tokens) error {
	if o.name == "" {
		return cli.Usagef("-name is required")
	}
	if o.certificate == "" && o.token != "" {
		if err := cli.CreateFile(o.token, []byte(newToken()+"\n"), 0o600); err != nil {
			return err
		}
	}
	digest, err := o.digest()
	if err != nil {
		return err
	}
	if err := d.AddTenant(ctx, o.name, digest); err != nil {
		return err
	}
	return o.addKey(ctx, o.name, f, t)
}

// digest returns what is stored of the credentials that were named.
func (o tenantOptions) digest() ([32]byte, error) {
	switch {
	case (o.token == "") == (o.certificate == ""):
		return [32]byte{}, cli.Usagef("want -token-file or -certificate")
	case o.token != "":
		token, err := ReadToken(o.token)
		return v1.TokenDigest(token), err
	}
	b, err := cli.ReadFile(o.certificate, 64<<10)
	if err != nil {
		return [32]byte{}, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return [32]byte{}, errors.New("-certificate: not a certificate in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return [32]byte{}, fmt.Errorf("-certificate: %w", err)
	}
	return v1.CertificateDigest(c.RawSubjectPublicKeyInfo), nil
}
