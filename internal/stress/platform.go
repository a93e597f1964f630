package main

import (
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/policy"
)

// platform is what guests run on, and what an owner asks of them.
type platform struct {
	verifier evidence.Verifier
	decoders policy.Decoders
	document []byte                                                           // of the policy
	evidence func(instance [16]byte, data evidence.Binding) evidence.Evidence // of a good guest
}

// fake is fast: its evidence is signed by nobody.
func fake() platform {
	return platform{
		verifier: faketee.Verifier{NotAfter: time.Now().AddDate(1, 0, 0)},
		decoders: policy.Decoders{faketee.Format: func([]byte, bool) (policy.Rule, error) {
			return policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text("good")}, nil
		}},
		document: []byte(`{"policy":"teebroker/1","name":"fake","version":"1","scope":"global","require":{"snp-report":[{}]}}`),
		evidence: func(instance [16]byte, data evidence.Binding) evidence.Evidence {
			launch := teebroker.LaunchID(tenant, instance)
			return faketee.Guest{Measurement: "good", HostData: launch[:]}.Evidence(data)
		},
	}
}
