//go:build race

package main

// raced is whether the race detector watches, which makes everything here many
// times as slow: there are fewer rounds then, and fewer steps to be killed at.
const raced = true
