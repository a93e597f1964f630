package keylime

import (
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/delegated"
	"github.com/teebroker/teebroker/snp"
)

// FormatNames returns the formats that are spelled in this package.
func FormatNames() (names []evidence.Format) {
	for _, f := range formats {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return names
}

// EventLogItem returns the type of Item that is spelled in this package.
func EventLogItem() string { return formats["tdx"].item }

// IDs returns the ids of failures.
func IDs() []string {
	return []string{
		missingParam, invalidTEE, invalidInput, vcekFetch, invalidSignature, freshness, invalidPublicKey,
		invalidNonce, invalidKey, unsupported, unsupportedType, revoked, stale, unavailable,
		unknownPolicy, noPolicy, policyMismatch, listMismatch,
	}
}

// Verdict returns what a Client makes of an answer about a report.
func Verdict(body, report []byte) error {
	r, err := snp.ParseReport(report)
	if err != nil {
		return err
	}
	return verdict(&delegated.Reply{Status: 200, Body: body}, r)
}
