package teebroker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// kept is what Keep stores: the Request of a profile of two requests, of which
// everything can be judged again.
type kept struct {
	Version  int                 `json:"v"`
	Profile  nonce.Profile       `json:"profile"`
	Nonce    strictjson.Digest   `json:"nonce"`
	Tenant   string              `json:"tenant"`
	Instance strictjson.UUID     `json:"instance"`
	Suite    keywrap.Suite       `json:"suite"`
	Key      strictjson.Base64   `json:"key"`
	Evidence []evidence.Evidence `json:"evidence"`
	CoCo     *CoCo               `json:"coco"`
	NotAfter time.Time           `json:"not_after"`
}

const keptVersion = 1

func (a *Attestation) encode() ([]byte, error) {
	req := a.p.req
	return json.Marshal(kept{
		keptVersion, req.Profile, strictjson.Digest(req.Nonce), req.Tenant, req.Instance,
		req.Recipient.Suite(), req.Recipient.Bytes(), req.Evidence, req.CoCo, a.notAfter,
	})
}

// decodeKept returns the Request and until when it serves. The suites of the
// Instance are compared when it is accepted, so that any will do to parse the
// key.
func decodeKept(b []byte) (Request, time.Time, error) {
	var k kept
	if err := strictjson.Unmarshal(b, &k); err != nil {
		return Request{}, time.Time{}, err
	}
	if k.Version != keptVersion {
		return Request{}, time.Time{}, fmt.Errorf("version %d", k.Version)
	}
	key, err := keywrap.Parse(k.Suite, k.Key, keywrap.Allow{Suites: []keywrap.Suite{k.Suite}, MinRSABits: 2048})
	if err != nil {
		return Request{}, time.Time{}, err
	}
	return Request{
		Profile: k.Profile, Nonce: nonce.Nonce(k.Nonce), Tenant: k.Tenant, Instance: k.Instance,
		Recipient: key, Evidence: k.Evidence, CoCo: k.CoCo,
	}, k.NotAfter, nil
}

// clone returns a copy of p that shares no memory with the Request it was given.
func (p *presented) clone() presented {
	c := *p
	c.bindings = slices.Clone(p.bindings)
	c.req.Broker = bytes.Clone(p.req.Broker)
	c.req.Wrapped = bytes.Clone(p.req.Wrapped)
	c.req.Evidence = cloneEvidence(p.req.Evidence)
	if p.req.CoCo != nil {
		c.req.CoCo = &CoCo{p.req.CoCo.AdditionalEvidence, slices.Clone(p.req.CoCo.Hashes)}
	}
	return c
}

// cloneEvidence returns a copy in which nothing is nil: strict JSON has no null.
func cloneEvidence(evs []evidence.Evidence) []evidence.Evidence {
	out := make([]evidence.Evidence, len(evs))
	for i, ev := range evs {
		items := make([]evidence.Item, len(ev.Items))
		for j, it := range ev.Items {
			items[j] = evidence.Item{Type: it.Type, Data: append([]byte{}, it.Data...)}
		}
		out[i] = evidence.Evidence{
			Format: ev.Format, Raw: append([]byte{}, ev.Raw...), Items: items, Layers: cloneEvidence(ev.Layers),
		}
	}
	return out
}
