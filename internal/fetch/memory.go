package fetch

import "time"

// failure is what came of a name last, if no answer.
type failure struct {
	err   *Error
	until time.Time
	count int // failures in a row
}

// remembered returns the error that name has for now, or nil.
func (c *Client) remembered(name string) error {
	f, ok := c.failed.Get(name)
	if !ok || f.err == nil || !time.Now().Before(f.until) {
		return nil
	}
	return f.err
}

// remember keeps err for name for a while: longer with every failure in a row, or
// for a fixed time if the service says that there is no such file.
func (c *Client) remember(name string, err *Error) {
	f, _ := c.failed.Get(name)
	hold := jitter(firstHold<<min(f.count, 10), longestHold)
	if err.missing() {
		hold = missingFor
	}
	c.failed.Put(name, failure{err, time.Now().Add(hold), f.count + 1})
}

// forget ends a row of failures.
func (c *Client) forget(name string) {
	if _, ok := c.failed.Get(name); ok {
		c.failed.Put(name, failure{})
	}
}
