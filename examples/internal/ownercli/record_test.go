package ownercli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

// fakeBroker shows a record that a test changes.
type fakeBroker struct {
	*testing.T
	key        *ecdsa.PrivateKey
	generation uint64
	chains     map[teebroker.Chain][]v1.RecordEntry
	tokens     map[teebroker.Chain]string
	dir, url   string
}

func newFakeBroker(t *testing.T) *fakeBroker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{T: t, key: key, generation: 1, chains: map[teebroker.Chain][]v1.RecordEntry{}, tokens: map[teebroker.Chain]string{}, dir: t.TempDir()}
	id, err := jws.Thumbprint(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"token": "secret-token\n", "broker.id": base64.RawURLEncoding.EncodeToString(id[:]) + "\n"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 63)
		if err != nil || r.URL.Path != v1.PathRecord {
			t.Error(r.URL)
		}
		page := v1.Record{Tenant: "default", Entries: []v1.RecordEntry{}, Checkpoints: []string{}}
		for _, e := range b.chains[teebroker.Chain(r.URL.Query().Get("chain"))] {
			if e.Seq > after && len(page.Entries) < 3 {
				page.Entries = append(page.Entries, e)
			}
		}
		for _, chain := range []teebroker.Chain{teebroker.Decisions, teebroker.Refusals} {
			if token := b.tokens[chain]; token != "" {
				page.Checkpoints = append(page.Checkpoints, token)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(page); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	b.url = s.URL
	return b
}

// add adds n entries of a kind and signs.
func (b *fakeBroker) add(chain teebroker.Chain, n int, kind teebroker.Kind) {
	for range n {
		var last store.RecordEntry
		if es := b.chains[chain]; len(es) > 0 {
			e := es[len(es)-1]
			last = store.RecordEntry{Seq: e.Seq, Hash: e.Hash, Time: time.UnixMilli(e.Time)}
		}
		e := last.Follow(teebroker.Entry{Chain: chain, Tenant: "default", Kind: kind, Body: []byte("{}")}, b.generation, time.Unix(1000, 0))
		b.chains[chain] = append(b.chains[chain], v1.RecordEntry{
			Chain: chain, Generation: e.Generation, Seq: e.Seq, Time: e.Time.UnixMilli(), Kind: kind, Body: e.Body, Previous: e.Previous, Hash: e.Hash,
		})
	}
	b.sign(chain, func(*teebroker.Checkpoint) {})
}

// cut leaves n entries, and signs.
func (b *fakeBroker) cut(chain teebroker.Chain, n int) {
	b.chains[chain] = b.chains[chain][:n]
	b.sign(chain, func(*teebroker.Checkpoint) {})
}

func (b *fakeBroker) sign(chain teebroker.Chain, edit func(*teebroker.Checkpoint)) {
	b.Helper()
	last := b.chains[chain][len(b.chains[chain])-1]
	c := teebroker.Checkpoint{Tenant: "default", Chain: chain, Generation: b.generation, Seq: last.Seq, Head: last.Hash, Time: 1}
	edit(&c)
	token, err := c.Sign(b.key)
	if err != nil {
		b.Fatal(err)
	}
	b.tokens[chain] = string(token)
}

func (b *fakeBroker) save() func() {
	chains, tokens, generation, key := map[teebroker.Chain][]v1.RecordEntry{}, map[teebroker.Chain]string{}, b.generation, b.key
	for c, es := range b.chains {
		chains[c], tokens[c] = slices.Clone(es), b.tokens[c]
	}
	return func() { b.chains, b.tokens, b.generation, b.key = chains, tokens, generation, key }
}

// record runs owner record.
func (b *fakeBroker) record(args ...string) (int, string) {
	var stdout, stderr bytes.Buffer
	args = append([]string{
		"record", "-broker", b.url, "-token-file", filepath.Join(b.dir, "token"),
		"-identity", filepath.Join(b.dir, "broker.id"), "-checkpoints", filepath.Join(b.dir, "kept"),
	}, args...)
	return Program().Main(args, &stdout, &stderr), stdout.String() + stderr.String()
}

func (b *fakeBroker) want(status int, text string, args ...string) {
	b.Helper()
	if got, out := b.record(args...); got != status || !strings.Contains(out, text) {
		b.Errorf("exit status %d, want %d and %q:\n%s", got, status, text, out)
	}
}

// An owner who looks from time to time notices a record that went back, was forked,
// or has a gap, in either chain, and goes on where it is right again.
func TestRecord(t *testing.T) {
	decisions, refusals := teebroker.Decisions, teebroker.Refusals
	for name, tt := range map[string]struct {
		change func(b *fakeBroker)
		text   string
	}{
		"went back":                     {func(b *fakeBroker) { b.cut(decisions, 5) }, "decisions of tenant default: went back: the broker's checkpoint is of entry 5, and you saw entry 7"},
		"the refusals went back":        {func(b *fakeBroker) { b.cut(refusals, 1) }, "refusals of tenant default: went back"},
		"went back, the checkpoint not": {func(b *fakeBroker) { b.chains[decisions] = b.chains[decisions][:5] }, "has a gap: the broker signed entry 7, and does not show it"},
		"all is gone":                   {func(b *fakeBroker) { clear(b.chains); clear(b.tokens) }, "went back: the broker signed no checkpoint of it, and you saw entry 7"},
		"the checkpoint is gone":        {func(b *fakeBroker) { b.add(decisions, 1, "policy"); clear(b.tokens) }, "went back"},
		"forked":                        {func(b *fakeBroker) { b.cut(decisions, 6); b.add(decisions, 1, "hold") }, "forked: entry 7 is another one than you saw"},
		"forked and longer":             {func(b *fakeBroker) { b.cut(decisions, 6); b.add(decisions, 5, "hold") }, "forked: entry 7 is another one than you saw"},
		"shows another than it signed": {func(b *fakeBroker) {
			b.add(decisions, 1, "policy")
			b.sign(decisions, func(c *teebroker.Checkpoint) { c.Head[0]++ })
		}, "forked: entry 8 is another one than the broker signed"},
		"one is left out": {func(b *fakeBroker) {
			b.add(decisions, 3, "policy")
			b.chains[decisions] = slices.Delete(b.chains[decisions], 8, 9)
		}, "is not the one after"},
		"one is changed":                  {func(b *fakeBroker) { b.add(decisions, 3, "policy"); b.chains[decisions][8].Kind = "hold" }, "entry 9 was changed"},
		"of an entry that nobody has":     {func(b *fakeBroker) { b.sign(decisions, func(c *teebroker.Checkpoint) { c.Seq = 9 }) }, "has a gap: the broker signed entry 9, and does not show it"},
		"signed by another broker":        {func(b *fakeBroker) { b.key = newFakeBroker(t).key; b.add(decisions, 1, "policy") }, "gave no checkpoint to believe"},
		"a checkpoint of another tenant":  {func(b *fakeBroker) { b.sign(decisions, func(c *teebroker.Checkpoint) { c.Tenant = "other" }) }, "gave no checkpoint to believe: a checkpoint of tenant other"},
		"a checkpoint of the other chain": {func(b *fakeBroker) { b.tokens[decisions] = b.tokens[refusals] }, "went back: the broker signed no checkpoint of it, and you saw entry 7"},
		"garbage":                         {func(b *fakeBroker) { b.tokens[decisions] = "x" }, "gave no checkpoint to believe"},
		"an older generation":             {func(b *fakeBroker) { b.sign(refusals, func(c *teebroker.Checkpoint) { c.Generation = 2 }) }, "-accept-generation 2"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFakeBroker(t)
			b.add(decisions, 4, "policy")
			b.add(refusals, 2, "refusal")
			b.want(0, "whole 4 entries")
			b.add(decisions, 3, "release")
			b.want(0, "whole 2 entries", "-after", "5")
			b.want(0, "whole 2 entries", "-chain", "refusals")
			restore := b.save()
			tt.change(b)
			b.want(1, tt.text)
			b.want(1, tt.text, "-json")
			b.want(1, tt.text, "-after", "100")
			restore()
			b.add(decisions, 1, "confirm")
			b.want(0, `"ok": true`, "-json")
			b.want(0, "confirm")
		})
	}
}

