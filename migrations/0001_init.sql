-- +goose Up

-- Identifiers of what grows without end are UUIDv7: they carry their time, so
-- tables are partitioned by them and purged by dropping partitions.

-- +goose StatementBegin
CREATE FUNCTION uuid7_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;
-- +goose StatementEnd

-- one_row ends the transaction unless a statement changed exactly one row: a
-- compare-and-set that finds its row in another state takes everything with it
-- back, without a round trip between the check and the commit.
-- +goose StatementBegin
CREATE FUNCTION one_row(n bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  IF n <> 1 THEN
    RAISE EXCEPTION USING ERRCODE = 'SG001', MESSAGE = 'no row in the expected state';
  END IF;
  RETURN true;
END $$;
-- +goose StatementEnd

-- ensure_partitions makes the daily partitions of every growing table from
-- yesterday up to days_ahead from now. It is safe to call at any time, from
-- several nodes at once.
-- +goose StatementBegin
CREATE FUNCTION ensure_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  parent text;
  day    date;
  child  text;
  made   integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('sealgate.ensure_partitions'));
  FOREACH parent IN ARRAY ARRAY['orders', 'approvals', 'signing_authorizations', 'signatures', 'access_tokens', 'audit_entries'] LOOP
    FOR i IN -1..days_ahead LOOP
      day := (now() AT TIME ZONE 'UTC')::date + i;
      child := parent || '_p' || to_char(day, 'YYYYMMDD');
      IF to_regclass(format('%I.%I', current_schema(), child)) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
          uuid7_floor(day::timestamp AT TIME ZONE 'UTC'),
          uuid7_floor((day + 1)::timestamp AT TIME ZONE 'UTC'));
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
-- +goose StatementEnd

----------------------------------------------------------------------- agency
CREATE TABLE agencies (
  id         uuid PRIMARY KEY,
  code       text NOT NULL UNIQUE CHECK (code ~ '^[A-Za-z0-9._-]{1,64}$'),
  name_zh    text NOT NULL CHECK (length(name_zh) BETWEEN 1 AND 100),
  name_en    text NOT NULL CHECK (length(name_en) BETWEEN 1 AND 200),
  sector     text NOT NULL DEFAULT 'public' CHECK (sector IN ('public', 'private')),
  state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE clients (
  id                         uuid PRIMARY KEY,
  client_id                  text NOT NULL UNIQUE CHECK (client_id ~ '^[A-Za-z0-9._-]{1,128}$'),
  agency_id                  uuid NOT NULL REFERENCES agencies (id),
  name_zh                    text NOT NULL CHECK (length(name_zh) BETWEEN 1 AND 100),
  name_en                    text NOT NULL CHECK (length(name_en) BETWEEN 1 AND 200),
  host                       text NOT NULL DEFAULT '',
  token_endpoint_auth_method text NOT NULL CHECK (token_endpoint_auth_method IN
                               ('none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt')),
  secret_mac                 bytea CHECK (octet_length(secret_mac) = 32),
  jwks                       jsonb,
  redirect_uris              text[] NOT NULL DEFAULT '{}',
  post_logout_redirect_uris  text[] NOT NULL DEFAULT '{}',
  return_uris                text[] NOT NULL DEFAULT '{}',
  grant_types                text[] NOT NULL DEFAULT '{authorization_code}',
  scopes                     text[] NOT NULL DEFAULT '{openid}',
  sector_identifier          text NOT NULL,
  subject_type               text NOT NULL DEFAULT 'pairwise' CHECK (subject_type = 'pairwise'),
  minimum_acr                text NOT NULL DEFAULT '',
  maximum_frame_age          interval,
  state                      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
  built_in                   boolean NOT NULL DEFAULT false,
  created_at                 timestamptz NOT NULL DEFAULT now(),
  CHECK ((secret_mac IS NOT NULL) = (token_endpoint_auth_method LIKE 'client_secret%'))
);
CREATE INDEX clients_agency ON clients (agency_id);

---------------------------------------------------------------------- citizen
-- The national ID is kept as a keyed hash (to look up) and sealed (to release
-- to clients that may have it). Names are sealed too.
CREATE TABLE citizens (
  id                  uuid PRIMARY KEY,
  national_id_mac     bytea NOT NULL UNIQUE CHECK (octet_length(national_id_mac) = 32),
  national_id_sealed  bytea NOT NULL,
  name_sealed         bytea NOT NULL,
  subject_serial      text NOT NULL UNIQUE CHECK (subject_serial ~ '^[0-9]{16}$'),
  user_handle         bytea NOT NULL UNIQUE CHECK (octet_length(user_handle) = 32),
  state               text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'frozen', 'closed')),
  created_at          timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE citizen_certificates (
  id           uuid PRIMARY KEY,
  citizen_id   uuid NOT NULL REFERENCES citizens (id),
  fingerprint  bytea NOT NULL UNIQUE CHECK (octet_length(fingerprint) = 32),
  der          bytea NOT NULL,
  card_number  text NOT NULL DEFAULT '',
  not_before   timestamptz NOT NULL,
  not_after    timestamptz NOT NULL,
  state        text NOT NULL DEFAULT 'good' CHECK (state IN ('good', 'revoked', 'expired', 'superseded')),
  checked_at   timestamptz NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX citizen_certificates_citizen ON citizen_certificates (citizen_id);

-- A device is one WebAuthn credential bound to a citizen.
CREATE TABLE devices (
  id                     uuid PRIMARY KEY,
  citizen_id             uuid NOT NULL REFERENCES citizens (id),
  citizen_certificate_id uuid NOT NULL REFERENCES citizen_certificates (id),
  enrolment_id           uuid NOT NULL UNIQUE,
  credential_id          bytea NOT NULL UNIQUE CHECK (octet_length(credential_id) BETWEEN 16 AND 1023),
  cose_key               bytea NOT NULL,
  cose_algorithm         integer NOT NULL,
  user_handle            bytea NOT NULL,
  sign_count             bigint NOT NULL DEFAULT 0 CHECK (sign_count >= 0),
  aaguid                 uuid NOT NULL,
  transports             text[] NOT NULL DEFAULT '{}',
  backup_eligible        boolean NOT NULL,
  backup_state           boolean NOT NULL,
  attestation_format     text NOT NULL,
  attested               boolean NOT NULL DEFAULT false,
  name                   text NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
  state                  text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'removed')),
  state_reason           text NOT NULL DEFAULT '',
  created_at             timestamptz NOT NULL DEFAULT now(),
  last_used_at           timestamptz
);
CREATE INDEX devices_citizen ON devices (citizen_id);

