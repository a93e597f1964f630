package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/filelock"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// MaxFile is the most bytes of a file, enough for some 60,000 chains.
const MaxFile = 64 << 20

// Key names a chain.
type Key struct {
	Tenant string
	Chain  teebroker.Chain
}

func keyOf(c store.Checkpoint) Key { return Key{c.Tenant, c.Chain} }

func (k Key) compare(l Key) int {
	return cmp.Or(cmp.Compare(k.Tenant, l.Tenant), cmp.Compare(k.Chain, l.Chain))
}

// Set is one checkpoint of each chain of one broker.
type Set map[Key]store.Checkpoint

// Add adds c unless there is a later one of its chain. A later generation is later
// at any Seq. Two of one generation and Seq with other heads are ErrDiffers: the
// history was forked.
func (s Set) Add(c store.Checkpoint) error {
	have, ok := s[keyOf(c)]
	same := ok && have.Generation == c.Generation && have.Seq == c.Seq
	switch {
	case same && have.Head != c.Head:
		return fmt.Errorf("%w: two checkpoints of entry %d of %s of tenant %s", ErrDiffers, c.Seq, c.Chain, c.Tenant)
	case same, ok && have.Generation > c.Generation, ok && have.Generation == c.Generation && have.Seq > c.Seq:
		return nil
	}
	s[keyOf(c)] = c
	return nil
}

// Sorted returns the checkpoints by tenant and chain.
func (s Set) Sorted() []store.Checkpoint {
	return slices.SortedFunc(maps.Values(s), func(a, b store.Checkpoint) int { return keyOf(a).compare(keyOf(b)) })
}

// Verify returns the checkpoint that token is, of the broker with this id.
func Verify(token []byte, broker [32]byte) (store.Checkpoint, error) {
	c, err := teebroker.VerifyCheckpoint(token, broker)
	return store.Checkpoint{Checkpoint: c, Token: bytes.Clone(token)}, err
}

// fileJSON is what is in a file.
type fileJSON struct {
	Version     int               `json:"v"`
	Broker      strictjson.Digest `json:"broker"`
	Checkpoints []string          `json:"checkpoints"` // compact JWS, by tenant and chain
}

// Parse returns what a file of the broker with this id has, if it is whole: every
// checkpoint is verified. Errors wrap ErrFile.
func Parse(b []byte, broker [32]byte) (Set, error) {
	var j fileJSON
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrFile, MaxFile)
	}
	if err := strictjson.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	switch {
	case j.Version != 1:
		return nil, fmt.Errorf("%w: version %d", ErrFile, j.Version)
	case j.Broker != broker || broker == [32]byte{}:
		return nil, fmt.Errorf("%w: of another broker", ErrFile)
	case j.Checkpoints == nil:
		return nil, fmt.Errorf("%w: without checkpoints", ErrFile)
	}
	s := Set{}
	for i, token := range j.Checkpoints {
		c, err := Verify([]byte(token), broker)
		if err != nil {
			return nil, fmt.Errorf("%w: checkpoint %d: %w", ErrFile, i, err)
		}
		if _, ok := s[keyOf(c)]; ok {
			return nil, fmt.Errorf("%w: two checkpoints of a chain", ErrFile)
		}
		s[keyOf(c)] = c
	}
	return s, nil
}

// Encode is the inverse of [Parse].
func (s Set) Encode(broker [32]byte) ([]byte, error) {
	j := fileJSON{Version: 1, Broker: broker, Checkpoints: []string{}}
	for _, c := range s.Sorted() {
		j.Checkpoints = append(j.Checkpoints, string(c.Token))
	}
	b, err := json.MarshalIndent(j, "", " ")
	if err == nil && len(b) >= MaxFile {
		err = errors.New("too many chains")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	return append(b, '\n'), nil
}

// File is a file with the checkpoints of one broker. Its name has the broker id,
// so that a directory can have those of several.
type File struct {
	path   string
	broker [32]byte
}

// prefix and suffix are around the broker id, in base64url.
const prefix, suffix = "checkpoints-", ".json"

// In returns the File of a broker in a directory.
func In(dir string, broker [32]byte) File {
	return File{filepath.Join(dir, prefix+base64.RawURLEncoding.EncodeToString(broker[:])+suffix), broker}
}

// Path returns where f is.
func (f File) Path() string { return f.path }

// Read returns what is in f, or an error wrapping [fs.ErrNotExist] or ErrFile. A
// file that others could have written is refused.
func (f File) Read() (Set, error) {
	info, err := os.Lstat(f.path) // before it is opened: a pipe would wait for ever
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %v, want a file of mode 0600", ErrFile, f.path, info.Mode())
	}
	r, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	s, err := Parse(b, f.broker)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return s, nil
}

// Update has change change what is in f, or an empty Set if there is none, and
// writes the result durably, with mode 0600; who reads meanwhile finds the old
// file or the new one, whole. Processes of this host take turns. It returns what
// was written. The directory is made if it is not there.
func (f File) Update(change func(Set) error) (Set, error) {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	unlock, err := filelock.Lock(f.path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	defer unlock()
	s, err := f.Read()
	if errors.Is(err, os.ErrNotExist) {
		s, err = Set{}, nil
	}
	if err == nil {
		err = change(s)
	}
	if err != nil {
		return nil, err
	}
	b, err := s.Encode(f.broker)
	if err == nil {
		err = f.write(b)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// write replaces f at once. It is called under the lock of f, so that there is one
// new file at most, also if a process was killed.
func (f File) write(b []byte) error {
	name := f.path + ".new"
	_ = os.Remove(name) // which somebody left
	t, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	_, err = t.Write(b)
	if err = errors.Join(err, t.Sync(), t.Close()); err == nil {
		err = os.Rename(name, f.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.path))
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
