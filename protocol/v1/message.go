package v1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// version is the member v of what guests and callers send.
const version = 1

// releaseJSON is the body of a release, section 4 of the protocol. Pointers tell
// a member that is missing from one that is empty.
type releaseJSON struct {
	V          int                `json:"v"`
	Nonce      strictjson.Digest  `json:"nonce"`
	Broker     *strictjson.Base64 `json:"broker"`
	Tenant     string             `json:"tenant"`
	Instance   strictjson.UUID    `json:"instance"`
	Purpose    string             `json:"purpose"`
	Evidence   evidenceList       `json:"evidence"`
	Recipient  recipientJSON      `json:"recipient"`
	WrappedKey json.RawMessage    `json:"wrapped_key,omitempty"`
}

type recipientJSON struct {
	Suite keywrap.Suite     `json:"suite"`
	Key   strictjson.Base64 `json:"key"`
}

type evidenceJSON struct {
	Format evidence.Format   `json:"format"`
	Raw    strictjson.Base64 `json:"raw"`
	Items  []itemJSON        `json:"items,omitempty"`
	Layers []evidenceJSON    `json:"layers,omitempty"`
}

type itemJSON struct {
	Type string            `json:"type"`
	Data strictjson.Base64 `json:"data"`
}

// evidenceList is a list of evidence, or one object for a list of one.
type evidenceList []evidenceJSON

// UnmarshalJSON implements [json.Unmarshaler].
func (l *evidenceList) UnmarshalJSON(b []byte) error {
	var list []evidenceJSON
	if bytes.HasPrefix(b, []byte("[")) {
		if err := strictjson.Unmarshal(b, &list); err != nil {
			return err
		}
	} else {
		list = make([]evidenceJSON, 1)
		if err := strictjson.Unmarshal(b, &list[0]); err != nil {
			return err
		}
	}
	*l = list
	return nil
}

// MarshalJSON implements [json.Marshaler].
func (l evidenceList) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]evidenceJSON(l))
}

func (l evidenceList) evidence() []evidence.Evidence {
	evs := make([]evidence.Evidence, len(l))
	for i, e := range l {
		evs[i] = evidence.Evidence{Format: e.Format, Raw: e.Raw, Layers: evidenceList(e.Layers).evidence()}
		for _, it := range e.Items {
			evs[i].Items = append(evs[i].Items, evidence.Item{Type: it.Type, Data: it.Data})
		}
	}
	return evs
}

func listOf(evs []evidence.Evidence) evidenceList {
	l := make(evidenceList, len(evs))
	for i, ev := range evs {
		l[i] = evidenceJSON{Format: ev.Format, Raw: ev.Raw, Layers: listOf(ev.Layers)}
		for _, it := range ev.Items {
			l[i].Items = append(l[i].Items, itemJSON{it.Type, it.Data})
		}
	}
	return l
}

// Suites returns every suite there is, with RSA keys of 3072 bits and more: what
// a listener takes unless there is a reason for less. Instances allow what they
// want of it.
func Suites() keywrap.Allow {
	return keywrap.Allow{
		Suites: []keywrap.Suite{
			keywrap.MLKEM768X25519, keywrap.MLKEM1024P384, keywrap.P384, keywrap.P256, keywrap.X25519,
			keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521, keywrap.JWERSA,
		},
		MinRSABits: 3072,
	}
}

// ParseRequest returns the v1 request that body is, whose key must be of what
// allow has. It is strict: every member but wrapped_key must be there. Errors
// wrap teebroker.MalformedRequest or teebroker.TooLarge. The result shares no
// memory with body.
func ParseRequest(body []byte, allow keywrap.Allow) (teebroker.Request, error) {
	if len(body) > MaxRelease {
		return teebroker.Request{}, fmt.Errorf("v1: %w", teebroker.TooLarge)
	}
	var j releaseJSON
	if err := strictjson.Unmarshal(body, &j); err != nil {
		return teebroker.Request{}, malformed(err)
	}
	if err := j.complete(); err != nil {
		return teebroker.Request{}, malformed(err)
	}
	key, err := keywrap.Parse(j.Recipient.Suite, j.Recipient.Key, allow)
	if err != nil {
		return teebroker.Request{}, malformed(err)
	}
	return teebroker.Request{
		Profile: nonce.ProfileV1, Nonce: nonce.Nonce(j.Nonce), Tenant: j.Tenant, Broker: *j.Broker,
		Instance: j.Instance, Purpose: j.Purpose, Recipient: key,
		Evidence: j.Evidence.evidence(), Wrapped: bytes.Clone(j.WrappedKey),
	}, nil
}

