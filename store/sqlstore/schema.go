package sqlstore

// migrations are applied in their order, each once, and never edited: what is
// wrong in one is put right by a later one. INT, BYTES and NAME are the types of
// the dialect; TABLE_END closes a table in it. Instants are nanoseconds since
// 1970, booleans 0 or 1. The mac columns are the MACs of rows under the row key,
// see rows.go.
var migrations = []string{`
CREATE TABLE clock (one INT NOT NULL PRIMARY KEY CHECK (one = 1), latest INT NOT NULL) TABLE_END;
INSERT INTO clock (one, latest) VALUES (1, 0);

CREATE TABLE tenants (tenant NAME NOT NULL PRIMARY KEY) TABLE_END;

CREATE TABLE tokens (
  token  BYTES NOT NULL PRIMARY KEY, -- SHA-256 of it
  tenant NAME NOT NULL
) TABLE_END;

CREATE TABLE policies (
  tenant   NAME NOT NULL,
  name     NAME NOT NULL,
  document BYTES NOT NULL,
  mac      BYTES,
  PRIMARY KEY (tenant, name)
) TABLE_END;

CREATE TABLE instances (
  tenant       NAME NOT NULL,
  id           BYTES NOT NULL,
  generation   INT NOT NULL,
  launch_id    BYTES NOT NULL, -- teebroker.LaunchID
  registration BYTES NOT NULL, -- JSON; empty if deleted
  deleted      INT NOT NULL,   -- the row stays for ever
  mac          BYTES,
  PRIMARY KEY (tenant, id)
) TABLE_END;
CREATE UNIQUE INDEX instances_launch ON instances (launch_id);

CREATE TABLE instance_policies (
  tenant   NAME NOT NULL,
  name     NAME NOT NULL,
  instance BYTES NOT NULL,
  PRIMARY KEY (tenant, name, instance)
) TABLE_END;

CREATE TABLE launch_claims ( -- for ever
  name     NAME NOT NULL,
  value    BYTES NOT NULL,
  tenant   NAME NOT NULL,
  instance BYTES NOT NULL,
  PRIMARY KEY (name, value)
) TABLE_END;

CREATE TABLE purposes ( -- each has a secret or a blob
  tenant   NAME NOT NULL,
  instance BYTES NOT NULL,
  purpose  NAME NOT NULL,
  secret   BYTES, -- sealed by the Cipher
  digest   BYTES, -- of the current blob
  wrapped  BYTES, -- the owner's copy of it, if there is one
  epoch    INT NOT NULL,
  mac      BYTES,
  PRIMARY KEY (tenant, instance, purpose)
) TABLE_END;

CREATE TABLE authorizations (
  tenant     NAME NOT NULL,
  id         BYTES NOT NULL,
  instance   BYTES NOT NULL,
  made       INT NOT NULL, -- seq of the entry that records it
  generation INT NOT NULL,
  policy     BYTES NOT NULL,
  uses       INT NOT NULL,
  used       INT NOT NULL CHECK (used <= uses),
  not_before INT NOT NULL,
  not_after  INT NOT NULL,
  state      INT NOT NULL, -- 0, 1 voided by a change, 2 revoked
  body       BYTES NOT NULL, -- JSON: what it is for
  mac        BYTES,
  PRIMARY KEY (tenant, id)
) TABLE_END;
CREATE INDEX authorizations_open ON authorizations (tenant, instance, not_after);

CREATE TABLE slots ( -- for ever: a key never takes another
  tenant    NAME NOT NULL,
  instance  BYTES NOT NULL,
  recipient BYTES NOT NULL, -- thumbprint of the guest's key
  auth      BYTES NOT NULL,
  mac       BYTES,
  PRIMARY KEY (tenant, instance, recipient)
) TABLE_END;

CREATE TABLE releases ( -- for ever, but for what is sealed
  tenant      NAME NOT NULL,
  instance    BYTES NOT NULL,
  recipient   BYTES NOT NULL,
  purpose     NAME NOT NULL,
  id          BYTES NOT NULL,
  auth        BYTES NOT NULL,
  blob        BYTES NOT NULL, -- digest of the one presented, or zeros
  digest      BYTES NOT NULL, -- SHA-256 of the sealed bytes
  sealed      BYTES,          -- sealed once more by the Cipher; NULL once erased
  confirm_key BYTES,          -- sealed by the Cipher
  until       INT NOT NULL,   -- when sealed is erased
  mac         BYTES,
  PRIMARY KEY (tenant, instance, recipient, purpose)
) TABLE_END;
CREATE UNIQUE INDEX releases_id ON releases (tenant, id);
CREATE INDEX releases_auth ON releases (tenant, auth);
CREATE INDEX releases_until ON releases (until) WHERE sealed IS NOT NULL;

CREATE TABLE outcomes (
  request   BYTES NOT NULL,
  purpose   NAME NOT NULL,
  refused   NAME NOT NULL, -- a code, or empty: then the rest is there
  forget    INT,           -- when a refusal is forgotten
  tenant    NAME,
  instance  BYTES,
  recipient BYTES,
  receipt   BYTES,
  seq       INT, -- of the entry in decisions
  PRIMARY KEY (request, purpose)
) TABLE_END;
CREATE INDEX outcomes_forget ON outcomes (forget) WHERE forget IS NOT NULL;
CREATE UNIQUE INDEX outcomes_seq ON outcomes (tenant, seq) WHERE seq IS NOT NULL;

CREATE TABLE nonces (
  nonce   BYTES NOT NULL PRIMARY KEY,
  request BYTES NOT NULL,
  at      INT NOT NULL,
  expiry  INT NOT NULL
) TABLE_END;
CREATE INDEX nonces_expiry ON nonces (expiry);

CREATE TABLE kept (
  id     NAME NOT NULL PRIMARY KEY,
  value  BYTES NOT NULL, -- sealed by the Cipher
  expiry INT NOT NULL
) TABLE_END;
CREATE INDEX kept_expiry ON kept (expiry);

CREATE TABLE entries (
  tenant     NAME NOT NULL,
  chain      NAME NOT NULL,
  seq        INT NOT NULL,
  generation INT NOT NULL, -- of the database
  time       INT NOT NULL, -- milliseconds since 1970
  kind       NAME NOT NULL,
  body       BYTES NOT NULL,
  previous   BYTES NOT NULL,
  hash       BYTES NOT NULL,
  PRIMARY KEY (tenant, chain, seq)
) TABLE_END;

CREATE TABLE heads (
  tenant NAME NOT NULL,
  chain  NAME NOT NULL,
  seq    INT NOT NULL,
  time   INT NOT NULL,
  hash   BYTES NOT NULL,
  minute INT NOT NULL, -- since 1970, in which count entries were added
  count  INT NOT NULL,
  mac    BYTES,
  PRIMARY KEY (tenant, chain)
) TABLE_END;
`, `
CREATE TABLE epochs ( -- section 7 of the protocol; for ever
  tenant   NAME NOT NULL,
  instance BYTES NOT NULL,
  purpose  NAME NOT NULL,
  state    BYTES NOT NULL, -- JSON of an epoch.Row
  mac      BYTES,
  PRIMARY KEY (tenant, instance, purpose)
) TABLE_END;

CREATE TABLE epoch_blobs ( -- of the last numbers given
  tenant   NAME NOT NULL,
  instance BYTES NOT NULL,
  purpose  NAME NOT NULL,
  epoch    INT NOT NULL,
  digest   BYTES NOT NULL,
  wrapped  BYTES,
  mac      BYTES,
  PRIMARY KEY (tenant, instance, purpose, epoch)
) TABLE_END;

ALTER TABLE slots ADD COLUMN closed INT NOT NULL DEFAULT 0;    -- a release was superseded
ALTER TABLE releases ADD COLUMN closed INT NOT NULL DEFAULT 0; -- its slot is
ALTER TABLE releases ADD COLUMN epoch BYTES;                   -- JSON of a teebroker.Epoch
ALTER TABLE releases ADD COLUMN confirmed BYTES;               -- receipt of the last confirm
CREATE INDEX releases_by_id ON releases (id);
`, `
CREATE TABLE checkpoints ( -- the newest that any process made, of each chain
  tenant     NAME NOT NULL,
  chain      NAME NOT NULL,
  generation INT NOT NULL,
  seq        INT NOT NULL,
  token      BYTES NOT NULL, -- as it was signed
  PRIMARY KEY (tenant, chain)
) TABLE_END;
`, `
CREATE TABLE identities ( -- of the EKs of TPMs; for ever
  tenant   NAME NOT NULL,
  ek       BYTES NOT NULL, -- SHA-256 of its public area
  instance BYTES NOT NULL,
  state    NAME NOT NULL, -- store.IdentityState
  made     INT NOT NULL,
  agent    NAME, -- that registered
  agent_id NAME, -- hash_ek
  body     BYTES NOT NULL, -- JSON of a store.Identity
  mac      BYTES,
  PRIMARY KEY (tenant, ek)
) TABLE_END;
CREATE INDEX identities_ek ON identities (ek);
CREATE INDEX identities_instance ON identities (tenant, instance);
CREATE UNIQUE INDEX identities_agent ON identities (tenant, agent) WHERE agent IS NOT NULL;
CREATE INDEX identities_agent_id ON identities (tenant, agent_id) WHERE agent_id IS NOT NULL;
`, `
ALTER TABLE releases ADD COLUMN pcr BYTES; -- what a PCR has that shows it: of purposes with epochs
CREATE INDEX releases_by_pcr ON releases (pcr) WHERE pcr IS NOT NULL;
`, `
CREATE TABLE order_ids ( -- that were used; for ever
  tenant NAME NOT NULL,
  id     BYTES NOT NULL,
  PRIMARY KEY (tenant, id)
) TABLE_END;

CREATE TABLE orders ( -- section 6 of the protocol; signed, so that they need no MAC
  tenant   NAME NOT NULL,
  instance BYTES NOT NULL, -- zeros for policies
  subject  NAME NOT NULL,  -- what it is for, see store.SubjectRegistration
  token    BYTES NOT NULL,
  body     BYTES,
  PRIMARY KEY (tenant, instance, subject)
) TABLE_END;
`, `
ALTER TABLE clock ADD COLUMN generation INT NOT NULL DEFAULT 0; -- of the database
ALTER TABLE clock ADD COLUMN mac BYTES;
ALTER TABLE meta ADD COLUMN mac BYTES;
ALTER TABLE tokens ADD COLUMN mac BYTES;
ALTER TABLE policies ADD COLUMN content BYTES;  -- SHA-256 of document
ALTER TABLE instances ADD COLUMN policy BYTES;  -- teebroker.PolicyDigest
ALTER TABLE instances ADD COLUMN parts BYTES;   -- JSON: its purposes, and the generation of each
ALTER TABLE instances ADD COLUMN content BYTES; -- SHA-256 of registration
DROP TABLE instance_policies;                   -- registration says it
ALTER TABLE launch_claims ADD COLUMN mac BYTES;
ALTER TABLE purposes ADD COLUMN generation INT NOT NULL DEFAULT 0; -- of the instance
ALTER TABLE purposes ADD COLUMN content BYTES; -- digest of secret and wrapped
ALTER TABLE authorizations ADD COLUMN version INT NOT NULL DEFAULT 1;
ALTER TABLE authorizations ADD COLUMN era INT NOT NULL DEFAULT 1; -- generation of the database
ALTER TABLE releases DROP COLUMN closed;       -- its slot has it
ALTER TABLE outcomes ADD COLUMN mac BYTES;
ALTER TABLE entries ADD COLUMN mac BYTES;
ALTER TABLE heads ADD COLUMN generation INT NOT NULL DEFAULT 1;
ALTER TABLE epochs ADD COLUMN version INT NOT NULL DEFAULT 1;
ALTER TABLE epochs ADD COLUMN era INT NOT NULL DEFAULT 1;
DELETE FROM kept; -- sealed for more than their id now
`}

// firstWithMACs is the version of the schema from which on rows have MACs.
const firstWithMACs = 7
