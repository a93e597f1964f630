// Command stress races guests for authorizations of one use, over brokers that
// share a database, and fails if more than one key, or none, ever gets the secret,
// or if an audit finds anything wrong with the record:
//
//	go run ./internal/stress -dsn "host=/run/postgresql user=postgres" -rounds 10000 -seed 1
//
// It works in a schema of its own, which it drops at the end; without -dsn in a
// file of SQLite, which brokers of several processes share as well. What guests do
// follows from the seed; who wins does not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	dsn := flag.String("dsn", "", "of a PostgreSQL; if empty, SQLite")
	rounds := flag.Int("rounds", 10000, "races to run")
	seed := flag.Uint64("seed", 1, "of what guests do")
	brokers := flag.Int("brokers", 3, "brokers, each with connections of its own")
	guests := flag.Int("guests", 64, "guests in a race")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, *dsn, *brokers, *guests, *rounds, *seed, func(n int) { fmt.Printf("%d of %d rounds\n", n, *rounds) })
	if err != nil {
		fmt.Fprintf(os.Stderr, "seed %d: %v\n", *seed, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dsn string, brokers, guests, rounds int, seed uint64, report func(int)) (err error) {
	d, err := newDatabase(ctx, dsn, fake())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.drop()) }()
	x, err := newRace(ctx, d, brokers, guests, seed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.close()) }()
	return x.run(ctx, rounds, report)
}
