// Package wire has the numbers and names that CCA tokens are written with, each
// stated once. Sources: draft-ffm-rats-cca-token, RMM specification A7.2, RFC 9052,
// RFC 9360 and RFC 9711.
package wire

// Collection tags, as encoded. Neither is registered with IANA.
const (
	TagLegacy = "\xd9\x01\x8f" // 399: RMM 1.0, draft -00; values are tokens
	TagCMW    = "\xd9\x03\x8b" // 907: RMM 2.0, draft -02; values are CMW records
	TagSign1  = "\xd2"         // 18: COSE_Sign1
)

// Labels of a collection.
const (
	PlatformToken = 44234
	RealmToken    = 44241
)

// ContentEATCWT is the CoAP content format of application/eat+cwt.
const ContentEATCWT = 263

// Labels of COSE headers.
const (
	Alg      = 1
	Crit     = 2
	X5Chain  = 33
	X5T      = 34
	AlgES256 = -7
	AlgES384 = -35
	AlgES512 = -36
)

// COSE hash algorithms, in x5t.
const (
	HashSHA256 = -16
	HashSHA384 = -43
	HashSHA512 = -44
)

// Labels of a COSE_Key on a curve, and what they say of a RAK.
const (
	KeyType    = 1
	KeyAlg     = 3
	KeyCurve   = -1
	KeyX       = -2
	KeyY       = -3
	KeyTypeEC2 = 2
	CurveP384  = 2
)

// Labels of claims in both tokens.
const (
	Challenge = 10
	UEID      = 256
	Profile   = 265
)

// Labels of claims in platform tokens.
const (
	ClientID            = 2394
	Lifecycle           = 2395
	Implementation      = 2396
	Components          = 2399
	VerificationService = 2400
	Config              = 2401
	PlatformHash        = 2402
	WorkloadBinding     = 2408
)

// ClientRMSD is the ClientID of the realm management security domain. Tokens for
// others have a challenge that is not a RAK's.
const ClientRMSD = 1

// Labels of the members of a component.
const (
	ComponentType        = 1
	ComponentMeasurement = 2
	ComponentVersion     = 4
	ComponentSignerID    = 5
	ComponentHash        = 6
)

// Labels of claims in realm tokens.
const (
	RPV       = 44235
	RealmHash = 44236
	RAK       = 44237
	RIM       = 44238
	REM       = 44239
	RAKHash   = 44240
	MECPolicy = 44243
	Devices   = 44257
)

// Profiles. Those of CoRIM endorsements for the same platforms are others. The
// realm tokens of legacy platforms have none.
const (
	PlatformLegacy = "http://arm.com/CCA-SSD/1.0.0"
	Platform2023   = "tag:arm.com,2023:cca_platform#1.0.0"
	Platform2024   = "tag:arm.com,2024:cca_platform#2.0.0"
	Platform2026   = "tag:arm.com,2026:cca_platform#2.0.0"

	Realm2023 = "tag:arm.com,2023:realm#1.0.0"
	Realm2024 = "tag:arm.com,2024:realm#2.0.0"
	Realm2026 = "tag:arm.com,2026:realm#2.0.0"

	// What draft-ffm-rats-cca-token-04 and RMM 2.0-bet3 append to Platform2026.
	DelegatedDraft = ";delegated"
	DelegatedRMM   = "#delegated"
)

// UEIDTypeRAND is the first byte of every instance-id: RFC 9711, section 4.2.1.
const UEIDTypeRAND = 0x01