------------------------------------------------------------------- keys, CA
-- sealed is AES-256-GCM under the master key named by master_key_id; the
-- additional data is the row's id and purpose, so rows cannot be swapped.
CREATE TABLE keys (
  id             uuid PRIMARY KEY,
  purpose        text NOT NULL,
  algorithm      text NOT NULL,
  public_key     bytea,
  sealed         bytea,
  master_key_id  text NOT NULL DEFAULT '',
  provider       text NOT NULL DEFAULT 'sealed' CHECK (provider IN ('sealed', 'pkcs11')),
  handle         text NOT NULL DEFAULT '',
  state          text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired', 'destroyed')),
  created_at     timestamptz NOT NULL DEFAULT now(),
  retired_at     timestamptz,
  CHECK ((provider = 'sealed') = (sealed IS NOT NULL) OR state = 'destroyed')
);
-- Citizens' keys are found by id; only the few service keys by purpose.
CREATE INDEX keys_purpose ON keys (purpose, created_at DESC) WHERE purpose <> 'mobile';
-- One active key of each single-purpose kind, whichever node made it first.
CREATE UNIQUE INDEX keys_single ON keys (purpose)
  WHERE state = 'active' AND purpose LIKE 'secret:%';

CREATE TABLE authorities (
  name         text PRIMARY KEY,          -- root, issuing, ocsp, tsa
  key_id       uuid NOT NULL REFERENCES keys (id),
  certificate  bytea NOT NULL,
  issuer       text NOT NULL DEFAULT '',
  created_at   timestamptz NOT NULL DEFAULT now()
);

-- The register of what the issuing CA has issued: CRL and OCSP answer from it.
CREATE TABLE mobile_certificates (
  id           uuid PRIMARY KEY,
  serial       bytea NOT NULL UNIQUE CHECK (octet_length(serial) BETWEEN 1 AND 20),
  citizen_id   uuid NOT NULL REFERENCES citizens (id),
  device_id    uuid NOT NULL REFERENCES devices (id),
  key_id       uuid NOT NULL REFERENCES keys (id),
  authority    text NOT NULL REFERENCES authorities (name),
  der          bytea NOT NULL,
  not_before   timestamptz NOT NULL,
  not_after    timestamptz NOT NULL,
  state        text NOT NULL DEFAULT 'good' CHECK (state IN ('good', 'revoked', 'held')),
  revoked_at   timestamptz,
  reason       smallint,
  created_at   timestamptz NOT NULL DEFAULT now(),
  CHECK ((state = 'good') = (revoked_at IS NULL))
);
CREATE INDEX mobile_certificates_device ON mobile_certificates (device_id, not_after DESC);
CREATE INDEX mobile_certificates_revoked ON mobile_certificates (revoked_at) WHERE revoked_at IS NOT NULL;

