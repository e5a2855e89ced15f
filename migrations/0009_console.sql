-- +goose Up

-- The people who may use the console. Removed ones stay: what they did names them.
CREATE TABLE administrators (
  id          uuid PRIMARY KEY,
  name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
  roles       text[] NOT NULL CHECK (cardinality(roles) > 0
                AND roles <@ ARRAY['registrar', 'support', 'security_officer', 'auditor']),
  user_handle bytea NOT NULL UNIQUE CHECK (octet_length(user_handle) = 32),
  invited_by  uuid REFERENCES administrators (id),
  created_at  timestamptz NOT NULL,
  removed_at  timestamptz
);

-- Their passkeys: never a citizen's device, whatever the relying party.
CREATE TABLE administrator_passkeys (
  credential_id      bytea PRIMARY KEY CHECK (octet_length(credential_id) BETWEEN 16 AND 1023),
  administrator_id   uuid NOT NULL REFERENCES administrators (id),
  cose_key           bytea NOT NULL,
  cose_algorithm     integer NOT NULL,
  sign_count         bigint NOT NULL DEFAULT 0 CHECK (sign_count >= 0),
  aaguid             uuid NOT NULL,
  transports         text[] NOT NULL DEFAULT '{}',
  backup_eligible    boolean NOT NULL,
  backup_state       boolean NOT NULL,
  attestation_format text NOT NULL,
  attested           boolean NOT NULL DEFAULT false,
  name               text NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
  created_at         timestamptz NOT NULL,
  last_used_at       timestamptz
);
CREATE INDEX administrator_passkeys_whose ON administrator_passkeys (administrator_id);

-- One-time links. Only the hash of a link's secret is kept.
CREATE TABLE administrator_invites (
  token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
  kind       text NOT NULL CHECK (kind IN ('first', 'operator', 'console')),
  name       text NOT NULL DEFAULT '',
  roles      text[] NOT NULL CHECK (cardinality(roles) > 0),
  invited_by uuid REFERENCES administrators (id),
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  used_at    timestamptz,
  used_by    uuid REFERENCES administrators (id),
  CHECK ((used_at IS NULL) = (used_by IS NULL)),
  CHECK ((kind = 'console') = (invited_by IS NOT NULL))
);

CREATE TABLE administrator_sessions (
  token_hash       bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
  browser_hash     bytea NOT NULL CHECK (octet_length(browser_hash) = 32),
  administrator_id uuid NOT NULL REFERENCES administrators (id),
  credential_id    bytea NOT NULL REFERENCES administrator_passkeys (credential_id),
  created_at       timestamptz NOT NULL,
  seen_at          timestamptz NOT NULL,
  ends_at          timestamptz NOT NULL,
  ended_at         timestamptz
);
CREATE INDEX administrator_sessions_whose ON administrator_sessions (administrator_id) WHERE ended_at IS NULL;

-- Assertions of administrators over statements: evidence, never changed.
CREATE TABLE administrator_approvals (
  id                 uuid PRIMARY KEY,
  administrator_id   uuid NOT NULL REFERENCES administrators (id),
  credential_id      bytea NOT NULL,
  cose_key           bytea NOT NULL,
  step               text NOT NULL CHECK (step IN ('act', 'propose', 'confirm')),
  purpose            text NOT NULL,
  statement          bytea NOT NULL,
  nonce              bytea NOT NULL CHECK (octet_length(nonce) = 32),
  authenticator_data bytea NOT NULL,
  client_data_json   bytea NOT NULL,
  signature          bytea NOT NULL,
  rp_id              text NOT NULL,
  approved_at        timestamptz NOT NULL
);
CREATE INDEX administrator_approvals_whose ON administrator_approvals (administrator_id, id DESC);

-- What one administrator proposed and another has to confirm. The row's own
-- rules say that it takes two.
CREATE TABLE two_person_acts (
  id              uuid PRIMARY KEY,
  kind            text NOT NULL,
  statement       bytea NOT NULL,
  reason          text NOT NULL CHECK (length(reason) <= 300),
  citizen_id      uuid REFERENCES citizens (id),
  order_id        uuid,
  digits          text CHECK (digits ~ '^[0-9]{2}$'),
  tries           integer NOT NULL DEFAULT 0,
  state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'confirmed', 'refused', 'withdrawn')),
  proposer_id     uuid NOT NULL REFERENCES administrators (id),
  proposal_id     uuid NOT NULL UNIQUE REFERENCES administrator_approvals (id),
  decided_by      uuid REFERENCES administrators (id),
  confirmation_id uuid UNIQUE REFERENCES administrator_approvals (id),
  created_at      timestamptz NOT NULL,
  expires_at      timestamptz NOT NULL,
  decided_at      timestamptz,
  CHECK ((state = 'confirmed') = (confirmation_id IS NOT NULL)),
  CHECK ((state = 'waiting') = (decided_at IS NULL)),
  CHECK (state <> 'confirmed' OR decided_by <> proposer_id),
  CHECK (proposal_id <> confirmation_id)
);
CREATE INDEX two_person_acts_waiting ON two_person_acts (expires_at) WHERE state = 'waiting';
CREATE INDEX two_person_acts_decided ON two_person_acts (decided_at) WHERE decided_at IS NOT NULL;
-- One proposal about an order at a time.
CREATE UNIQUE INDEX two_person_acts_order ON two_person_acts (order_id) WHERE order_id IS NOT NULL AND state IN ('waiting', 'confirmed');

-- The desk finds a person by a certificate's serial number through its unique index.

-- +goose Down
DROP TABLE two_person_acts, administrator_approvals, administrator_sessions, administrator_invites, administrator_passkeys, administrators;
