package lru

import (
	"sync"
	"testing"
)

func TestCacheForgetsWhatWasNotUsed(t *testing.T) {
	c := New[string, int](2)
	c.Put("a", 1)
	c.Put("b", 2)
	if v, ok := c.Get("a"); !ok || v != 1 {
		t.Fatalf("a: %v %v", v, ok)
	}
	c.Put("c", 3)
	for key, want := range map[string]int{"a": 1, "b": 0, "c": 3} {
		if v, ok := c.Get(key); v != want || ok != (want != 0) {
			t.Errorf("%s: %v %v", key, v, ok)
		}
	}
	c.Put("a", 4)
	if v, _ := c.Get("a"); v != 4 || c.order.Len() != 2 || len(c.at) != 2 {
		t.Errorf("a put again: %v, %d values", v, c.order.Len())
	}
}

func TestCacheConcurrently(t *testing.T) {
	c := New[int, int](8)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 1000 {
				k := (i + j) % 16
				if v, ok := c.Get(k); ok && v != k {
					t.Errorf("%d under %d", v, k)
				}
				c.Put(k, k)
			}
		})
	}
	wg.Wait()
	if len(c.at) > 8 || c.order.Len() != len(c.at) {
		t.Errorf("%d values", len(c.at))
	}
}
