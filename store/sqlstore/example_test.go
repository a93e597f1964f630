package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// The state of a broker in one SQLite file. A program imports a driver, here
// modernc.org/sqlite.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "state.db")
	if err := sqlstore.PrivateFile(path); err != nil {
		fmt.Println(err)
		return
	}
	dsn := "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=secure_delete(ON)"
	write, err := sql.Open("sqlite", dsn)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer write.Close()
	read, err := sql.Open("sqlite", dsn)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer read.Close()
	cipher, err := store.NewAES([32]byte{1}) // 32 random bytes that are kept elsewhere
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := sqlstore.Open(context.Background(), sqlstore.Config{
		Dialect: sqlstore.SQLite, DB: write, Read: read, Cipher: cipher, RowKey: [32]byte{2},
		Decoders: policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	names, err := s.Policies(context.Background(), "acme")
	fmt.Println(s.Generation(), s.Simulated(), names, err)
	// Output: 1 false [] <nil>
}