----------------------------------------------------------------------- orders
CREATE TABLE orders (
  id                 uuid NOT NULL,
  kind               text NOT NULL CHECK (kind IN ('login', 'sign', 'enrol')),
  state              text NOT NULL DEFAULT 'created' CHECK (state IN
                       ('created', 'scanned', 'approved', 'completed', 'rejected', 'expired', 'cancelled', 'failed')),
  client_id          uuid NOT NULL,
  content            bytea NOT NULL,
  request            jsonb,
  return_uri         text NOT NULL DEFAULT '',
  qr_secret          bytea NOT NULL CHECK (octet_length(qr_secret) = 32),
  browser_hash       bytea CHECK (octet_length(browser_hash) = 32),
  start_hash         bytea CHECK (octet_length(start_hash) = 32),
  subject_citizen_id uuid,
  started            jsonb NOT NULL DEFAULT '{}',
  created_at         timestamptz NOT NULL,
  expires_at         timestamptz NOT NULL,
  final_expires_at   timestamptz NOT NULL,
  extended           integer NOT NULL DEFAULT 0,
  frozen_step        integer,
  frozen_at          timestamptz,
  code_mac           bytea CHECK (octet_length(code_mac) = 32),
  code_expires_at    timestamptz,
  -- the phone that claimed it
  claim_hash         bytea CHECK (octet_length(claim_hash) = 32),
  claim_source       text CHECK (claim_source IN ('scanner', 'link', 'frozen', 'code', 'same_device', 'hybrid')),
  claimed            jsonb,
  scanned_at         timestamptz,
  check_digits       text CHECK (check_digits ~ '^[0-9]{2}$'),
  check_tries        integer NOT NULL DEFAULT 0,
  check_passed_at    timestamptz,
  -- the approval
  citizen_id         uuid,
  device_id          uuid,
  acr                text NOT NULL DEFAULT '',
  left_out           integer[] NOT NULL DEFAULT '{}',
  approved_at        timestamptz,
  -- the end
  completed_at       timestamptz,
  ended_at           timestamptz,
  end_reason         text NOT NULL DEFAULT '',
  attempts           integer NOT NULL DEFAULT 0,
  next_attempt_at    timestamptz,
  PRIMARY KEY (id),
  CHECK (expires_at <= final_expires_at),
  CHECK ((scanned_at IS NOT NULL) = (claim_hash IS NOT NULL)),
  CHECK (state NOT IN ('scanned', 'approved', 'completed') OR scanned_at IS NOT NULL),
  CHECK ((approved_at IS NOT NULL) = (state IN ('approved', 'completed') OR (state = 'failed' AND approved_at IS NOT NULL))),
  CHECK (kind = 'enrol' OR (citizen_id IS NOT NULL) = (approved_at IS NOT NULL)),
  CHECK ((completed_at IS NOT NULL) = (state = 'completed')),
  CHECK ((ended_at IS NOT NULL) = (state IN ('completed', 'rejected', 'expired', 'cancelled', 'failed')))
) PARTITION BY RANGE (id);
-- Claiming by typed code; sweeping what has run out; finishing what is approved; a citizen's history.
CREATE INDEX orders_code ON orders (code_mac) WHERE code_mac IS NOT NULL AND state = 'created';
CREATE INDEX orders_open ON orders (expires_at) WHERE state IN ('created', 'scanned');
CREATE INDEX orders_unfinished ON orders (approved_at) WHERE state = 'approved' AND kind = 'sign';
CREATE INDEX orders_citizen ON orders (citizen_id, id DESC) WHERE citizen_id IS NOT NULL;

