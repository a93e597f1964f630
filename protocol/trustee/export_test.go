package trustee

import "github.com/teebroker/teebroker/evidence"

// ParseToken returns the claims of a token about SGX.
func ParseToken(b []byte) (evidence.Claims, error) {
	t, err := parseToken(b, "sgx")
	if err != nil {
		return nil, err
	}
	return t.claims, nil
}
