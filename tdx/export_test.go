package tdx

// Forgetful returns a Verifier like v that remembers nothing.
func (v *Verifier) Forgetful() *Verifier { return newVerifier(v.cfg, v.anchors) }
