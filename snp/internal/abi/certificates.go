package abi

// The certificate table is an array of entries that ends with an entry of zeros;
// payloads follow. An entry is a GUID, then offset and length of its payload,
// 4 bytes each; offsets count from the start of the table.
const (
	EntrySize   = 24
	EntryOffset = 16
	EntryLength = 20
)

// GUIDs of the certificate table, in the byte order in which they are printed.
const (
	GUIDVCEK = "\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd"
	GUIDVLEK = "\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1"
	GUIDASK  = "\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82" // or ASVK
	GUIDARK  = "\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae"
	GUIDCRL  = "\x92\xf8\x1b\xc3\x58\x11\x4d\x3d\x97\xff\xd1\x9f\x88\xdc\x67\xea"
)

// Extensions of a VEK, none of them critical.
const (
	OIDStructVersion = "1.3.6.1.4.1.3704.1.1"   // INTEGER: 0 Milan and Genoa, 1 Turin
	OIDProductName   = "1.3.6.1.4.1.3704.1.2"   // IA5String
	OIDBootloader    = "1.3.6.1.4.1.3704.1.3.1" // the security versions are INTEGER
	OIDTEE           = "1.3.6.1.4.1.3704.1.3.2"
	OIDFirmware      = "1.3.6.1.4.1.3704.1.3.3"
	OIDSPL4          = "1.3.6.1.4.1.3704.1.3.4" // reserved, 0; Turin has none
	OIDSPL5          = "1.3.6.1.4.1.3704.1.3.5" // reserved, 0
	OIDSPL6          = "1.3.6.1.4.1.3704.1.3.6" // reserved, 0
	OIDSPL7          = "1.3.6.1.4.1.3704.1.3.7" // reserved, 0
	OIDMicrocode     = "1.3.6.1.4.1.3704.1.3.8"
	OIDFMC           = "1.3.6.1.4.1.3704.1.3.9" // Turin
	OIDHwID          = "1.3.6.1.4.1.3704.1.4"   // VCEK: the bytes as they are, with no OCTET STRING around them
	OIDCSPID         = "1.3.6.1.4.1.3704.1.5"   // VLEK: IA5String
)

// Sizes of hwID.
const (
	HwIDSize      = 64
	HwIDSizeTurin = 8
)
