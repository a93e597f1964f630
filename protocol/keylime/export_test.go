package keylime

import (
	"slices"

	"github.com/teebroker/teebroker/evidence"
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
