package teebroker_test

import (
	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

var (
	_ policy.Rule       = snp.ReferenceValues{}
	_ policy.Rule       = tdx.ReferenceValues{}
	_ policy.Rule       = teebroker.LaunchClaim{}
	_ policy.Rule       = cca.ReferenceValues{}
	_ evidence.Verifier = (*snp.Verifier)(nil)
	_ evidence.Verifier = (*tdx.Verifier)(nil)
	_ evidence.Verifier = (*cca.Verifier)(nil)
	_ evidence.Verifier = (*cca.Live)(nil)
	_ nonce.Issuer      = (*nonce.HMAC)(nil)
	_ nonce.Recipe      = nonce.V1{}
	_ nonce.Recipe      = nonce.SVSM{}
	_ nonce.Recipe      = nonce.CoCo{}
	_ nonce.Recipe      = nonce.CoCoDevice{}
)
