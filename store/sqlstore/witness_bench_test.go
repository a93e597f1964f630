package sqlstore_test

import (
	"path/filepath"
	"testing"
)

// A release that is witnessed, beside BenchmarkSQLite.
func BenchmarkWitnessed(b *testing.B) {
	cfg := sqliteConfig(b, filepath.Join(b.TempDir(), "state.db"), nil)
	cfg.Witness = &witness{}
	benchmark(b, open(b, cfg))
}
