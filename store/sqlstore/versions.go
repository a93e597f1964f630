package sqlstore

// maxSeen is how many rows a process remembers the versions of.
const maxSeen = 1 << 14

// newest returns ErrForged if a row that f is decided by, or one of these
// authorizations, is older than this process saw it: one that was genuine once was
// put back. Their instance is locked, so that nobody changes them meanwhile, and
// what is there is what was committed last.
func (t *tx) newest(f *facts, as ...*authorization) error {
	if f.epochs != nil {
		if err := t.version(&f.epochs.epochRow); err != nil {
			return err
		}
	}
	if f.auth != nil {
		as = append(as, f.auth)
	}
	for _, a := range as {
		if err := t.version(&a.authorizationRow); err != nil {
			return err
		}
	}
	return nil
}

// versioned returns the name of a row that has a version, and that.
func versioned(r record) (name string, version int64) {
	switch r := r.(type) {
	case *authorizationRow:
		return "a" + r.tenant + "\x00" + string(r.id), r.version
	case *epochRow:
		return "e" + r.tenant + "\x00" + string(r.instance) + r.purpose, r.version
	}
	return "", 0
}

// version remembers the version of r, or returns ErrForged.
func (t *tx) version(r record) error {
	name, v := versioned(r)
	if before, ok := t.s.versions.Get(name); ok && v < before {
		return forged(r.of().name)
	}
	t.saw(r)
	return nil
}

func (t *tx) saw(r record) {
	name, v := versioned(r)
	if name == "" {
		return
	}
	if t.versions == nil {
		t.versions = map[string]int64{}
	}
	t.versions[name] = max(t.versions[name], v)
}

// sawAll remembers the versions that a transaction saw or made, once it is
// committed.
func (s *Store) sawAll(versions map[string]int64) {
	for name, v := range versions {
		if before, ok := s.versions.Get(name); !ok || v > before {
			s.versions.Put(name, v)
		}
	}
}
