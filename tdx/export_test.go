package tdx

// Forgetful returns a Verifier like v that remembers nothing.
func (v *Verifier) Forgetful() *Verifier { return newVerifier(v.cfg, v.anchors) }

// Len returns how many events l has.
func (l EventLog) Len() int { return len(l.events) }

// Events returns those events of l that their digests vouch for.
func (l EventLog) Events() []Event {
	var es []Event
	for _, e := range l.events {
		if verified, err := e.verified(); err == nil {
			es = append(es, verified)
		}
	}
	return es
}