// What the operator restored has to be accepted by its number, once, and is then
// what there is.
func TestRecordRestored(t *testing.T) {
	b := newFakeBroker(t)
	b.add(teebroker.Decisions, 7, "policy")
	yesterday := b.save()
	b.add(teebroker.Decisions, 3, "release")
	b.want(0, "whole")
	today := b.save()
	yesterday()
	b.generation = 2
	b.add(teebroker.Decisions, 1, "restore")
	const text = "the database was restored, as generation 2: you saw 10 entries of generation 1"
	b.want(1, text)
	b.want(1, text, "-accept-generation", "3")
	b.want(0, "whole 8 entries", "-accept-generation", "2")
	b.want(0, "whole 8 entries")
	b.add(teebroker.Decisions, 1, "hold")
	b.want(0, "whole 9 entries")
	b.cut(teebroker.Decisions, 8)
	b.want(1, "went back", "-accept-generation", "2")
	today()
	b.want(1, "went back: the broker shows generation 1, and you saw 2")
}

func TestRecordUsage(t *testing.T) {
	b := newFakeBroker(t)
	b.want(0, "whole 0 entries")
	b.want(2, "-chain is", "-chain", "x")
	b.want(2, "-identity is required", "-identity", "")
	b.want(2, "none", "-identity", "none")
	kept, err := filepath.Glob(filepath.Join(b.dir, "kept", "checkpoints-*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	if err := os.WriteFile(kept[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.want(2, "not a file of checkpoints to use")
}
