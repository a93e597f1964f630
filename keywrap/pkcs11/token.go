//go:build cgo

// Package pkcs11 holds keys of a broker in a PKCS #11 token (OASIS, version
// 2.40): attestation keys that unwrap, the identity key that signs, the key that
// encrypts stored state. The private keys never leave it.
//
// It needs cgo and the vendor's module. A broker that has its attestation keys
// here is refused nothing more than one with a key file: it is the same Opener.
// What a token does not prevent is its use: whoever took over the broker can
// unwrap as long as he has it.
package pkcs11

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	p11 "github.com/miekg/pkcs11"
)

// Token is a PKCS #11 token that is logged in to. It is safe for concurrent use.
//
// If a session breaks or the token was removed, an operation initializes the
// module anew, logs in and tries once more; as long as there is no token it
// fails with ErrToken. Contexts are looked at while an operation waits for its
// turn and before each call of the module. A call that runs can't be
// interrupted.
//
// A module has one state for a whole process, so that a process has at most one
// Token for a module, and nothing else may use it.
type Token struct {
	uri    URI
	path   string // of the module
	module *p11.Ctx
	turns  chan struct{} // one for each session that may be in use
	resets chan struct{} // held by who makes everything new

	mu      sync.Mutex
	state   state
	info    p11.TokenInfo // of the token that was last logged in to
	refused []byte        // PIN that the token refused
	closed  bool
}

// state is what is lost when everything is made new.
type state struct {
	number int  // of this state
	mine   bool // the module is initialized, by this Token
	up     bool // and logged in
	slot   uint
	login  p11.SessionHandle // which keeps the login
	idle   []p11.SessionHandle

	handles map[*object]p11.ObjectHandle // of keys, good in every session
}

const defaultSessions = 8

// Open loads the module, finds the token and logs in. Errors wrap ErrToken, or
// ErrPIN, or name the field of cfg at fault.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	if cfg.Module == "" {
		cfg.Module = cfg.URI.Module
	}
	if cfg.Sessions == 0 {
		cfg.Sessions = defaultSessions
	}
	if err := absolute("module", cfg.Module); err != nil {
		return nil, fmt.Errorf("pkcs11: Config.Module: %w", err)
	}
	if cfg.Sessions < 0 || cfg.Sessions > 1024 {
		return nil, errors.New("pkcs11: Config.Sessions: not 1 to 1024")
	}
	if (cfg.URI.PIN == nil) == (cfg.URI.PINSource == "") {
		return nil, errors.New("pkcs11: Config.URI: not exactly one of pin-value and pin-source")
	}
	cfg.URI.PIN = bytes.Clone(cfg.URI.PIN)
	t := &Token{
		uri: cfg.URI, path: cfg.Module, module: p11.New(cfg.Module),
		turns: make(chan struct{}, cfg.Sessions), resets: make(chan struct{}, 1),
	}
	if t.module == nil {
		return nil, fmt.Errorf("%w: the module can't be loaded", ErrToken)
	}
	if err := t.reset(ctx, 0); err != nil {
		t.module.Destroy()
		return nil, err
	}
	return t, nil
}

// Is reports whether u names the token of t, or none: who has keys in several
// tokens asks before he looks for one in t.
func (t *Token) Is(u URI) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return u.names(t.info) && says(u.Module, t.path)
}

// names reports whether all that u says of a token is true of this one.
func (u URI) names(info p11.TokenInfo) bool {
	return says(u.Token, info.Label) && says(u.Serial, info.SerialNumber) &&
		says(u.Manufacturer, info.ManufacturerID) && says(u.Model, info.Model)
}

// Close logs out and unloads the module after the operations that run. Later
// ones fail.
func (t *Token) Close() error {
	t.resets <- struct{}{}
	defer func() { <-t.resets }()
	for range cap(t.turns) {
		t.turns <- struct{}{}
	}
	defer t.giveBack(cap(t.turns))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	t.down()
	t.module.Destroy()
	clear(t.uri.PIN)
	clear(t.refused)
	return nil
}

// do runs f with a session of its own, and once more if what f had is broken.
func (t *Token) do(ctx context.Context, f func(p11.SessionHandle) error) error {
	for again := false; ; again = true {
		number, err := t.try(ctx, f)
		if err == nil || again || !broken(err) {
			return typed(err)
		}
		if err := t.reset(ctx, number); err != nil {
			return err
		}
	}
}

// try runs f once and returns of which state its session was.
func (t *Token) try(ctx context.Context, f func(p11.SessionHandle) error) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrToken, err)
	}
	select {
	case t.turns <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrToken, ctx.Err())
	}
	defer t.giveBack(1)
	number, s, err := t.session()
	if err != nil {
		return number, err
	}
	err = f(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	if broken(err) {
		_ = t.module.CloseSession(s) // best effort: it may be gone
		return number, err
	}
	t.state.idle = append(t.state.idle, s)
	return number, err
}

