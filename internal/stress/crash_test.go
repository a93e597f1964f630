//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// asChild makes the test binary the process that is killed.
const asChild = "TEEBROKER_STRESS_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) == "" {
		os.Exit(m.Run())
	}
	if err := child(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// task is what the child is to do: be a broker that answers one request, and die
// at a step of it.
type task struct {
	Dialect  sqlstore.Dialect
	DSN      string
	Identity []byte // PKCS #8
	Now      time.Time
	Request  []byte
	At, Late int

	Confirm *teebroker.Confirm // in place of a request
	MAC     []byte
}

const ended = "answered"

func child(ctx context.Context, in io.Reader, out io.Writer) error {
	var k task
	if err := json.NewDecoder(in).Decode(&k); err != nil {
		return err
	}
	key, err := x509.ParseECPrivateKey(k.Identity)
	if err != nil {
		return err
	}
	s := &steps{log: out, at: k.At, late: k.Late, off: true}
	s.registerDrivers()
	d := &database{dialect: k.Dialect, dsn: k.DSN, identity: key, platform: fake(), suite: keywrap.X25519, drivers: "stepped-"}
	r, err := d.open(ctx, func() time.Time { return k.Now }, s.wrap)
	if err != nil {
		return err
	}
	if err := k.do(ctx, r, s); err != nil {
		return err
	}
	fmt.Fprintln(out, ended)
	if k.Late > 0 {
		select {} // until it dies
	}
	return nil
}

// do is what the child is killed over.
func (k task) do(ctx context.Context, r *replica, s *steps) error {
	if k.Confirm != nil {
		s.on()
		_, err := r.Broker.Confirm(ctx, *k.Confirm, k.MAC)
		return err
	}
	req, err := v1.ParseRequest(k.Request, v1.Suites())
	if err != nil {
		return err
	}
	s.on()
	_, err = r.Answer(ctx, req)
	return err
}

// crash is a database whose brokers are killed, one after the other, each at the
// next step of a release for an instance of its own.
type crash struct {
	*testing.T
	d        *database
	now      time.Time
	releases int // that there must be
	last     uint16
}

// kill has a child answer req and die at a step, and returns the steps that it
// reached.
func (c *crash) kill(req teebroker.Request, at, late int) []string {
	c.Helper()
	body, err := v1.MarshalRequest(req)
	check(c, err)
	return c.killOver(task{Request: body, At: at, Late: late})
}

// killOver has a child do k and die at a step.
func (c *crash) killOver(k task) []string {
	c.Helper()
	identity, err := x509.MarshalECPrivateKey(c.d.identity)
	check(c, err)
	k.Dialect, k.DSN, k.Identity, k.Now = c.d.dialect, c.d.dsnOfChild(), identity, c.now
	at := k.At
	in, err := json.Marshal(k)
	check(c, err)
	exe, err := os.Executable()
	check(c, err)
	cmd := exec.CommandContext(c.Context(), exe)
	cmd.Env = append(os.Environ(), asChild+"=1")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if killed != (at > 0) || err != nil && !killed {
		c.Fatalf("step %d: the child ended with %v %s", at, err, stderr.Bytes())
	}
	check(c, c.d.settled(c.Context()))
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// child names the connections of the process that is killed, with PostgreSQL.
func (d *database) child() string {
	_, schema, _ := strings.Cut(d.dsn, "search_path=")
	return "killed_" + schema
}

func (d *database) dsnOfChild() string {
	if d.dialect == sqlstore.SQLite {
		return d.dsn
	}
	return d.dsn + " application_name=" + d.child()
}

// settled waits until the server has ended what the child began: a commit goes on
// after the process that asked for it is gone.
func (d *database) settled(ctx context.Context) error {
	if d.dialect == sqlstore.SQLite {
		return nil
	}
	db, err := sql.Open("pgx", d.dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		var left int
		err := db.QueryRowContext(ctx, "SELECT count(*), pg_sleep(0.001)::text FROM pg_stat_activity WHERE application_name = $1", d.child()).Scan(&left, new(string))
		if err != nil || left == 0 {
			return err
		}
	}
}

// boot is a new instance, its guest, and what the guest asks.
type boot struct {
	*machine
	req      teebroker.Request
	released bool // before
	redeemed bool // by the broker that was killed
}

// with opens the database anew, for as long as f runs.
func (c *crash) with(f func(r *replica)) {
	c.Helper()
	r, err := c.d.open(c.Context(), func() time.Time { return c.now }, nil)
	check(c, err)
	f(r)
	check(c, r.close())
}

// launch registers the next instance and launches its guest. If it has been
// released before, the request is one for the same again.
func (c *crash) launch(released bool) (b boot) {
	c.Helper()
	c.last++
	b.released = released
	c.now = c.now.Add(2 * time.Second)
	c.with(func(r *replica) {
		instance := [16]byte{byte(c.last >> 8), byte(c.last)}
		check(c, r.own(c.Context(), instance, 1, c.now.Add(time.Hour)))
		b.machine = newMachine(c, r, instance)
		var err error
		b.req, err = b.request(c.Context(), r)
		check(c, err)
		if released {
			a, err := r.Answer(c.Context(), b.req)
			check(c, err)
			check(c, b.opens(c.Context(), a))
			b.req, err = b.request(c.Context(), r)
			check(c, err)
		}
	})
	return b
}

// after looks at what a broker left behind that was killed over b at step, and
// has the guest try again by its rules. If another is faster, that one has the
// secret if nobody has it yet, and the guest of b never does.
func (c *crash) after(step string, b boot, overtaken bool) {
	c.Helper()
	c.now = c.now.Add(time.Second)
	c.with(func(r *replica) {
		used := c.consistent(step, r, b)
		other := newMachine(c, r, b.instance)
		if overtaken {
			c.asks(step+": another guest, first", r, other, used == 0)
		}
		mine := used == 1 || !overtaken
		c.retries(step, r, b, used == 1, mine)
		c.asks(step+": another guest", r, other, overtaken && used == 0)
		c.releases++
		if c.consistent(step+", and all tried again", r, b) != 1 {
			c.Errorf("%s: the use is not taken in the end", step)
		}
	})
}

// consistent fails unless the record is whole and says that of b's authorization
// what its row says, and returns how often that is used.
func (c *crash) consistent(step string, r *replica, b boot) int {
	c.Helper()
	as, err := r.Authorizations(c.Context(), tenant, b.instance)
	check(c, err)
	got, err := r.audit(c.Context())
	if err != nil {
		c.Errorf("%s: %v", step, err)
	}
	entries := 0
	for after := uint64(0); ; {
		es, err := r.Record(c.Context(), tenant, teebroker.Decisions, after, 1000)
		check(c, err)
		if len(es) == 0 {
			break
		}
		after = es[len(es)-1].Seq
		for _, e := range es {
			var body struct {
				Instance string `json:"instance"`
			}
			check(c, json.Unmarshal(e.Body, &body))
			if e.Kind == teebroker.KindRelease && strings.HasPrefix(body.Instance, fmt.Sprintf("%x-", b.instance[:4])) {
				entries++
			}
		}
	}
	if len(as) != 1 || as[0].Used != entries || entries > 1 {
		c.Errorf("%s: used %+v, and %d releases are recorded", step, as, entries)
	}
	if want := got.Releases - c.releases; want < 0 || want > 1 {
		c.Errorf("%s: %d releases after %d", step, got.Releases, c.releases)
	}
	return entries
}

// retries is the guest of b: the identical bytes, and if those are not answered a
// new nonce with the same key.
func (c *crash) retries(step string, r *replica, b boot, committed, wins bool) {
	c.Helper()
	a, err := r.Answer(c.Context(), b.req)
	if b.redeemed && !committed && err == nil {
		c.Errorf("%s: the nonce was redeemed, and is not spent", step)
	}
	if code := teebroker.Code(err); code == "in-progress" || code == "nonce-spent" {
		if committed && !b.released {
			c.Errorf("%s: committed, and the same request is %s", step, code)
		}
		var req teebroker.Request
		req, err = b.request(c.Context(), r)
		check(c, err)
		a, err = r.Answer(c.Context(), req)
	}
	switch {
	case wins && err == nil:
		err = b.opens(c.Context(), a)
		if err != nil {
			c.Errorf("%s: %v", step, err)
		}
	case wins || !errors.Is(err, teebroker.OtherKey):
		c.Errorf("%s: the guest asks again: %v", step, err)
	}
}

// asks is another guest, with a key of its own.
func (c *crash) asks(step string, r *replica, m *machine, wins bool) {
	c.Helper()
	req, err := m.request(c.Context(), r)
	check(c, err)
	a, err := r.Answer(c.Context(), req)
	switch {
	case !wins && !errors.Is(err, teebroker.OtherKey):
		c.Errorf("%s: %v", step, err)
	case wins && err != nil:
		c.Errorf("%s: %v", step, err)
	case wins:
		check(c, m.opens(c.Context(), a))
	}
}
