package sqlstore

import "database/sql"

// The tables whose rows have a MAC, and a row of each. What is in none of the
// columns here is in the digest called content, sealed for its place by the
// Cipher, or exempt: docs/stores.md says which and why.
var (
	clockTable         = newTable("clock", 1, 1, "one latest generation")
	metaTable          = newTable("meta", 1, 1, "name value")
	tokenTable         = newTable("tokens", 1, 1, "token tenant")
	policyTable        = newTable("policies", 1, 2, "tenant name content | document")
	instanceTable      = newTable("instances", 1, 2, "tenant id generation launch_id deleted policy parts content | registration")
	claimTable         = newTable("launch_claims", 1, 2, "name value tenant instance")
	purposeTable       = newTable("purposes", 1, 3, "tenant instance purpose generation digest epoch content | secret wrapped")
	authorizationTable = newTable("authorizations", 1, 2, "tenant id version era instance made generation policy uses used not_before not_after state body")
	slotTable          = newTable("slots", 1, 3, "tenant instance recipient auth closed")
	releaseTable       = newTable("releases", 1, 4, "tenant instance recipient purpose id auth blob digest until epoch confirmed | sealed confirm_key pcr")
	outcomeTable       = newTable("outcomes", 1, 2, "request purpose refused forget tenant instance recipient receipt seq")
	entryTable         = newTable("entries", 1, 3, "tenant chain seq hash | generation time kind body previous")
	headTable          = newTable("heads", 1, 2, "tenant chain generation seq time hash minute count")
	epochTable         = newTable("epochs", 1, 3, "tenant instance purpose version era state")
	identityTable      = newTable("identities", 1, 2, "tenant ek instance state made agent agent_id body")
	epochBlobTable     = newTable("epoch_blobs", 1, 4, "tenant instance purpose epoch digest wrapped")
)

type clockRow struct {
	authentic
	one, latest, generation int64
}

func (*clockRow) of() *table      { return clockTable }
func (r *clockRow) fields() []any { return []any{&r.one, &r.latest, &r.generation} }

type metaRow struct {
	authentic
	name  string
	value []byte
}

func (*metaRow) of() *table      { return metaTable }
func (r *metaRow) fields() []any { return []any{&r.name, &r.value} }

type tokenRow struct {
	authentic
	token  []byte
	tenant string
}

func (*tokenRow) of() *table      { return tokenTable }
func (r *tokenRow) fields() []any { return []any{&r.token, &r.tenant} }

type policyRow struct {
	authentic
	tenant, name string
	content      []byte // SHA-256 of document
}

func (*policyRow) of() *table      { return policyTable }
func (r *policyRow) fields() []any { return []any{&r.tenant, &r.name, &r.content} }

type instanceRow struct {
	authentic
	tenant     string
	id         []byte
	generation int64
	launch     []byte
	deleted    int64
	policy     []byte // teebroker.PolicyDigest of the documents that it names
	parts      []byte // JSON of purposes, of which it has no other
	content    []byte // SHA-256 of registration
}

func (*instanceRow) of() *table { return instanceTable }
func (r *instanceRow) fields() []any {
	return []any{&r.tenant, &r.id, &r.generation, &r.launch, &r.deleted, &r.policy, &r.parts, &r.content}
}

type claimRow struct {
	authentic
	name     string
	value    []byte
	tenant   string
	instance []byte
}

func (*claimRow) of() *table      { return claimTable }
func (r *claimRow) fields() []any { return []any{&r.name, &r.value, &r.tenant, &r.instance} }

type purposeRow struct {
	authentic
	tenant     string
	instance   []byte
	purpose    string
	generation int64 // of the instance, when it was put
	digest     []byte
	epoch      int64
	content    []byte // of secret and wrapped
}

func (*purposeRow) of() *table { return purposeTable }
func (r *purposeRow) fields() []any {
	return []any{&r.tenant, &r.instance, &r.purpose, &r.generation, &r.digest, &r.epoch, &r.content}
}

