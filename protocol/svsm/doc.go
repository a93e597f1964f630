// Package svsm connects guests with a COCONUT-SVSM, before they boot, to a broker
// that speaks the KBS protocol 0.4.0, as package kbs does. A [Proxy] runs on the
// host and takes what the SVSM says on a serial port or on vsock to the broker, in
// the place of the program aproxy of the same project. A [Guest] says what the
// kernel of the SVSM says, for tests and to try a broker out.
//
// On a stream there is one guest. Each message is its length, 8 bytes in little
// endian, and then JSON:
//
//	guest  {"version":[0,1,0],"tee":"snp"}
//	proxy  {"challenge":"…","params":["EcPublicKeyBytes","Challenge"]}
//	guest  {"tee":"snp","evidence":{"Snp":{"report":"…"}},"challenge":"…","key":{"x":"…","y":"…"}}
//	proxy  {"success":true,"secret":"…","decryption":{…},"token":{"Jwt":"…"}}
//
// The proxy is the host's, so nobody trusts it with anything. It sees evidence,
// which is no secret, and a secret that only the key in the evidence opens. What
// it changes makes the guest refuse or the broker refuse; what it withholds keeps
// the guest from booting, which a host can do anyway. The protocol gives a guest
// no way to tell which broker sealed what it opened: docs/svsm-proxy.md says what
// follows.
package svsm
