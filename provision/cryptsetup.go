package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
)

// OpenDisk opens the LUKS2 disk in path, a file or block device, with passphrase, if its header
// is the one that s names: before the passphrase is given to any program, the header is
// copied to dir and compared, and it is that copy which is used. dir is in the memory of the guest, such as /dev/shm.
// name becomes the name of the open device under /dev/mapper, which takes root; if it is empty, the
// passphrase is only tried. Errors wrap [ErrDisk] and [ErrPassphrase], or exec.ErrNotFound if there is no cryptsetup.
func (s *State) OpenDisk(ctx context.Context, path, dir, name string, passphrase []byte) error {
	if s.Disk == nil {
		return fmt.Errorf("%w: the state names none", ErrDisk)
	}
	if name != "" && !mapperName.MatchString(name) {
		return fmt.Errorf("%w: not a name of a device", ErrConfig)
	}
	header, err := copyHeader(ctx, path, *s.Disk, dir)
	if err != nil {
		return err
	}
	defer os.Remove(header)
	return openLUKS(ctx, header, path, name, passphrase)
}

// CheckDisk compares the header of the disk in path with the one that s names, and
// gives it to nobody.
func (s *State) CheckDisk(ctx context.Context, path, dir string) error {
	if s.Disk == nil {
		return fmt.Errorf("%w: the state names none", ErrDisk)
	}
	header, err := copyHeader(ctx, path, *s.Disk, dir)
	if err != nil {
		return err
	}
	return os.Remove(header)
}

var mapperName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

// openLUKS opens path with a header that was compared.
func openLUKS(ctx context.Context, header, path, name string, passphrase []byte) error {
	args := []string{"open", "--type", "luks2", "--key-file", "-", "--header", header, path}
	if name == "" {
		args = append(args, "--test-passphrase")
	} else {
		args = append(args, name)
	}
	return cryptsetup(ctx, passphrase, args...)
}

// formatLUKS makes a file of size bytes with a LUKS2 header of 4 MiB, a quarter of cryptsetup's
// default, which has room for some 15 passphrases and is read whole at each boot. The passphrase has 256
// random bits, so that nothing is gained by making it slow to try others.
func formatLUKS(ctx context.Context, path string, size int64, passphrase []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	err = cryptsetup(ctx, passphrase, "luksFormat", "--type", "luks2", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
		"--luks2-metadata-size", "16k", "--luks2-keyslots-size", "4064k", "--key-file", "-", path)
	if err != nil {
		return err
	}
	return syncPath(path)
}

// cryptsetup runs the program, which reads passphrase from a pipe.
func cryptsetup(ctx context.Context, passphrase []byte, args ...string) error {
	program, err := exec.LookPath("cryptsetup")
	if err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(passphrase), &complaint
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nil
	case cmd.ProcessState.ExitCode() == 2: // its status for "no permission (bad passphrase)"
		return ErrPassphrase
	}
	text := complaint.Bytes()
	return fmt.Errorf("provision: cryptsetup: %w: %q", err, text[:min(len(text), 300)])
}
