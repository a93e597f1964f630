package kbs

// FromSNP puts a report together again.
var FromSNP = fromSNP

// ParseOctets reads a list of bytes.
var ParseOctets = parseOctets

// FromAzure takes evidence of an Azure VM apart.
var FromAzure = fromAzure
