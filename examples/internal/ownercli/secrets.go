package ownercli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/owner"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

const aboutSecret = `
Store a secret of an instance with the broker, which encrypts it at rest.

Who can read the broker's database and key file has it. To leave the broker
nothing that it can open by itself, see owner wrap.

  owner secret put -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose disk -in secret.bin`

func secretCommand() cli.Command {
	return cli.Command{Name: "owner secret put", About: aboutSecret, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s, i := serviceFlags(fs), instanceFlag{}
		i.register(fs)
		purpose := fs.String("purpose", "", "`NAME` of the secret")
		in := fs.String("in", "", "the secret is in this `FILE`, byte for byte")
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if err := missing("instance", i.text(), "purpose", *purpose, "in", *in); err != nil {
				return result{}, err
			}
			secret, err := readSecret(*in, store.MaxSecret)
			if err != nil {
				return result{}, err
			}
			defer clear(secret)
			if err := c.PutSecret(ctx, i.id, *purpose, secret); err != nil {
				return result{}, err
			}
			return line("stored %d bytes as %s of %s", len(secret), *purpose, i.text()), nil
		})
	}}
}

const aboutWrap = `
Wrap a secret to the broker's attestation key, and register the digest.

The blob goes with the disk image, or anywhere: only the broker's key opens it, and
the broker uses that key for the guest that you authorize. The key is believed if
the broker that you know signed it: its id is in the file -identity.

  owner wrap -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose disk \
    -identity broker.id -in key.bin -out key.wrapped`

func wrapCommand() cli.Command {
	return cli.Command{Name: "owner wrap", About: aboutWrap, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s, i := serviceFlags(fs), instanceFlag{}
		i.register(fs)
		purpose := fs.String("purpose", "", "`NAME` of the secret")
		in := fs.String("in", "", "the secret is in this `FILE`, byte for byte")
		out := fs.String("out", "", "write the blob to `FILE`")
		identity := fs.String("identity", "", "the broker id is in this `FILE`")
		mode := fs.String("epochs", "", "give the purpose epochs, in `MODE` boot or write: the host can't put back an earlier state")
		initial := fs.Bool("initial", false, "with -epochs: the guest makes its own first state")
		keep := fs.Bool("keep", false, "leave the broker a copy of the blob, for guests that present none")
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if err := missing("instance", i.text(), "purpose", *purpose, "in", *in, "out", *out, "identity", *identity); err != nil {
				return result{}, err
			}
			id, err := cli.ReadBrokerID(*identity)
			if err != nil {
				return result{}, err
			}
			secret, err := readSecret(*in, owner.MaxSecret)
			if err != nil {
				return result{}, err
			}
			defer clear(secret)
			keys, err := c.Keys(ctx, s.tenant)
			if err != nil {
				return result{}, err
			}
			key, err := ownerKey(s.order)
			if err != nil {
				return result{}, err
			}
			w, err := owner.Wrap(owner.Blob{
				Keys: keys, Broker: id, Time: time.Now(), Tenant: s.tenant, Instance: i.id, Purpose: *purpose, Epoch: firstEpoch(*mode), Owner: key,
			}, secret)
			if err != nil {
				return result{}, err
			}
			// The blob first: a digest without its blob would open nothing.
			if err := writeBlob(*out, w); err != nil {
				return result{}, err
			}
			if *mode != "" {
				return epochResult(c.Begin(ctx, i.id, *purpose, v1.Epochs{Mode: *mode, Number: firstEpoch(*mode), Initial: *initial}, w))
			}
			if err := c.PutBlob(ctx, i.id, *purpose, w, *keep); err != nil {
				return result{}, err
			}
			d := w.Digest()
			return line("wrapped to %s, registered as %x", *out, d), nil
		})
	}}
}

// firstEpoch is the number of the first key of a purpose with epochs.
func firstEpoch(mode string) uint64 {
	if mode == "" {
		return 0
	}
	return 1
}

func writeBlob(path string, w keywrap.Wrapped) error {
	b, err := w.MarshalJSON()
	if err != nil {
		return err
	}
	return cli.WriteFile(path, append(b, '\n'), 0o644)
}

const aboutRewrap = `
Have wrapped secrets wrapped to the broker's present key, before an old one is retired.

The broker unwraps what is registered and wraps it again; the secret does not leave
it. It has to have a copy (wrap -keep), or is given the blob, which is replaced:

  owner rewrap -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11
  owner rewrap -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose disk -blob key.wrapped

Without -instance: every blob of every instance. Open authorizations of what is
rewrapped end.`