type authorizationRow struct {
	authentic
	tenant        string
	id            []byte
	version, era  int64
	instance      []byte
	made          int64
	generation    int64
	policy        []byte
	uses, used    int64
	before, after int64
	state         int64
	body          []byte
}

func (*authorizationRow) of() *table { return authorizationTable }
func (r *authorizationRow) fields() []any {
	return []any{
		&r.tenant, &r.id, &r.version, &r.era, &r.instance, &r.made, &r.generation, &r.policy,
		&r.uses, &r.used, &r.before, &r.after, &r.state, &r.body,
	}
}

type slotRow struct {
	authentic
	tenant    string
	instance  []byte
	recipient []byte
	auth      []byte
	closed    int64
}

func (*slotRow) of() *table { return slotTable }
func (r *slotRow) fields() []any {
	return []any{&r.tenant, &r.instance, &r.recipient, &r.auth, &r.closed}
}

type releaseRow struct {
	authentic
	tenant    string
	instance  []byte
	recipient []byte
	purpose   string
	id        []byte
	auth      []byte
	blob      []byte
	digest    []byte // of the sealed bytes
	until     int64
	epoch     []byte // JSON of a teebroker.Epoch, or NULL
	confirmed []byte // receipt of the last confirm, or NULL
}

func (*releaseRow) of() *table { return releaseTable }
func (r *releaseRow) fields() []any {
	return []any{
		&r.tenant, &r.instance, &r.recipient, &r.purpose, &r.id, &r.auth, &r.blob, &r.digest, &r.until, &r.epoch, &r.confirmed,
	}
}

type outcomeRow struct {
	authentic
	request   []byte
	purpose   string
	refused   string        // a code, or empty: then the rest is there
	forget    sql.NullInt64 // when a refusal is forgotten
	tenant    sql.NullString
	instance  []byte
	recipient []byte
	receipt   []byte
	seq       sql.NullInt64
}

func (*outcomeRow) of() *table { return outcomeTable }
func (r *outcomeRow) fields() []any {
	return []any{&r.request, &r.purpose, &r.refused, &r.forget, &r.tenant, &r.instance, &r.recipient, &r.receipt, &r.seq}
}

// entryRow has the hash only, which is over everything else of the entry.
type entryRow struct {
	authentic
	tenant, chain string
	seq           int64
	hash          []byte
}

func (*entryRow) of() *table      { return entryTable }
func (r *entryRow) fields() []any { return []any{&r.tenant, &r.chain, &r.seq, &r.hash} }

type headRow struct {
	authentic
	tenant, chain string
	generation    int64 // of the last entry
	seq, time     int64
	hash          []byte
	minute, count int64
}

func (*headRow) of() *table { return headTable }
func (r *headRow) fields() []any {
	return []any{&r.tenant, &r.chain, &r.generation, &r.seq, &r.time, &r.hash, &r.minute, &r.count}
}

type epochRow struct {
	authentic
	tenant       string
	instance     []byte
	purpose      string
	version, era int64
	state        []byte // JSON of an epoch.Row
}

func (*epochRow) of() *table { return epochTable }
func (r *epochRow) fields() []any {
	return []any{&r.tenant, &r.instance, &r.purpose, &r.version, &r.era, &r.state}
}

type epochBlobRow struct {
	authentic
	tenant   string
	instance []byte
	purpose  string
	epoch    int64
	digest   []byte
	wrapped  []byte
}

func (*epochBlobRow) of() *table { return epochBlobTable }
func (r *epochBlobRow) fields() []any {
	return []any{&r.tenant, &r.instance, &r.purpose, &r.epoch, &r.digest, &r.wrapped}
}

type identityRow struct {
	authentic
	tenant         string
	ek, instance   []byte
	state          string
	made           int64
	agent, agentID sql.NullString
	body           []byte // JSON of a store.Identity
}

func (*identityRow) of() *table { return identityTable }
func (r *identityRow) fields() []any {
	return []any{&r.tenant, &r.ek, &r.instance, &r.state, &r.made, &r.agent, &r.agentID, &r.body}
}
