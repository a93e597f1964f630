package teebroker_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/sealed"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
)

type vectorRequest struct {
	Evidence []struct {
		Format  evidence.Format
		Binding string `json:"binding_hex"`
		Raw     string `json:"raw_hex"`
	}
	RequestID string `json:"request_id_hex"`
}

func (v vectorRequest) id(t *testing.T) [32]byte {
	var evs []evidence.Evidence
	var bs []evidence.Binding
	for _, e := range v.Evidence {
		b, err := evidence.NewBinding(unhex(t, e.Binding))
		if err != nil {
			t.Fatal(err)
		}
		evs, bs = append(evs, evidence.Evidence{Format: e.Format, Raw: unhex(t, e.Raw), Items: []evidence.Item{{}}}), append(bs, b)
	}
	return teebroker.RequestID(evs, bs)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Request ids and the info of sealed secrets are as published.
func TestVectors(t *testing.T) {
	var file struct {
		Binding struct {
			Cases []struct {
				Name    string
				Fields  struct{ Suite keywrap.Suite }
				One     vectorRequest `json:"one_evidence"`
				Two     vectorRequest `json:"two_evidences"`
				Binding string        `json:"binding_hex"`
				Info    string        `json:"sealed_info_hex"`
			}
		}
	}
	vectors.JSON(t, "wire/vectors/v1_binding.json", &file)
	if len(file.Binding.Cases) < 20 {
		t.Fatalf("%d cases", len(file.Binding.Cases))
	}
	for _, c := range file.Binding.Cases {
		for i, v := range []vectorRequest{c.One, c.Two} {
			if len(v.Evidence) != i+1 {
				t.Fatalf("%s: %d evidences", c.Name, len(v.Evidence))
			}
			if id := v.id(t); hex.EncodeToString(id[:]) != v.RequestID {
				t.Errorf("%s: request id %x, want %s", c.Name, id, v.RequestID)
			}
		}
		b, err := evidence.NewBinding(unhex(t, c.Binding))
		if err != nil {
			t.Fatal(err)
		}
		info := sealed.Info(c.Fields.Suite, b)
		if c.Info != "" && !bytes.Equal(info, unhex(t, c.Info)) {
			t.Errorf("%s: info %x, want %s", c.Name, info, c.Info)
		}
	}
	if id := teebroker.RequestID(make([]evidence.Evidence, 1), nil); id != [32]byte{} {
		t.Error("evidence without its binding has an id")
	}
}
