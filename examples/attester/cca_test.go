package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"

	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
)

// configfs returns a fake /sys/kernel/config/tsm of a driver that answers with what
// sign returns for the 64 bytes that were written.
func configfs(driver string, sign func(inblob []byte) ([]byte, error)) (*faketsm.ReportSubsystem, configfsi.Client) {
	r := faketsm.ReportV7(0)
	r.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		switch attr {
		case "provider":
			return []byte(driver + "\n"), nil
		case "outblob":
			return sign(e.InAttrs["inblob"].Value)
		}
		return nil, os.ErrNotExist
	}
	return r, &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": r}}
}

// A realm's token is had from configfs-tsm as it is, for the bytes asked for.
func TestCCADevice(t *testing.T) {
	p := ccatest.NewPlatform()
	var token []byte
	genuine := func(inblob []byte) ([]byte, error) {
		if len(inblob) != 64 {
			return nil, syscall.EINVAL
		}
		data, err := evidence.NewBinding(inblob)
		if err != nil {
			return nil, err
		}
		token = p.Token(ccatest.Realm{}, data).Raw
		return token, nil
	}
	for _, test := range []struct {
		name, driver string
		sign         func([]byte) ([]byte, error)
		says         string // "" if there is a token
	}{
		{"a realm", "arm_cca_guest", genuine, ""},
		{"another TEE", "sev_guest", genuine, `this is no realm: configfs-tsm is of "sev_guest"`},
		{"no token", "arm_cca_guest", func([]byte) ([]byte, error) { return []byte("no token"), nil }, "CCA guest device: cca-token"},
		{"refuses", "arm_cca_guest", func([]byte) ([]byte, error) { return nil, errors.New("throttled") }, "throttled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			entries, client := configfs(test.driver, test.sign)
			open := func(tee string) (device, error) {
				if tee != teeCCA {
					t.Errorf("asked for the device of %q", tee)
				}
				return ccaDevice{client}, nil
			}
			var stdout, stderr bytes.Buffer
			status := attester(machine{open: open}).Main([]string{"quote", "-tee", "cca", "-report-data", "5f0c", "-out", file}, &stdout, &stderr)
			if len(entries.Entries) != 0 {
				t.Errorf("left behind %v", entries.Entries)
			}
			if test.says != "" {
				if _, err := os.Stat(file); status != 2 || !strings.Contains(stderr.String(), test.says) || !errors.Is(err, os.ErrNotExist) {
					t.Errorf("status %d, %q, %v", status, stderr.String(), err)
				}
				return
			}
			if status != 0 || !bytes.Equal(read(t, file), token) || !bytes.Contains(token, append([]byte{0x5f, 0x0c}, make([]byte, 62)...)) {
				t.Errorf("status %d: %s", status, stderr.String())
			}
			if left, err := os.ReadDir(file + ".endorsements"); err != nil || len(left) != 0 {
				t.Errorf("endorsements %v, %v", left, err)
			}
		})
	}
}
