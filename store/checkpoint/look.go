package checkpoint

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// page is how many entries are read at a time.
const page = 1000

// Look compares the database with all that was seen, verifies what was added since
// the last Look, and makes and keeps a checkpoint of each chain that went on. What
// is not as it was stops everything, until a later Look finds it again. Errors
// wrap ErrDiffers, ErrMissing or ErrFile; any other means that it could not look
// or not keep, which may be over by the next time.
func (k *Keeper) Look(ctx context.Context) error {
	k.looking.Lock()
	defer k.looking.Unlock()
	if k.src == nil {
		return errStart
	}
	began := k.cfg.Time()
	k.mu.Lock()
	l := &look{Keeper: k, ctx: ctx, seen: maps.Clone(k.seen), kept: maps.Clone(k.kept), heads: map[Key]store.Mark{}}
	stopped, commits := k.stopped, k.commits
	k.mu.Unlock()
	made, err := l.run()
	if errors.Is(err, ErrDiffers) {
		k.stop(err)
	}
	if err != nil {
		return err
	}
	k.mu.Lock()
	again := k.stopped == stopped && errors.Is(stopped, ErrDiffers)
	if k.stopped == stopped { // nobody else stopped it meanwhile
		k.stopped = nil
	}
	for key, m := range l.heads {
		if m.Seq > k.seen[key].Seq {
			k.seen[key] = m
		}
	}
	k.kept = l.kept
	k.dirty, k.at = time.Time{}, began
	if k.commits != commits {
		k.dirty = began
	}
	k.mu.Unlock()
	k.looked, k.generation, k.began, k.missing = l.heads, l.generation, true, false
	if again {
		k.cfg.Report("the record is the one that was seen again; releases go on")
	}
	if err := k.src.PutCheckpoints(ctx, made); err != nil {
		return fmt.Errorf("checkpoint: for others: %w", err)
	}
	return nil
}

// look is one Look. It has copies of what it compares with.
type look struct {
	*Keeper
	ctx        context.Context
	generation uint64
	seen       map[Key]store.Mark
	kept       Set
	theirs     Set // of any process, in the database
	heads      map[Key]store.Mark
}

// run returns the checkpoints that were signed. Those are in kept, and durable.
func (l *look) run() ([]store.Checkpoint, error) {
	tokens, err := l.src.Checkpoints(l.ctx, "") // before what they may not be ahead of
	if err != nil {
		return nil, err
	}
	position, err := l.src.Position(l.ctx)
	if err != nil {
		return nil, err
	}
	if l.generation = position.Generation; l.generation != l.src.Generation() || l.began && l.generation != l.Keeper.generation {
		return nil, fmt.Errorf("%w: it was restored, and is of generation %d now: start the broker again", ErrDiffers, l.generation)
	}
	for _, h := range position.Heads {
		l.heads[Key{h.Tenant, h.Chain}] = h.Mark
	}
	l.read(tokens)
	if !l.began {
		if err := l.first(len(tokens)); err != nil {
			return nil, err
		}
	}
	for _, key := range l.chains() {
		if err := l.compare(key); err != nil {
			return nil, err
		}
	}
	if !l.began && l.missing {
		l.cfg.Report("checkpoints of the record are kept in " + l.file.Path() + " from now on")
	}
	made, err := l.sign()
	if err != nil {
		return nil, err
	}
	return made, l.keep()
}

// read verifies what other processes left in the database. What is not a
// checkpoint of this broker, who can write there can have made up; it is replaced.
func (l *look) read(tokens [][]byte) {
	known := map[string]store.Checkpoint{}
	for _, c := range l.kept {
		known[string(c.Token)] = c
	}
	l.theirs = Set{}
	for _, token := range tokens {
		c, ok := known[string(token)]
		if !ok {
			var err error
			if c, err = Verify(token, l.id); err != nil {
				continue
			}
		}
		l.theirs[keyOf(c)] = c
	}
}

// first judges what is kept from before this process. There is a restore if its
// operator's command, which has the identity key, signed checkpoints of the new
// generation.
func (l *look) first(stored int) error {
	var top uint64
	for _, c := range l.kept {
		top = max(top, c.Generation)
	}
	ofThis := func(c store.Checkpoint) bool { return c.Generation == l.generation }
	switch {
	case l.missing && stored > 0 && !l.cfg.AllowMissing:
		return fmt.Errorf("%w from %s: put a copy back, of this process or another, or begin without (-allow-missing-checkpoints), if you know that the database is up to date", ErrMissing, l.file.Path())
	case top > l.generation:
		return fmt.Errorf("%w: it is of generation %d, and %d was seen", ErrDiffers, l.generation, top)
	case top > 0 && top < l.generation && !slices.ContainsFunc(l.theirs.Sorted(), ofThis):
		return fmt.Errorf("%w: it is of generation %d, and no checkpoint says that the broker's operator restored it", ErrDiffers, l.generation)
	case top > 0 && top < l.generation:
		for _, c := range l.kept.Sorted() {
			l.cfg.Report(fmt.Sprintf("the database was restored: %s of tenant %s were seen up to entry %d in generation %d, and end at %d in generation %d",
				c.Chain, c.Tenant, c.Seq, c.Generation, l.heads[keyOf(c)].Seq, l.generation))
		}
	}
	return nil
}

// chains returns every chain that there is or was, sorted.
func (l *look) chains() []Key {
	all := map[Key]bool{}
	for key := range l.heads {
		all[key] = true
	}
	for key := range l.seen {
		all[key] = true
	}
	for key := range l.kept {
		all[key] = true
	}
	for key := range l.theirs {
		all[key] = true
	}
	return slices.SortedFunc(maps.Keys(all), Key.compare)
}