-- The evidence of an approval: enough to check the assertion again offline.
CREATE TABLE approvals (
  order_id           uuid NOT NULL,
  citizen_id         uuid NOT NULL,
  device_id          uuid NOT NULL,
  credential_id      bytea NOT NULL,
  cose_key           bytea NOT NULL,
  content            bytea NOT NULL,
  left_out           integer[] NOT NULL DEFAULT '{}',
  authenticator_data bytea NOT NULL,
  client_data_json   bytea NOT NULL,
  signature          bytea NOT NULL,
  rp_id              text NOT NULL,
  acr                text NOT NULL,
  approved_at        timestamptz NOT NULL,
  PRIMARY KEY (order_id)
) PARTITION BY RANGE (order_id);
CREATE INDEX approvals_citizen ON approvals (citizen_id, order_id DESC);

-- One row lets one key sign exactly the digests that one approval covered, once.
CREATE TABLE signing_authorizations (
  order_id     uuid NOT NULL,
  citizen_id   uuid NOT NULL,
  device_id    uuid NOT NULL,
  mobile_certificate_id uuid NOT NULL,
  key_id       uuid NOT NULL,
  digests_hash bytea NOT NULL CHECK (octet_length(digests_hash) = 32),
  created_at   timestamptz NOT NULL,
  consumed_at  timestamptz,
  PRIMARY KEY (order_id)
) PARTITION BY RANGE (order_id);

CREATE TABLE signatures (
  order_id              uuid NOT NULL,
  document              integer NOT NULL CHECK (document >= 0),
  mobile_certificate_id uuid NOT NULL,
  form                  text NOT NULL CHECK (form IN ('cms')),
  der                   bytea NOT NULL,
  created_at            timestamptz NOT NULL,
  PRIMARY KEY (order_id, document)
) PARTITION BY RANGE (order_id);

------------------------------------------------------------------- enrolments
-- What an enrol order gathers on its way; personal values are sealed.
CREATE TABLE enrolments (
  order_id            uuid PRIMARY KEY,
  national_id_mac     bytea NOT NULL CHECK (octet_length(national_id_mac) = 32),
  national_id_sealed  bytea NOT NULL,
  name_sealed         bytea NOT NULL,
  subject_serial      text NOT NULL,
  user_handle         bytea NOT NULL CHECK (octet_length(user_handle) = 32),
  certificate         bytea NOT NULL,
  certificate_fingerprint bytea NOT NULL CHECK (octet_length(certificate_fingerprint) = 32),
  card_number         text NOT NULL DEFAULT '',
  credential          jsonb,
  attestation         bytea,
  client_data_json    bytea,
  device_name         text NOT NULL DEFAULT '',
  statement           bytea,
  proof               bytea,
  revocation          bytea,
  created_at          timestamptz NOT NULL,
  completed_at        timestamptz
);

-------------------------------------------------------------------------- oidc
CREATE TABLE access_tokens (
  id          uuid NOT NULL,
  client_id   uuid NOT NULL,
  order_id    uuid,
  citizen_id  uuid,
  subject     text NOT NULL,
  scopes      text[] NOT NULL,
  created_at  timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL,
  revoked_at  timestamptz,
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX access_tokens_order ON access_tokens (order_id) WHERE order_id IS NOT NULL;

-- Challenges of phone sessions that were used: the primary key makes a second use impossible.
CREATE TABLE used_challenges (
  challenge  bytea PRIMARY KEY CHECK (octet_length(challenge) = 32),
  expires_at timestamptz NOT NULL
);
CREATE INDEX used_challenges_expiry ON used_challenges (expires_at);

------------------------------------------------------------------------- audit
CREATE TABLE audit_entries (
  id          uuid NOT NULL,
  at          timestamptz NOT NULL,
  act         text NOT NULL,
  result      text NOT NULL DEFAULT 'ok',
  actor_kind  text NOT NULL,
  actor       text NOT NULL DEFAULT '',
  citizen_id  uuid,
  device_id   uuid,
  client_id   uuid,
  order_id    uuid,
  ip          inet,
  detail      jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX audit_entries_order ON audit_entries (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX audit_entries_citizen ON audit_entries (citizen_id, id DESC) WHERE citizen_id IS NOT NULL;

SELECT ensure_partitions(7);

-- +goose Down
DROP TABLE audit_entries, used_challenges, access_tokens, enrolments, signatures, signing_authorizations, approvals, orders,
  mobile_certificates, authorities, keys, devices, citizen_certificates, citizens, clients, agencies;
DROP FUNCTION ensure_partitions(integer);
DROP FUNCTION one_row(bigint);
DROP FUNCTION uuid7_floor(timestamptz);
