// Package provision makes what an owner delivers with a guest that has a vTPM, and
// has the guest undo it:
//
//	state key ──opens──▶ state of a TPM ──unseals──▶ passphrase ──opens──▶ LUKS2 disk
//
// The owner's [Provision] makes a TPM, seals a passphrase to it and to the PCRs of the
// boot that may have it, seals the state of the TPM under a new key, and wraps that key
// to the broker's attestation key. The directory that it leaves may lie with the disk:
// nothing in it opens without a release. The guest opens the state as package
// guest/state has it, then [State.Start]s the TPM, has it [TPM.Unseal] the passphrase,
// and opens the disk with [OpenDisk], whose header is the one that the state names.
//
// The TPM is the program swtpm, and disks are opened by the program cryptsetup; both
// are in PATH. They get what is secret through pipes and a socket without a name.
// docs/provision.md says who does what, and what the host can do.
package provision

// Error is a constant error of this package.
type Error string

// The Errors.
const (
	// ErrConfig: what was asked for can't be meant.
	ErrConfig Error = "provision: not a configuration"

	// ErrState: not the state of a TPM, or that of another guest.
	ErrState Error = "provision: not the state of this guest's TPM"

	// ErrSealed: not the sealed passphrase that the state names.
	ErrSealed Error = "provision: not the passphrase that was sealed for this guest"

	// ErrPCRs: the TPM does not unseal the passphrase: something else was booted.
	ErrPCRs Error = "provision: the TPM does not unseal the passphrase for what was booted"

	// ErrDisk: not the LUKS2 header that the state names, or none that may be named.
	ErrDisk Error = "provision: not the disk of this guest"

	// ErrPassphrase: the passphrase does not open the disk.
	ErrPassphrase Error = "provision: the passphrase does not open the disk"

	// ErrDirectory: the directory is of another guest, or not whole.
	ErrDirectory Error = "provision: not a directory of this guest"
)

// Error implements error.
func (e Error) Error() string { return string(e) }
