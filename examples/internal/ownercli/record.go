package ownercli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/checkpoint"
)

const aboutRecord = `
Print the record of the tenant, after verifying it: that no entry is missing or
changed, that the broker whose id is in -identity signed a checkpoint of its end,
and that all of it follows what was seen the last time.

  owner record -identity broker.id
  owner record -identity broker.id -chain refusals -after 120 -json

The highest checkpoint of each chain is kept in -checkpoints, for the next time and
for broker audit. Exit status 1 if the record went back, was forked, or has a gap:
its database was then put back, or is another. After a restore that the operator
told you of, say so once, with -accept-generation and the number that is printed.`

type recordOptions struct {
	service *service
	chain   string
	after   uint64
	id      string
	dir     string
	accept  uint64
}

func recordCommand() cli.Command {
	return cli.Command{Name: "owner record", About: aboutRecord, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		o := &recordOptions{service: serviceFlags(fs)}
		fs.StringVar(&o.chain, "chain", string(teebroker.Decisions), "print decisions or refusals; both are verified")
		fs.Uint64Var(&o.after, "after", 0, "print entries after this number")
		fs.StringVar(&o.id, "identity", "", "the broker id is in this `FILE`")
		fs.StringVar(&o.dir, "checkpoints", "", "keep the highest checkpoints in this `DIR` (default in your state directory)")
		fs.Uint64Var(&o.accept, "accept-generation", 0, "the database was restored, as generation `NUMBER`, and what it lost is known")
		return o.service.command(o.run)
	}}
}

// run fetches, judges and keeps.
func (o *recordOptions) run(ctx context.Context, c *v1.Client) (result, error) {
	if err := missing("identity", o.id); err != nil {
		return result{}, err
	}
	if o.chain != string(teebroker.Decisions) && o.chain != string(teebroker.Refusals) {
		return result{}, cli.Usagef("-chain is decisions or refusals")
	}
	id, err := cli.ReadBrokerID(o.id)
	if err != nil {
		return result{}, err
	}
	if o.dir == "" {
		state, err := cli.StateDir()
		if err != nil {
			return result{}, err
		}
		o.dir = filepath.Join(state, "owner")
	}
	file := checkpoint.In(o.dir, id)
	kept, err := file.Read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return result{}, err
	}
	f := fetched{tenant: o.service.tenant, accept: o.accept, kept: kept}
	if err := f.fetch(ctx, c, id, teebroker.Chain(o.chain), o.after); err != nil {
		return result{}, err
	}
	if f.fault != nil {
		return result{}, &no{f.result(o)}
	}
	_, err = file.Update(func(s checkpoint.Set) error {
		for _, c := range f.newest.Sorted() {
			if err := s.Add(c); err != nil {
				return err
			}
		}
		return nil
	})
	return f.result(o), err
}

// fetched is the record as the broker shows it.
type fetched struct {
	tenant string
	accept uint64
	kept   checkpoint.Set // from before
	newest checkpoint.Set // of this tenant, verified

	entries []v1.RecordEntry // of the chain that is printed
	fault   error            // what is wrong with the record
}

// fetch fills f. An error means that it could not be fetched.
func (f *fetched) fetch(ctx context.Context, c *v1.Client, broker [32]byte, chain teebroker.Chain, after uint64) error {
	r, err := c.Record(ctx, chain, after)
	if err != nil {
		return err
	}
	f.newest = checkpoint.Set{}
	for _, token := range r.Checkpoints {
		c, err := checkpoint.Verify([]byte(token), broker)
		if err == nil && c.Tenant != f.tenant {
			err = fmt.Errorf("a checkpoint of tenant %s", c.Tenant)
		}
		if err == nil {
			err = f.newest.Add(c)
		}
		if err != nil {
			f.fault = fmt.Errorf("the broker gave no checkpoint to believe: %w", err)
			return nil
		}
	}
	for _, name := range []teebroker.Chain{teebroker.Decisions, teebroker.Refusals} {
		from := after
		if name != chain {
			from = 1<<63 - 1
		}
		es, err := f.follow(ctx, c, name, from)
		if err != nil {
			return err
		}
		if name == chain {
			f.entries = es
		}
		if f.fault != nil {
			return nil
		}
	}
	return nil
}

