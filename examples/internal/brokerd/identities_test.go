package brokerd

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Replicas with one key file are one CA, each tenant has its own, and what is not
// asked for is not served.
func TestEKCA(t *testing.T) {
	root := func(key byte, tenant string) []byte {
		ca, err := ekCA([32]byte{key}, tenant, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return ca.Root()
	}
	acme := root(1, "acme")
	if !bytes.Equal(acme, root(1, "acme")) || bytes.Equal(acme, root(2, "acme")) || bytes.Equal(acme, root(1, "other")) {
		t.Error("roots are not those of key file and tenant")
	}
	root(1, strings.Repeat("x", 64))
	if _, err := ekCA([32]byte{1}, "acme", 8*24*time.Hour); err == nil {
		t.Error("certificates for eight days")
	}
	cfg, err := Options{}.identities(nil, nil)
	if err != nil || cfg.Certificates != nil {
		t.Errorf("certificates without being asked, %v", err)
	}
}
