package ownercli

import (
	"context"
	"flag"
	"fmt"

	"github.com/teebroker/teebroker/examples/internal/cli"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

var aboutActs = map[string]string{
	"hold": `
Stop releases and confirms of a purpose with epochs, until owner resume. A guest
that runs goes on, and can't persist that it did.

  owner hold -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm`,
	"resume": `
Take releases and confirms of a purpose again that owner hold stopped.

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
End a purpose with epochs, for ever: nothing is ever released of it again.

  owner retire -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm`,
	"epoch": `
Say where the epochs of a purpose are.

  owner epoch -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -purpose vtpm`,
}

func epochCommand(act string) cli.Command {
	return cli.Command{Name: "owner " + act, About: aboutActs[act], Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s, i := serviceFlags(fs), instanceFlag{}
		i.register(fs)
		purpose := fs.String("purpose", "", "`NAME` of the secret")
		var number uint64
		var wrapped string
		if act == "recover" {
			fs.Uint64Var(&number, "epoch", 0, "`NUMBER` of the epoch that the backup is of")
			fs.StringVar(&wrapped, "wrapped", "", "its wrapped key is in this `FILE` (default the broker's copy)")
		}
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if err := missing("instance", i.text(), "purpose", *purpose); err != nil {
				return result{}, err
			}
			if act == "epoch" {
				return epochResult(c.Epoch(ctx, i.id, *purpose))
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
			return epochResult(c.Act(ctx, i.id, act, a))
		})
	}}
}

func epochResult(e store.EpochStatus, err error) (result, error) {
	if err != nil {
		return result{}, err
	}
	text := fmt.Sprintf("%s, epoch %d of %d, mode %s", e.State, e.Epoch, e.High, e.Mode)
	if e.Pending != 0 {
		text += fmt.Sprintf(", pending %d", e.Pending)
	}
	r := line("%s", text)
	r.json = e
	return r, nil
}
