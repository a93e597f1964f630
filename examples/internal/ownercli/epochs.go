package ownercli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

var aboutActs = map[string]string{
	"hold": `
Stop releases and confirms of a purpose with epochs, until owner resume; without
-purpose, of all of the instance. A guest that runs goes on, and can't persist that
it did.

  owner hold -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm`,
	"resume": `
Take releases and confirms again that owner hold stopped; without -purpose, of all
purposes of the instance.

  owner resume -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm`,
	"recover": `
Have the next guest open the state of an earlier epoch: a backup of its disk. The
broker wraps the key of that epoch anew. Every release is superseded, also that of a
guest that runs, and open authorizations end. What came after is given up for good,
so look at owner epoch first:

  owner recover -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm -epoch 7

The broker has the keys of the last 16 epochs; give that of an older one with
-wrapped, as the guest got it.`,
	"retire": `
End a purpose with epochs, for ever: nothing is ever released of it again. Without
-purpose, end all of the instance that have epochs.

  owner retire -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm`,
	"epoch": `
Say where the epochs of a purpose are, or of all purposes of an instance.

  owner epoch -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm`,
}

func epochCommand(act string) cli.Command {
	return cli.Command{Name: "owner " + act, About: aboutActs[act], Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s, i := serviceFlags(fs), instanceFlag{}
		i.register(fs)
		purpose := fs.String("purpose", "", "`NAME` of the secret (default all of the instance that have epochs)")
		var number uint64
		var wrapped string
		if act == "recover" {
			fs.Uint64Var(&number, "epoch", 0, "`NUMBER` of the epoch that the backup is of")
			fs.StringVar(&wrapped, "wrapped", "", "its wrapped key is in this `FILE` (default the broker's copy)")
		}
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if err := missing("instance", i.text()); err != nil {
				return result{}, err
			}
			a := v1.Act{Purpose: *purpose, Epoch: number}
			if act == "recover" && number == 0 {
				return result{}, cli.Usagef("-epoch is needed")
			}
			if wrapped != "" {
				b, err := cli.ReadFile(wrapped, v1.MaxRelease)
				if err != nil {
					return result{}, err
				}
				a.Wrapped = b
			}
			if *purpose != "" {
				return epochResult(actOn(ctx, c, i.id, act, a))
			}
			return everyEpoch(ctx, c, i.id, act, a)
		})
	}}
}

func actOn(ctx context.Context, c *v1.Client, id [16]byte, act string, a v1.Act) (store.EpochStatus, error) {
	if act == "epoch" {
		return c.Epoch(ctx, id, a.Purpose)
	}
	return c.Act(ctx, id, act, a)
}

// everyEpoch acts on all purposes of an instance with epochs that act is for. A
// recovery is of one: two purposes have different numbers for one backup. What
// follows a refusal is tried all the same, so that a hold holds what it can.
func everyEpoch(ctx context.Context, c *v1.Client, id [16]byte, act string, a v1.Act) (result, error) {
	states, err := epochsOf(ctx, c, id)
	if err != nil {
		return result{}, err
	}
	maps.DeleteFunc(states, func(_ string, e store.EpochStatus) bool {
		return act != "epoch" && e.State == epochRetired || act == "resume" && e.State != epochHeld
	})
	purposes := slices.Sorted(maps.Keys(states))
	switch {
	case len(purposes) == 0:
		return result{}, cli.Usagef("no purpose of this instance has epochs to %s", act)
	case act == "recover" && len(purposes) > 1:
		return result{}, cli.Usagef("-purpose is needed, one of %s: the number of an epoch is of one purpose", strings.Join(purposes, ", "))
	}
	var errs []error
	for _, p := range purposes {
		a.Purpose = p
		got, err := actOn(ctx, c, id, act, a)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p, err))
		}
		states[p] = got
	}
	if err := errors.Join(errs...); err != nil {
		return result{}, err
	}
	return result{map[string]any{"purposes": states}, func(page *cli.Page) {
		for _, p := range purposes {
			page.Line(cli.Cell{Text: p}, cli.Cell{Text: epochText(states[p]), Style: cli.Good})
		}
	}}, nil
}

// States of store.EpochStatus.
const (
	epochHeld    = "HELD"
	epochRetired = "RETIRED"
)

// epochsOf returns where the epochs of an instance are, by purpose.
func epochsOf(ctx context.Context, c *v1.Client, id [16]byte) (map[string]store.EpochStatus, error) {
	i, err := c.Instance(ctx, id)
	if err != nil {
		return nil, err
	}
	states := map[string]store.EpochStatus{}
	for p := range i.Blobs {
		e, err := c.Epoch(ctx, id, p)
		if errors.Is(err, teebroker.NoInstance) {
			continue // wrapped, and without epochs
		}
		if err != nil {
			return nil, err
		}
		states[p] = e
	}
	return states, nil
}

func epochText(e store.EpochStatus) string {
	text := fmt.Sprintf("%s, epoch %d of %d, mode %s", e.State, e.Epoch, e.High, e.Mode)
	if e.Pending != 0 {
		text += fmt.Sprintf(", pending %d", e.Pending)
	}
	return text
}

func epochResult(e store.EpochStatus, err error) (result, error) {
	if err != nil {
		return result{}, err
	}
	r := line("%s", epochText(e))
	r.json = e
	return r, nil
}
