package teebroker

import (
	"encoding/json"

	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
)

// releaseBody is the body of an Entry of a release or redelivery. The receipt,
// which says everything, is in it by digest.
type releaseBody struct {
	Receipt       strictjson.Digest `json:"receipt"`
	Release       strictjson.UUID   `json:"release"`
	Request       strictjson.Digest `json:"request"`
	Profile       nonce.Profile     `json:"profile"`
	Instance      strictjson.UUID   `json:"instance"`
	Purpose       string            `json:"purpose"`
	Authorization strictjson.UUID   `json:"authorization"`
	Key           strictjson.Digest `json:"key"`
}

func releaseEntry(kind Kind, g Grant, r Response) (Entry, error) {
	body, err := json.Marshal(releaseBody{
		Receipt: digest(r.Receipt), Release: r.Release, Request: g.Request, Profile: g.Profile,
		Instance: g.Instance, Purpose: g.Purpose, Authorization: g.Authorization, Key: g.Key,
	})
	return Entry{Decisions, g.Tenant, kind, body}, err
}

// refusalBody is the body of an Entry of a refusal. What was asked for is as the
// guest said it, and nothing of it was proved; but for the Instance of a Fetch,
// which is the one that was attested.
type refusalBody struct {
	Code     string            `json:"code"`
	Detail   string            `json:"detail"` // for the owner, cut to maxDetail bytes
	Request  strictjson.Digest `json:"request"`
	Profile  nonce.Profile     `json:"profile"`
	Instance strictjson.UUID   `json:"instance"`
	Purpose  string            `json:"purpose"`
	Key      strictjson.Digest `json:"key"`
}

// maxDetail bounds what one refused request can add to the record.
const maxDetail = 1024

// entry returns r as the entry of a refusal.
func (r refusalBody) entry(tenant string, refusal error) (Entry, error) {
	detail := refusal.Error()
	r.Code, r.Detail = word(refusal), detail[:min(len(detail), maxDetail)]
	body, err := json.Marshal(r)
	return Entry{Refusals, tenant, KindRefusal, body}, err
}