func rewrapCommand() cli.Command {
	return cli.Command{Name: "owner rewrap", About: aboutRewrap, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s, i := serviceFlags(fs), instanceFlag{}
		i.register(fs)
		purpose := fs.String("purpose", "", "`NAME` of the secret (default all)")
		blob := fs.String("blob", "", "the blob is in this `FILE`, and the new one goes there")
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if *blob != "" {
				if err := missing("instance", i.text(), "purpose", *purpose); err != nil {
					return result{}, err
				}
			}
			ids, err := [][16]byte{i.id}, error(nil)
			if i.text() == "" {
				ids, err = c.Instances(ctx)
			}
			n := 0
			for _, id := range ids {
				if err == nil {
					var done int
					done, err = rewrapInstance(ctx, c, id, *purpose, *blob)
					n += done
				}
			}
			if err != nil {
				return result{}, err
			}
			return line("%d blobs wrapped anew", n), nil
		})
	}}
}

func rewrapInstance(ctx context.Context, c *v1.Client, id [16]byte, purpose, blob string) (int, error) {
	inst, err := c.Instance(ctx, id)
	if err != nil {
		return 0, err
	}
	n := 0
	for p := range inst.Blobs {
		if purpose != "" && p != purpose {
			continue
		}
		if _, err := c.Epoch(ctx, id, p); err == nil {
			continue // the broker wraps what comes after the first boot itself
		}
		var old []byte
		if blob != "" {
			if old, err = cli.ReadFile(blob, v1.MaxRelease); err != nil {
				return n, err
			}
		}
		w, err := c.Rewrap(ctx, id, p, old)
		if err == nil && blob != "" {
			err = writeBlob(blob, w)
		}
		if err != nil {
			return n, fmt.Errorf("%s of %s, after %d: %w", p, inst.ID, n, err)
		}
		n++
	}
	if purpose != "" && n == 0 {
		return 0, fmt.Errorf("%s has no blob of purpose %s", inst.ID, purpose)
	}
	return n, nil
}

const aboutAuthorize = `
Allow a guest of an instance to have secrets: once, within an hour, unless you say
otherwise. The guest that takes the use is the only one that ever has it.

  owner authorize -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose disk
  owner authorize -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -uses 3 -for 24h`

func authorizeCommand() cli.Command {
	return cli.Command{Name: "owner authorize", About: aboutAuthorize, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s, i := serviceFlags(fs), instanceFlag{}
		i.register(fs)
		var purposes cli.List
		fs.Var(&purposes, "purpose", "purposes `NAME,…` (default all that the instance has)")
		var profiles cli.List
		fs.Var(&profiles, "profile", "protocols `NAME,…` (default those that the instance was registered for)")
		outlives := fs.Bool("outlives-confirm", false, "stay open when a guest of a purpose with epochs confirms its boot, for -uses of them")
		uses := fs.Int("uses", 1, "how many guest keys may have them")
		life := fs.Duration("for", time.Hour, "from now for this `DURATION`")
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if err := missing("instance", i.text()); err != nil {
				return result{}, err
			}
			if *uses < 1 || *life <= 0 {
				return result{}, cli.Usagef("-uses and -for have to be more than nothing")
			}
			inst, err := c.Instance(ctx, i.id)
			if err != nil {
				return result{}, err
			}
			of := []string(purposes)
			if len(of) == 0 {
				if of, err = allPurposes(inst); err != nil {
					return result{}, err
				}
			}
			by := registeredProfiles(inst, of)
			if len(profiles) > 0 {
				by = nil
				for _, p := range profiles {
					by = append(by, nonce.Profile(p))
				}
			}
			a, err := c.Authorize(ctx, i.id, v1.Authorization{Purposes: of, Profiles: by, Uses: *uses, Outlives: *outlives, NotAfter: time.Now().Add(*life).UTC().Truncate(time.Second)})
			if err != nil {
				return result{}, err
			}
			return result{a, func(p *cli.Page) { p.Line(authorizationRow(a)...) }}, nil
		})
	}}
}

// registeredProfiles returns the protocols by which inst releases any of purposes.
func registeredProfiles(inst v1.Instance, purposes []string) []nonce.Profile {
	var all []nonce.Profile
	for _, p := range purposes {
		by, ok := inst.Registration.Profiles[p]
		if !ok {
			by = []nonce.Profile{nonce.ProfileV1}
		}
		all = append(all, by...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// allPurposes returns the purposes of what inst has.
func allPurposes(inst v1.Instance) ([]string, error) {
	all := slices.Clone(inst.Secrets)
	for p := range inst.Blobs {
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, errors.New("the instance has no secret and no blob to authorize")
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