// session returns an idle session or a new one. Its caller has a turn, so that
// the state stays the same.
func (t *Token) session() (int, p11.SessionHandle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch n := len(t.state.idle); {
	case t.closed:
		return 0, 0, fmt.Errorf("%w: closed", ErrToken)
	case !t.state.up:
		return t.state.number, 0, errDown
	case n > 0:
		s := t.state.idle[n-1]
		t.state.idle = t.state.idle[:n-1]
		return t.state.number, s, nil
	}
	s, err := t.module.OpenSession(t.state.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	return t.state.number, s, err
}

func (t *Token) giveBack(n int) {
	for range n {
		<-t.turns
	}
}

// reset makes everything new, unless that was done since the state of this
// number.
func (t *Token) reset(ctx context.Context, number int) error {
	select {
	case t.resets <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrToken, ctx.Err())
	}
	defer func() { <-t.resets }()
	for i := range cap(t.turns) { // until nobody has a session
		select {
		case t.turns <- struct{}{}:
		case <-ctx.Done():
			t.giveBack(i)
			return fmt.Errorf("%w: %w", ErrToken, ctx.Err())
		}
	}
	defer t.giveBack(cap(t.turns))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("%w: closed", ErrToken)
	}
	if t.state.up && t.state.number != number {
		return nil
	}
	t.down()
	if err := t.rise(); err != nil {
		t.down()
		return typed(err)
	}
	return nil
}

// down ends the state. What fails is over already.
func (t *Token) down() {
	if t.state.mine {
		_ = t.module.Finalize()
	}
	t.state = state{number: t.state.number + 1, handles: map[*object]p11.ObjectHandle{}}
}

// rise initializes the module, finds the token and logs in.
func (t *Token) rise() error {
	if err := t.module.Initialize(); err != nil {
		return err // also if another user of the module has: its state is not ours
	}
	t.state.mine = true
	slot, err := t.slot()
	if err != nil {
		return err
	}
	t.state.slot = slot
	t.state.login, err = t.module.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	pin, err := t.pin()
	if err != nil {
		return err
	}
	defer clear(pin)
	// A token counts wrong PINs and locks itself: a PIN is tried in vain once.
	if t.refused != nil && subtle.ConstantTimeCompare(pin, t.refused) == 1 {
		return fmt.Errorf("%w: refused before, and not tried again", ErrPIN)
	}
	switch err := t.module.Login(t.state.login, p11.CKU_USER, string(pin)); {
	case is(err, p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_LOCKED, p11.CKR_PIN_EXPIRED):
		t.refused = bytes.Clone(pin)
		return fmt.Errorf("%w: %w", ErrPIN, err)
	case err != nil && !is(err, p11.CKR_USER_ALREADY_LOGGED_IN):
		return err
	}
	t.state.up = true
	return nil
}

// slot returns the slot of the one token that the URI names.
func (t *Token) slot() (uint, error) {
	slots, err := t.module.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	var found []uint
	for _, s := range slots {
		info, err := t.module.GetTokenInfo(s)
		if err != nil || info.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		if t.uri.names(info) {
			found, t.info = append(found, s), info
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: %d tokens of this name", ErrToken, len(found))
	}
	return found[0], nil
}

// says reports whether got is as wanted, if anything is.
func says(want, got string) bool { return want == "" || want == got }

const maxPIN = 256

// pin returns the PIN, the caller's to clear.
func (t *Token) pin() ([]byte, error) {
	if t.uri.PINSource == "" {
		return bytes.Clone(t.uri.PIN), nil
	}
	f, err := os.Open(t.uri.PINSource)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: pin-source is not a file of mode 0600", ErrPIN)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPIN+1))
	if err != nil {
		clear(b)
		return nil, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	if len(b) == 0 || len(b) > maxPIN {
		clear(b)
		return nil, fmt.Errorf("%w: pin-source has none", ErrPIN)
	}
	return b, nil
}

// What a new state may mend: there is no login, or a key is gone.
var (
	errDown = errors.New("pkcs11: not logged in")
	errGone = errors.New("pkcs11: a key is gone")
)

// is reports whether err is one of the module's return values.
func is(err error, codes ...uint) bool {
	var e p11.Error
	return errors.As(err, &e) && slices.Contains(codes, uint(e))
}

// broken reports whether err says that session, login, token or module are gone,
// which a new state may mend.
func broken(err error) bool {
	return errors.Is(err, errDown) || errors.Is(err, errGone) || is(err,
		p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_DEVICE_REMOVED, p11.CKR_DEVICE_ERROR, p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED,
		p11.CKR_SLOT_ID_INVALID, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_KEY_HANDLE_INVALID,
		p11.CKR_CRYPTOKI_NOT_INITIALIZED, p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_HOST_MEMORY,
		p11.CKR_OPERATION_ACTIVE,
	)
}

// typed returns err as an error of this package.
func typed(err error) error {
	if err == nil || errors.Is(err, ErrToken) || errors.Is(err, ErrPIN) || errors.Is(err, ErrKey) || errors.Is(err, ErrOpen) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrToken, err)
}
