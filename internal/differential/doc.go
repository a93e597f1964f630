// Command differential compares the verdicts of package snp with those of
// go-sev-guest, and those of package tdx with those of go-tdx-guest, over mutations
// of genuine and of simulated evidence.
//
// What counts is evidence that we accept and the other refuses: every such
// case has to be explained, by one of a few narrow predicates that
// docs/differential.md gives the reasons for. Without an explanation the program
// fails and prints what is needed to see the case again.
//
// Case I of seed S is always the same, whatever ran before it and however many
// processors there are. Only keys of simulated vendors, and what they sign, are
// new in each process.
package main
