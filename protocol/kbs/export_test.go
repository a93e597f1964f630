package kbs

// FromSNP puts a report together again.
var FromSNP = fromSNP
