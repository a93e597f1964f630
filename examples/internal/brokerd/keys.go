package brokerd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/filelock"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/keywrap"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

const (
	aboutKeyList = `
List attestation keys, of each tenant first the one that owners wrap to, and request
keys, first the one that guests seal to.

  broker key list`

	aboutKeyAdd = `
Add an attestation key, which owners wrap to from the broker's next start on.

The keys that there are open what they opened. To rotate: add a key, restart the
broker, have owners run owner rewrap, retire the old key, restart again.

  broker key add -kid 2027
  broker key add -kid 2027 -in-token 'pkcs11:token=tee;object=kek2027?module-path=…&pin-source=…'

A key in a token is made there, unless it is there. -suite is HPKE-MLKEM1024-P384,
whose half of ML-KEM is in the key file, or HPKE-P384.

-request adds a request key, to which guests of all tenants seal what they ask. The one
before is taken for an hour more: restart the broker within that time.

  broker key add -request -kid r2027`

	aboutKeyRetire = `
Retire an attestation key, which opens nothing from the broker's next start on.

What was wrapped to it and not rewrapped is lost. The seed is erased from the key
file; a key in a token stays there.

  broker key retire -kid 2026
  broker key retire -request -kid r2026`
)

// KeyCommands are broker key list, add and retire.
func KeyCommands() []cli.Command {
	return []cli.Command{
		{Name: "broker key list", About: aboutKeyList, Env: cli.Variable, Setup: setupKey("list")},
		{Name: "broker key add", About: aboutKeyAdd, Env: cli.Variable, Setup: setupKey("add")},
		{Name: "broker key retire", About: aboutKeyRetire, Env: cli.Variable, Setup: setupKey("retire")},
	}
}

type keyOptions struct {
	Options
	tenant, kid, suite, token string
	simulated, request        bool
}

func setupKey(act string) func(fs *flag.FlagSet) cli.Action {
	return func(fs *flag.FlagSet) cli.Action {
		var o keyOptions
		fs.StringVar(&o.AttestationKey, "attestation-key", "", "key file of the broker, `FILE` (default in your state directory)")
		fs.BoolVar(&o.simulated, "simulated", false, "the broker is one of simulated platforms")
		if act != "list" {
			fs.StringVar(&o.tenant, "tenant", v1.DefaultTenant, "whose key, `TENANT`")
			fs.BoolVar(&o.request, "request", false, "a request key, which is of no tenant")
			fs.StringVar(&o.kid, "kid", "", "`ID` of the key, 1 to 64 of a-z, 0-9, . _ and -; never used twice")
		}
		if act == "add" {
			fs.StringVar(&o.suite, "suite", string(keywrap.MLKEM1024P384), "`SUITE` of the key")
			fs.StringVar(&o.token, "in-token", "", "pkcs11 `URI` of the key; if empty, it is in the key file")
		}
		return func(args []string, stdout io.Writer) (bool, error) {
			if len(args) != 0 {
				return false, cli.Usagef("unexpected argument %q", args[0])
			}
			if act != "list" && o.kid == "" {
				return false, cli.Usagef("-kid is needed")
			}
			if o.request && (o.tenant != v1.DefaultTenant || o.token != "" || act == "add" && o.suite != string(keywrap.MLKEM1024P384)) {
				return false, cli.Usagef("-request: a request key is of no tenant, and of one suite, and in the key file")
			}
			if o.simulated {
				o.TrustSimulated = "." // names the state directory; nothing is trusted here
			}
			return true, o.run(context.Background(), act, stdout)
		}
	}
}

func (o keyOptions) run(ctx context.Context, act string, stdout io.Writer) error {
	f, err := o.files()
	if err != nil {
		return err
	}
	if act != "list" {
		unlock, err := filelock.Lock(f.keys)
		if err != nil {
			return err
		}
		defer unlock()
	}
	k, err := keyfile.Read(f.keys)
	if err != nil {
		return err
	}
	switch {
	case act == "add" && o.request:
		err = k.AddRequest(o.kid, time.Now())
	case act == "retire" && o.request:
		err = k.RetireRequest(o.kid)
	case act == "add":
		err = o.add(ctx, k)
	case act == "retire":
		err = k.Retire(o.tenant, o.kid)
	default:
		return listKeys(k, stdout)
	}
	if err != nil {
		return err
	}
	return k.Replace(f.keys)
}

// add adds the key, and opens all keys: what is written is what the broker reads.
func (o keyOptions) add(ctx context.Context, k *keyfile.File) error {
	t := tokens{}
	defer t.close()
	now, suite := time.Now(), keywrap.Suite(o.suite)
	var err error
	if o.token == "" {
		err = k.Add(o.tenant, o.kid, suite, now)
	} else if err = k.AddToken(o.tenant, o.kid, suite, o.token, now); err == nil {
		err = t.generate(ctx, o.token)
	}
	if err != nil {
		return err
	}
	_, err = k.Keys(t.opener(ctx))
	return err
}

func listKeys(k *keyfile.File, stdout io.Writer) error {
	var errs []error
	for _, e := range k.Entries() {
		state, where := "since "+e.NotBefore.UTC().Format(time.DateOnly), "in the key file"
		if e.Retired {
			state = "retired"
		}
		if e.Token != "" {
			where, _, _ = strings.Cut(e.Token, "?") // which may have a PIN
		}
		_, err := fmt.Fprintf(stdout, "%-16s %-16s %-20s %-16s %s\n", e.Tenant, e.ID, e.Suite, state, cli.Printable(where))
		errs = append(errs, err)
	}
	for _, e := range k.Requests() {
		state := "since " + e.NotBefore.UTC().Format(time.DateOnly)
		switch {
		case e.Retired:
			state = "retired"
		case !e.NotAfter.IsZero():
			state = "until " + e.NotAfter.UTC().Format(time.DateOnly)
		}
		_, err := fmt.Fprintf(stdout, "%-16s %-16s %-20s %-16s %s\n", "(requests)", e.ID, e.Suite, state, "in the key file")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