// follow fetches a chain from what was kept of it, or from after where that is
// earlier, to its end, judges it, and returns the entries after after.
func (f *fetched) follow(ctx context.Context, c *v1.Client, chain teebroker.Chain, after uint64) ([]v1.RecordEntry, error) {
	kept, newest := f.last(chain)
	start := after
	for _, c := range []store.Checkpoint{kept, newest} {
		if c.Seq > 0 {
			start = min(start, c.Seq-1)
		}
	}
	var all []v1.RecordEntry
	for from := start; from < 1<<63-1; {
		r, err := c.Record(ctx, chain, from)
		if err != nil {
			return nil, err
		}
		if len(r.Entries) == 0 {
			break
		}
		all, from = append(all, r.Entries...), r.Entries[len(r.Entries)-1].Seq
	}
	if err := judge(f.tenant, chain, f.accept, start, all, kept, newest); err != nil {
		f.fault = err
	}
	for len(all) > 0 && all[0].Seq <= after {
		all = all[1:]
	}
	return all, nil
}

// last returns what was kept of a chain and its newest checkpoint; of what there is
// not, Seq is 0. What was kept of a generation that is over says nothing any more.
func (f *fetched) last(chain teebroker.Chain) (kept, newest store.Checkpoint) {
	key := checkpoint.Key{Tenant: f.tenant, Chain: chain}
	kept, newest = f.kept[key], f.newest[key]
	if f.accept != 0 && newest.Generation == f.accept && kept.Generation < f.accept {
		kept = store.Checkpoint{}
	}
	return kept, newest
}

// judge returns an error unless es are the entries of a chain after start, up to its
// newest checkpoint or beyond, and follow what was kept.
func judge(tenant string, chain teebroker.Chain, accept, start uint64, es []v1.RecordEntry, kept, newest store.Checkpoint) error {
	where := fmt.Sprintf("%s of tenant %s", chain, tenant)
	var end uint64
	if len(es) > 0 {
		end = es[len(es)-1].Seq
	}
	switch {
	case newest.Seq == 0 && kept.Seq > 0:
		return fmt.Errorf("%s: went back: the broker signed no checkpoint of it, and you saw entry %d", where, kept.Seq)
	case newest.Generation > kept.Generation && kept.Seq > 0:
		return fmt.Errorf("%s: the database was restored, as generation %d: you saw %d entries of generation %d, of which some may be lost; "+
			"if you know of it, accept it once with -accept-generation %d", where, newest.Generation, kept.Seq, kept.Generation, newest.Generation)
	case newest.Generation < kept.Generation && kept.Seq > 0:
		return fmt.Errorf("%s: went back: the broker shows generation %d, and you saw %d", where, newest.Generation, kept.Generation)
	case newest.Seq < kept.Seq:
		return fmt.Errorf("%s: went back: the broker's checkpoint is of entry %d, and you saw entry %d", where, newest.Seq, kept.Seq)
	case newest.Seq == 0 && end > 0:
		return fmt.Errorf("%s: the broker signed no checkpoint of it", where)
	case end < newest.Seq:
		return fmt.Errorf("%s: has a gap: the broker signed entry %d, and does not show it", where, newest.Seq)
	}
	if err := checkRecord(tenant, chain, start, es); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	for _, e := range es {
		if e.Seq == kept.Seq && e.Hash != kept.Head {
			return fmt.Errorf("%s: forked: entry %d is another one than you saw", where, e.Seq)
		}
		if e.Seq == newest.Seq && e.Hash != newest.Head {
			return fmt.Errorf("%s: forked: entry %d is another one than the broker signed", where, e.Seq)
		}
		if e.Generation > newest.Generation {
			return fmt.Errorf("%s: entry %d is of a later generation than the broker signed", where, e.Seq)
		}
	}
	return nil
}

