package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// simulated has the signatures of a Turin, verified as those of a genuine one.
var simulated = sync.OnceValues(func() (platform, error) {
	amd := snptest.NewAMD()
	chip := amd.Chip(snp.Turin)
	v, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: amd.Source()})
	if err != nil {
		return platform{}, err
	}
	image := [48]byte{1}
	f := chip.Floor()
	tcb := func(t snp.TCB) string {
		return fmt.Sprintf(`{"fmc": %d, "bootloader": %d, "tee": %d, "firmware": %d, "microcode": %d}`, t.FMC, t.Bootloader, t.TEE, t.Firmware, t.Microcode)
	}
	return platform{
		verifier: v,
		decoders: policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)},
		document: fmt.Appendf(nil, `{"policy": "teebroker/1", "name": "simulated", "version": "1", "scope": "global", "require": {"snp-report": [{
"measurements": [%q], "vmpls": [0], "lines": ["Turin"], "keys": ["VCEK"], "chips": "*", "host_data": "*",
"id_keys": "*", "author_keys": "*", "family_ids": "*", "image_ids": "*", "allow_smt": true,
"floors": [{"family": %d, "min_model": %d, "max_model": %d, "steppings": "*", "reported": %s, "committed": %s, "launch": %s}]}]}}`,
			hex.EncodeToString(image[:]), f.Family, f.MinModel, f.MaxModel, tcb(f.Reported), tcb(f.Committed), tcb(f.Launch)),
		evidence: func(instance [16]byte, data evidence.Binding) evidence.Evidence {
			return chip.Report(snptest.Guest{Measurement: image, HostData: teebroker.LaunchID(tenant, instance)}, data)
		},
	}, nil
})

// service is a broker of simulated platforms behind HTTP on loopback.
type service struct {
	testing.TB
	*replica
	http   *httptest.Server
	active atomic.Int64 // requests that began to arrive
}

func newService(b testing.TB, dialect sqlstore.Dialect, wrap func(*teebroker.Config)) *service {
	b.Helper()
	p, err := simulated()
	check(b, err)
	d := testDatabase(b, dialect, p)
	d.suite = keywrap.MLKEM768X25519
	r, err := d.open(b.Context(), nil, wrap)
	check(b, err)
	b.Cleanup(func() { check(b, r.close()) })
	check(b, r.own(b.Context(), [16]byte{1}, store.MaxUses, time.Now().Add(time.Hour)))
	server, err := v1.New(v1.Config{
		Broker: r.Broker, Allow: v1.Suites(), Patience: time.Minute, PerSource: v1.Rate{Burst: 1 << 30, Every: time.Nanosecond},
	})
	check(b, err)
	s := &service{TB: b, replica: r, http: httptest.NewUnstartedServer(server)}
	s.http.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateActive {
			s.active.Add(1)
		}
	}
	s.http.Start()
	b.Cleanup(s.http.Close)
	return s
}

// booting is a guest with a connection of its own. It speaks just enough HTTP to
// leave the processor to the broker.
type booting struct {
	*machine
	conn   net.Conn
	read   *bufio.Reader
	body   []byte // to release with
	answer []byte
	took   time.Duration
}

// launch connects n new guests.
func (s *service) launch(n int) []*booting {
	s.Helper()
	gs := make([]*booting, n)
	for i := range gs {
		conn, err := new(net.Dialer).DialContext(s.Context(), "tcp", s.http.Listener.Addr().String())
		check(s, err)
		gs[i] = &booting{machine: newMachine(s, s.replica, [16]byte{1}), conn: conn, read: bufio.NewReader(conn)}
	}
	return gs
}

func (g *booting) post(path string, body []byte) ([]byte, error) {
	if err := g.send(path, body); err != nil {
		return nil, err
	}
	return g.receive()
}

func (g *booting) send(path string, body []byte) error {
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(body))
	_, err := g.conn.Write(append(head, body...))
	return err
}

func (g *booting) receive() ([]byte, error) {
	a, err := http.ReadResponse(g.read, nil)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", a.StatusCode, b)
	}
	return b, err
}

// prepare makes what g sends for a nonce.
func (g *booting) prepare(n nonce.Nonce) error {
	req, err := g.machine.answer(n)
	if err == nil {
		g.body, err = v1.MarshalRequest(req)
	}
	return err
}

func (g *booting) release() (err error) {
	began := time.Now()
	g.answer, err = g.post(v1.PathRelease, g.body)
	g.took = time.Since(began)
	return err
}

// end fails unless g has the secret.
func (g *booting) end(b testing.TB) {
	b.Helper()
	a, err := v1.ParseResponse(g.answer)
	check(b, err)
	check(b, g.opens(b.Context(), a))
	check(b, g.conn.Close())
}