// complete returns an error unless every member is there that has to be. What
// they have to be is for the engine to say.
func (j releaseJSON) complete() error {
	switch {
	case j.V != version:
		return fmt.Errorf("v is %d, not %d", j.V, version)
	case j.Nonce == strictjson.Digest{}:
		return errors.New("no nonce")
	case j.Broker == nil:
		return errors.New("no broker; it may be empty")
	case j.Tenant == "" || j.Instance == strictjson.UUID{} || j.Purpose == "":
		return errors.New("no tenant, instance or purpose")
	case len(j.Evidence) == 0:
		return errors.New("no evidence")
	}
	return nil
}

// MarshalRequest returns req, which is of nonce.ProfileV1, as ParseRequest reads
// it. The same request has the same bytes.
func MarshalRequest(req teebroker.Request) ([]byte, error) {
	if req.Profile != nonce.ProfileV1 {
		return nil, errors.New("v1: a request of another profile")
	}
	broker := strictjson.Base64(req.Broker)
	return json.Marshal(releaseJSON{
		V: version, Nonce: strictjson.Digest(req.Nonce), Broker: &broker, Tenant: req.Tenant,
		Instance: req.Instance, Purpose: req.Purpose, Evidence: listOf(req.Evidence),
		Recipient: recipientJSON{req.Recipient.Suite(), req.Recipient.Bytes()}, WrappedKey: req.Wrapped,
	})
}

// MarshalResponse returns the body that answers a release. Sealed stands in it
// byte for byte, since the receipt has its digest.
func MarshalResponse(r teebroker.Response) []byte {
	b := []byte(`{"release":"` + strictjson.UUID(r.Release).String() + `","sealed":`)
	b = append(b, r.Sealed...)
	b = append(b, `,"receipt":"`...)
	b = append(b, r.Receipt...) // base64url and dots
	b = append(b, '"')
	if r.NextWrapped != nil {
		b = append(b, `,"next_wrapped_key":`...)
		b = append(b, r.NextWrapped...)
		b = strconv.AppendUint(append(b, `,"epoch":`...), r.Epoch, 10)
	}
	return append(b, '}')
}

// ParseResponse returns the response that body is. Nothing in it is to be
// believed until guest.Session.Open returned a secret for it. Members that are
// not known are hints for forwarders.
func ParseResponse(body []byte) (teebroker.Response, error) {
	members, err := strictjson.Members(body)
	if err != nil {
		return teebroker.Response{}, fmt.Errorf("v1: response: %w", err)
	}
	var id strictjson.UUID
	var receipt string
	if err := strictjson.Unmarshal(members["release"], &id); err != nil {
		return teebroker.Response{}, fmt.Errorf("v1: response: release: %w", err)
	}
	if err := strictjson.Unmarshal(members["receipt"], &receipt); err != nil {
		return teebroker.Response{}, fmt.Errorf("v1: response: receipt: %w", err)
	}
	if !bytes.HasPrefix(members["sealed"], []byte("{")) {
		return teebroker.Response{}, errors.New("v1: response: nothing is sealed")
	}
	r := teebroker.Response{Release: id, Sealed: bytes.Clone(members["sealed"]), Receipt: []byte(receipt), NextWrapped: bytes.Clone(members["next_wrapped_key"])}
	if e := members["epoch"]; e != nil {
		if err := strictjson.Unmarshal(e, &r.Epoch); err != nil {
			return teebroker.Response{}, fmt.Errorf("v1: response: epoch: %w", err)
		}
	}
	return r, nil
}

// challengeJSON answers a request for a nonce.
type challengeJSON struct {
	Nonce   strictjson.Digest `json:"nonce"`
	Expires string            `json:"expires"` // RFC 3339, UTC
}

// nonceJSON is the body of a request for a nonce. An empty body is that of v1.
type nonceJSON struct {
	Profile nonce.Profile `json:"profile"`
}

func parseNonceRequest(body []byte) (nonce.Profile, error) {
	if len(body) == 0 {
		return nonce.ProfileV1, nil
	}
	var j nonceJSON
	if err := strictjson.Unmarshal(body, &j); err != nil {
		return "", malformed(err)
	}
	switch j.Profile {
	case nonce.ProfileV1, nonce.ProfileVerify:
		return j.Profile, nil
	}
	return "", malformed(errors.New("profile is neither v1 nor verify"))
}

func malformed(err error) error { return fmt.Errorf("v1: %w: %w", teebroker.MalformedRequest, err) }
