package brokerd

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs"
)

// refreshEvery is how often what vendors published is asked for again where it is
// due: long before it ends.
const refreshEvery = 5 * time.Minute

// source returns where collateral comes from: the folder of -collateral, then with
// -fetch the vendors, whose answers are kept in the state directory.
func (b *broker) source(o Options) (evidence.Source, error) {
	var sources []evidence.Source
	if o.Collateral != "" {
		folder := &folder{path: o.Collateral, now: time.Now}
		if err := folder.read(); err != nil {
			return nil, fmt.Errorf("-collateral: %w", err)
		}
		sources = append(sources, folder)
	}
	if !o.Fetch {
		if o.KDS != "" || o.PCS != "" {
			return nil, cli.Usagef("-kds and -pcs go with -fetch")
		}
		return collateral.First(sources...), nil
	}
	amd, err := kds.New(kds.Config{BaseURL: o.KDS})
	if err != nil {
		return nil, cli.Usagef("-kds: %w", err)
	}
	intel, err := pcs.New(pcs.Config{BaseURL: o.PCS})
	if err != nil {
		return nil, cli.Usagef("-pcs: %w", err)
	}
	b.cache, err = collateral.NewCache(collateral.CacheConfig{
		Upstream: collateral.First(amd, intel), AMD: snp.AMD(), Intel: tdx.Intel(),
		Dir:    filepath.Join(b.files.dir, "collateral"),
		Report: func(err error) { b.log.Warn("collateral", "error", err.Error()) },
	})
	if err != nil {
		return nil, err
	}
	return collateral.First(append(sources, b.cache)...), nil
}

// refresh keeps what vendors published current until ctx ends, and says in time
// what will not be.
func (b *broker) refresh(ctx context.Context) {
	if b.cache == nil {
		return
	}
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	var warned time.Time
	for {
		if err := b.cache.Refresh(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("collateral", "error", err.Error())
		}
		if now := time.Now(); now.Sub(warned) > warnEvery {
			warned = now
			for _, e := range b.cache.Forecast().Before(now.Add(warnBefore)) {
				b.log.LogAttrs(ctx, slog.LevelWarn, "collateral ends", slog.String("name", e.Name), slog.Time("end", e.Ends))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Collateral is worth a warning a day this long before its end.
const (
	warnBefore = 14 * 24 * time.Hour
	warnEvery  = 24 * time.Hour
)

// reread is how old what was read of the folder may be.
const reread = 10 * time.Minute

// folder is a Source of the files in a folder, which is read again in a while.
type folder struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	files *collateral.Files
	at    time.Time
}

func (f *folder) read() error {
	files, err := collateral.Dir(f.path)
	if err != nil {
		return err
	}
	f.files, f.at = files, f.now()
	return nil
}

// Get implements [evidence.Source]. A folder that can't be read is as it was: what
// it had ends by itself.
func (f *folder) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	f.mu.Lock()
	if f.now().Sub(f.at) > reread {
		if err := f.read(); err != nil {
			f.at = f.now()
		}
	}
	files := f.files
	f.mu.Unlock()
	return files.Get(ctx, name)
}
