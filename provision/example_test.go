package provision_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/teebroker/teebroker/provision"
)

// An owner makes a TPM and what is sealed to it; a guest that was released the state
// starts the TPM, and opens its disk. [provision.Provision] does the first part together
// with everything that has to be in the directory of the guest.
func Example() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx, image := context.Background(), filepath.Join(dir, "disk.luks")
	me := provision.Guest{Tenant: "acme", Instance: [16]byte{15: 1}, Purpose: "vtpm"}
	made, err := provision.Make(ctx, provision.Config{
		Guest: me, ECC: true, NewImage: provision.MinImage,
		PCRs: []provision.PCR{{Index: 7}}, // nothing measured into it
	}, image)
	if err != nil {
		panic(err)
	}
	value, err := made.State.Marshal() // is sealed now, see guest/state, and comes back at the next boot
	if err != nil {
		panic(err)
	}

	s, err := provision.ParseState(value, me)
	if err != nil {
		panic(err)
	}
	tpm, err := s.Start(ctx, dir)
	if err != nil {
		panic(err)
	}
	defer tpm.Close()
	passphrase, err := tpm.Unseal(made.Sealed)
	if err != nil {
		panic(err)
	}
	fmt.Println("the TPM that was made:", bytes.Equal(tpm.EK(), made.EK))
	fmt.Println("opens:", s.OpenDisk(ctx, image, dir, "", passphrase))
	// Output:
	// the TPM that was made: true
	// opens: <nil>
}

// The header of a disk is all that is before its data.
func ExampleReadDisk() {
	_, err := provision.ReadDisk(bytes.NewReader(make([]byte, 1<<20)))
	fmt.Println(err)
	// Output: provision: not the disk of this guest: not LUKS2
}
