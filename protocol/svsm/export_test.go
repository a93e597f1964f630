package svsm

import "github.com/teebroker/teebroker/keywrap"

// What tests outside of the package need of its inside.
var (
	OpenAnswer       = openAnswer
	ReadFrame        = readFrame
	ParseNegotiation = parseNegotiation
	ParseAnswer      = parseAnswer
	ParseChallenge   = parseChallenge
	ParseAuth        = parseAuth
	ParseToken       = parseToken
	ParseResource    = parseResource
)

// WithKey returns g with a key that is not fresh.
func (g Guest) WithKey(k keywrap.Opener) Guest {
	g.key = k
	return g
}

// KBSBody returns what the proxy makes of an attestation.
func KBSBody(b []byte) ([]byte, error) {
	a, err := parseAttestation(b)
	if err != nil {
		return nil, err
	}
	return kbsBody(a)
}