// compare returns an error unless a chain has everything that was seen of it, and
// what was added since is whole.
func (l *look) compare(key Key) error {
	head, from := l.heads[key], l.looked[key]
	var must []store.Mark
	if m := l.seen[key]; m.Seq > 0 {
		must = append(must, m)
	}
	for _, s := range []Set{l.kept, l.theirs} {
		c, ok := s[key]
		switch m := (store.Mark{Seq: c.Seq, Hash: c.Head}); {
		case ok && c.Generation > l.generation:
			return fmt.Errorf("%w: it is of generation %d, and %d was seen", ErrDiffers, l.generation, c.Generation)
		case ok && c.Generation == l.generation:
			must = append(must, m)
		}
	}
	if from.Seq == 0 && len(must) == 0 {
		from = head // seen for the first time
	}
	if from.Seq > 0 {
		must = append(must, from)
	}
	behind := false // something has to be looked up
	low := head.Seq
	for _, m := range must {
		if m.Seq > head.Seq || m.Seq == head.Seq && m.Hash != head.Hash {
			return differs(key, m, head)
		}
		low, behind = min(low, m.Seq), behind || m.Seq < head.Seq
	}
	if head.Seq == 0 || !behind && head == l.looked[key] {
		return nil
	}
	return l.walk(key, low, head, must)
}

// walk verifies the entries of a chain from the one with number low to its head,
// and that those that have to be there are.
func (l *look) walk(key Key, low uint64, head store.Mark, must []store.Mark) error {
	var last store.RecordEntry
	for after := low - 1; after < head.Seq; {
		es, err := l.src.Record(l.ctx, key.Tenant, key.Chain, after, page)
		if err != nil {
			return err
		}
		if len(es) == 0 {
			return fmt.Errorf("%w: entry %d of %s of tenant %s is missing", ErrDiffers, after+1, key.Chain, key.Tenant)
		}
		for _, e := range es {
			if e.Seq > head.Seq {
				break
			}
			if e.Seq != after+1 || e.Hash != store.EntryHash(e) || last.Seq > 0 && e.Previous != last.Hash || e.Generation > l.generation {
				return fmt.Errorf("%w: entry %d of %s of tenant %s does not follow", ErrDiffers, after+1, key.Chain, key.Tenant)
			}
			for _, m := range must {
				if m.Seq == e.Seq && m.Hash != e.Hash {
					return differs(key, m, head)
				}
			}
			last, after = e, e.Seq
		}
	}
	if last.Hash != head.Hash {
		return fmt.Errorf("%w: %s of tenant %s do not end where they should", ErrDiffers, key.Chain, key.Tenant)
	}
	return nil
}

// sign puts into kept a checkpoint of each chain as it is now: of another process,
// or one that it signs and returns.
func (l *look) sign() ([]store.Checkpoint, error) {
	var made []store.Checkpoint
	now := l.cfg.Time()
	for _, key := range slices.SortedFunc(maps.Keys(l.heads), Key.compare) {
		head := l.heads[key]
		have, ok := l.kept[key]
		theirs := l.theirs[key]
		switch {
		case ok && have.Generation == l.generation && have.Seq == head.Seq:
		case theirs.Generation == l.generation && theirs.Seq == head.Seq:
			l.kept[key] = theirs
		default:
			c, err := newCheckpoint(l.cfg.Identity, key, l.generation, head, now, have.Token)
			if err != nil {
				return nil, err
			}
			l.kept[key] = c
			made = append(made, c)
		}
	}
	return made, nil
}

func newCheckpoint(identity crypto.Signer, key Key, generation uint64, head store.Mark, now time.Time, previous []byte) (store.Checkpoint, error) {
	c := teebroker.Checkpoint{
		Tenant: key.Tenant, Chain: key.Chain, Generation: generation, Seq: head.Seq, Head: head.Hash, Time: now.UnixMilli(),
	}
	if previous != nil {
		c.Previous = sha256.Sum256(previous)
	}
	token, err := c.Sign(identity)
	return store.Checkpoint{Checkpoint: c, Token: token}, err
}

// keep makes kept durable, if it is not. Those of an earlier generation are over.
func (l *look) keep() error {
	maps.DeleteFunc(l.kept, func(_ Key, c store.Checkpoint) bool { return c.Generation < l.generation })
	_, err := os.Lstat(l.file.Path())
	gone := errors.Is(err, fs.ErrNotExist)
	if l.began && gone {
		l.cfg.Report(l.file.Path() + " was gone, and is written again")
	}
	l.mu.Lock()
	same := maps.EqualFunc(l.kept, l.Keeper.kept, func(a, b store.Checkpoint) bool { return string(a.Token) == string(b.Token) })
	l.mu.Unlock()
	if same && !gone {
		return nil
	}
	l.kept, err = l.file.Update(func(s Set) error {
		maps.DeleteFunc(s, func(_ Key, c store.Checkpoint) bool { return c.Generation < l.generation })
		for _, c := range l.kept.Sorted() {
			if err := s.Add(c); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// Restored signs that the database in src is what its operator restored, in the
// generation that it has now: brokers that kept checkpoints of an earlier one then
// accept it, once. It is for who makes a new generation, and nobody else.
func Restored(ctx context.Context, src Source, identity crypto.Signer, now time.Time) error {
	position, err := src.Position(ctx)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	var cs []store.Checkpoint
	for _, h := range position.Heads {
		c, err := newCheckpoint(identity, Key{h.Tenant, h.Chain}, position.Generation, h.Mark, now, nil)
		if err != nil {
			return err
		}
		cs = append(cs, c)
	}
	return src.PutCheckpoints(ctx, cs)
}