// recordJSON is what -json prints.
type recordJSON struct {
	OK          bool             `json:"ok"`
	Problem     string           `json:"problem,omitempty"`
	Tenant      string           `json:"tenant"`
	Checkpoints []string         `json:"checkpoints"`
	Entries     []v1.RecordEntry `json:"entries"`
}

func (f *fetched) result(o *recordOptions) result {
	j := recordJSON{OK: f.fault == nil, Tenant: f.tenant, Checkpoints: []string{}, Entries: append([]v1.RecordEntry{}, f.entries...)}
	if f.fault != nil {
		j.Problem = f.fault.Error()
	}
	for _, c := range f.newest.Sorted() {
		j.Checkpoints = append(j.Checkpoints, string(c.Token))
	}
	return result{j, func(p *cli.Page) { f.print(p, o) }}
}

func (f *fetched) print(p *cli.Page, o *recordOptions) {
	if f.fault != nil {
		p.Line(cli.Cell{Text: "not the record that was", Style: cli.Bad}, cli.Cell{Text: f.fault.Error()})
		p.Line(cli.Cell{Text: "release nothing on it: ask the broker's operator, and keep " + o.dir + " as it is", Style: cli.Dim})
	} else {
		p.Line(cli.Cell{Text: "whole", Style: cli.Good}, cli.Cell{Text: fmt.Sprintf("%d entries", len(f.entries))})
	}
	printRecord(p, f.entries)
	var rows [][]cli.Cell
	for _, c := range f.newest.Sorted() {
		rows = append(rows, []cli.Cell{
			{Text: string(c.Chain)},
			{Text: strconv.FormatUint(c.Seq, 10)},
			{Text: "generation " + strconv.FormatUint(c.Generation, 10)},
			{Text: c.At().Local().Format(time.DateTime), Style: cli.Dim},
			{Text: fmt.Sprintf("%x", c.Head), Style: cli.Dim},
		})
	}
	p.Table("Checkpoints", rows)
}

// checkRecord returns an error unless es are the entries after the one called after,
// in a chain of tenant.
func checkRecord(tenant string, chain teebroker.Chain, after uint64, es []v1.RecordEntry) error {
	var last v1.RecordEntry
	for i, e := range es {
		full := store.RecordEntry{
			Entry:      teebroker.Entry{Chain: e.Chain, Tenant: tenant, Kind: e.Kind, Body: e.Body},
			Generation: e.Generation, Seq: e.Seq, Time: time.UnixMilli(e.Time), Previous: e.Previous,
		}
		switch {
		case e.Chain != chain || e.Seq != after+uint64(i)+1:
			return fmt.Errorf("entry %d is not the one after %d", e.Seq, after+uint64(i))
		case i > 0 && e.Previous != last.Hash || e.Seq == 1 && e.Previous != [32]byte{}:
			return fmt.Errorf("entry %d does not follow the one before", e.Seq)
		case store.EntryHash(full) != e.Hash:
			return fmt.Errorf("entry %d was changed", e.Seq)
		}
		last = e
	}
	return nil
}

func printRecord(p *cli.Page, es []v1.RecordEntry) {
	var rows [][]cli.Cell
	for _, e := range es {
		style := cli.Plain
		switch e.Kind {
		case teebroker.KindRelease, teebroker.KindRedelivery:
			style = cli.Good
		case teebroker.KindRefusal:
			style = cli.Bad
		}
		rows = append(rows, []cli.Cell{
			{Text: strconv.FormatUint(e.Seq, 10)},
			{Text: time.UnixMilli(e.Time).Local().Format(time.DateTime), Style: cli.Dim},
			{Text: string(e.Kind), Style: style},
			{Text: string(e.Body)},
		})
	}
	p.Table("Record", rows)
}
