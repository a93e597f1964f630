package collateral_test

import (
	"testing"
)

// A warm lookup is on the way of every verification.
func BenchmarkCacheWarm(b *testing.B) {
	v := newVendor()
	cache := cacheOf(b, v, &clock{now}, b.TempDir())
	names := everything(v, now)
	for _, name := range names {
		gets(b, cache, name, v.has[name][0].Data)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := cache.Get(b.Context(), names[i%len(names)]); err != nil {
			b.Fatal(err)
		}
	}
}

// A cache that reaches a directory only, as after a restart.
func BenchmarkNewCache(b *testing.B) {
	v, dir := newVendor(), b.TempDir()
	cache := cacheOf(b, v, &clock{now}, dir)
	for _, name := range everything(v, now) {
		gets(b, cache, name, v.has[name][0].Data)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = cacheOf(b, v, &clock{now}, dir).Close()
	}
}
