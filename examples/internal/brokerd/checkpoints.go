package brokerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/store/checkpoint"
)

// lastLook is how long the last checkpoint may take, of a broker that ends.
const lastLook = 5 * time.Second

// openRecord opens the database, and compares it with the checkpoints that are kept.
// A broker whose database is not the one that was seen starts, and releases nothing
// until the right one is there.
func (b *broker) openRecord(ctx context.Context, o Options, keys *keyfile.File) (err error) {
	b.keeper, err = checkpoint.New(checkpoint.Config{
		Identity: keys.Identity(), Dir: b.files.checkpoints, AllowMissing: o.AllowMissing,
		Report: func(text string) { b.log.Warn(text) },
	})
	if err != nil {
		return fmt.Errorf("-checkpoints: %w", err)
	}
	if b.db, err = o.openDatabase(ctx, b.files.db, keys, b.keeper); err != nil {
		return err
	}
	if err := b.keeper.Start(ctx, b.db); err != nil && !errors.Is(err, checkpoint.ErrDiffers) {
		return fmt.Errorf("-checkpoints: %w", err)
	}
	return nil
}

// look makes checkpoints, and compares, until ctx ends, and then once more.
func (b *broker) look(ctx context.Context) {
	tick := time.NewTicker(checkpoint.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
			defer cancel()
			b.lookOnce(last)
			return
		case <-tick.C:
			b.lookOnce(ctx)
		}
	}
}

// lookOnce logs why it could not look. What it saw is logged where it was seen.
func (b *broker) lookOnce(ctx context.Context) {
	if err := b.keeper.Look(ctx); err != nil && !errors.Is(err, checkpoint.ErrDiffers) {
		b.log.Error("checkpoints", "error", err.Error())
	}
}
