package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store/checkpoint"
)

// A process that saw two entries is shown a database that has one. It is
// sqlstore.Config.Witness of its store, which asks it before anything is added.
func ExampleKeeper() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	k, err := checkpoint.New(checkpoint.Config{Identity: fixedKey(), Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, db := context.Background(), newFake()
	db.add("acme", 1, "{}")
	yesterday := db.copy()
	db.add("acme", 1, "{}")
	fmt.Println(k.Start(ctx, db)) // and Look every 15 seconds
	fmt.Println(errors.Is(k.Start(ctx, yesterday), checkpoint.ErrDiffers))
	_, err = k.Seen("acme", teebroker.Decisions)
	fmt.Println(err)
	// Output:
	// <nil>
	// true
	// checkpoint: not the record that was seen: decisions of tenant acme end at entry 1, and 2 was seen
}

// What an owner keeps of a broker.
func ExampleFile() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	identity := fixedKey()
	p := &process{identity: identity}
	token, err := teebroker.Checkpoint{
		Tenant: "acme", Chain: teebroker.Decisions, Generation: 1, Seq: 7, Head: [32]byte{7}, Time: 1_800_000_000_000,
	}.Sign(identity)
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := checkpoint.In(dir, p.id()).Update(func(s checkpoint.Set) error {
		c, err := checkpoint.Verify(token, p.id())
		if err != nil {
			return err
		}
		return s.Add(c)
	})
	for _, c := range s.Sorted() {
		fmt.Println(c.Tenant, c.Chain, c.Seq, err)
	}
	// Output: acme decisions 7 <nil>
}
