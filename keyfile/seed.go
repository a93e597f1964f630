package keyfile

import (
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/keywrap"
)

const mlkemSeed = 64 // bytes of the seed of an ML-KEM key (FIPS 203: d ‖ z)

func kem(suite keywrap.Suite) (hpke.KEM, error) {
	switch suite {
	case keywrap.MLKEM1024P384:
		return hpke.MLKEM1024P384(), nil
	case keywrap.P384:
		return hpke.DHKEM(ecdh.P384()), nil
	}
	return nil, errors.New("not a suite of owners")
}

// generate returns the seed of a new key of suite.
func generate(suite keywrap.Suite) ([]byte, error) {
	m, err := kem(suite)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	k, err := m.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	return k.Bytes()
}

// open returns the key that seed makes.
func open(suite keywrap.Suite, seed []byte) (keywrap.Opener, error) {
	m, err := kem(suite)
	if err != nil {
		return nil, err
	}
	k, err := m.NewPrivateKey(seed)
	if err != nil {
		return nil, errors.New("not a seed")
	}
	return keywrap.FromHPKE(k)
}

// check returns an error unless k is whole.
func (k key) check() error {
	if _, err := kem(k.Suite); err != nil {
		return err
	}
	hybrid := k.Suite == keywrap.MLKEM1024P384
	switch {
	case !names.Tenant(k.Tenant):
		return errors.New("not a tenant")
	case !names.KeyID(k.ID):
		return errors.New("not a key id")
	case k.NotBefore < 0 || k.NotAfter != 0 && k.NotAfter <= k.NotBefore:
		return errors.New("not a time to wrap in")
	case k.Retired && k.Seed != nil:
		return errors.New("retired, and there is a seed")
	case k.Retired:
		return nil
	case k.Token != "" && (hybrid != (len(k.Seed) == mlkemSeed) || !hybrid && k.Seed != nil):
		return errors.New("not the seed beside a token")
	case k.Token != "":
		return nil
	}
	_, err := open(k.Suite, k.Seed)
	return err
}
