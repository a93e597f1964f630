//go:build unix

package main

import (
	"context"
	"crypto"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/nonce"
)

// steps are the points of a release at which its process can be killed: before
// and after each call of a contract, and before each statement of SQL.
type steps struct {
	mu   sync.Mutex
	log  io.Writer // is told of each
	n    int       // that were reached
	at   int       // where to die, from 1; 0 for nowhere
	late int       // if not 0: die while what follows the step is under way, so many turns later
	off  bool      // until the release begins
}

// reach is one step. It does not return from the one to die at.
func (s *steps) reach(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return
	}
	s.n++
	fmt.Fprintln(s.log, name)
	switch {
	case s.n != s.at:
	case s.late > 0:
		go func() {
			for range s.late {
				runtime.Gosched()
			}
			die()
		}()
	default:
		die()
	}
}

func (s *steps) on() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = false
}

// die is kill -9.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (s *steps) around(name string) func() {
	s.reach("before " + name)
	return func() { s.reach("after " + name) }
}

// stepped is every contract of a broker, with its steps.
type stepped struct {
	*steps
	store    *replicaStore
	verifier evidence.Verifier
	signer   crypto.Signer
}

// replicaStore is what the broker had.
type replicaStore struct {
	nonce.Store
	teebroker.Directory
	teebroker.Secrets
	teebroker.Ledger
}

func (s *steps) wrap(c *teebroker.Config) {
	x := stepped{s, &replicaStore{c.Nonces, c.Directory, c.Secrets, c.Ledger}, c.Verifier, c.Identity}
	c.Nonces, c.Directory, c.Secrets, c.Ledger, c.Verifier, c.Identity = x, x, x, x, x, signing{x}
}

func (x stepped) Redeem(ctx context.Context, n nonce.Nonce, id [32]byte, expiry time.Time) error {
	defer x.around("Redeem")()
	return x.store.Redeem(ctx, n, id, expiry)
}

func (x stepped) Instance(ctx context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	defer x.around("Instance")()
	return x.store.Instance(ctx, l)
}

func (x stepped) Secret(ctx context.Context, i teebroker.Instance, p string) ([]byte, error) {
	defer x.around("Secret")()
	return x.store.Secret(ctx, i, p)
}

func (x stepped) Outcome(ctx context.Context, id [32]byte, p string) (teebroker.Outcome, bool, error) {
	defer x.around("Outcome")()
	return x.store.Outcome(ctx, id, p)
}

func (x stepped) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	defer x.around("Check")()
	return x.store.Check(ctx, g)
}

func (x stepped) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	defer x.around("Commit")()
	return x.store.Commit(ctx, g, r, e)
}

func (x stepped) Refuse(ctx context.Context, id [32]byte, p, code string, e teebroker.Entry) error {
	defer x.around("Refuse")()
	return x.store.Refuse(ctx, id, p, code, e)
}

func (x stepped) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	defer x.around("Verify")()
	return x.verifier.Verify(ctx, ev, want)
}

type signing struct{ stepped }

func (x signing) Public() crypto.PublicKey { return x.signer.Public() }

func (x signing) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer x.around("Sign")()
	return x.signer.Sign(random, digest, opts)
}

// registerDrivers adds drivers of the same databases with a step before each
// statement, under names that begin with "stepped-".
func (s *steps) registerDrivers() {
	probe, err := sql.Open("sqlite", "")
	if err != nil {
		panic(err)
	}
	sql.Register("stepped-sqlite", steppedDriver{probe.Driver(), s})
	sql.Register("stepped-pgx", steppedDriver{stdlib.GetDefaultDriver(), s})
}

type steppedDriver struct {
	driver.Driver
	*steps
}

func (d steppedDriver) Open(dsn string) (driver.Conn, error) {
	c, err := d.Driver.Open(dsn)
	if err != nil {
		return nil, err
	}
	return steppedConn{c, d.steps}, nil
}

// steppedConn has what database/sql asks the connections of both drivers for.
type steppedConn struct {
	driver.Conn
	*steps
}

func (c steppedConn) statement(q string) {
	c.reach("sql " + strings.Join(strings.Fields(q)[:min(3, len(strings.Fields(q)))], " "))
}

func (c steppedConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	c.statement(q)
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, q, args)
}

func (c steppedConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	c.statement(q)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, q, args)
}

func (c steppedConn) PrepareContext(ctx context.Context, q string) (driver.Stmt, error) {
	s, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, q)
	if err != nil {
		return nil, err
	}
	return steppedStmt{s, c, q}, nil
}

func (c steppedConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c steppedConn) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := c.Conn.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type steppedStmt struct {
	driver.Stmt
	c steppedConn
	q string
}

func (s steppedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.c.statement(s.q)
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (s steppedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.c.statement(s.q)
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

func (x stepped) Released(ctx context.Context, id [16]byte) (teebroker.Released, error) {
	defer x.around("Released")()
	return x.store.Released(ctx, id)
}

func (x stepped) Confirm(ctx context.Context, r teebroker.Released, c teebroker.Confirm, receipt []byte, e teebroker.Entry) ([]byte, error) {
	defer x.around("Confirm")()
	return x.store.Confirm(ctx, r, c, receipt, e)
}

func (x stepped) EpochBlob(ctx context.Context, tenant string, instance [16]byte, purpose string, number uint64) (teebroker.Blob, uint64, error) {
	return x.store.EpochBlob(ctx, tenant, instance, purpose, number)
}
