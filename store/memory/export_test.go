package memory

// Remembered is how many nonces s holds.
func (s *Store) Remembered() int { return len(s.nonces) }
