-- +goose Up

-- The life of a device after it was bound: who stopped it and when, who added
-- it, and until when it is new and trusted less.
ALTER TABLE devices
  ADD COLUMN state_changed_at   timestamptz,
  ADD COLUMN added_by_device_id uuid REFERENCES devices (id),
  ADD COLUMN cooldown_until     timestamptz;

-- A renewed certificate stays good until its own end: what it signed stays
-- valid, but nothing new is signed with it.
ALTER TABLE mobile_certificates
  ADD COLUMN superseded_at timestamptz;

-- An enrolment that a bound phone began, and not a card.
ALTER TABLE enrolments
  ADD COLUMN by_device_id uuid REFERENCES devices (id);

-- The sweep reads the certificates that were not looked at for longest.
CREATE INDEX citizen_certificates_checked ON citizen_certificates (checked_at) WHERE state = 'good';

-- What a person must learn on each of their phones the next time they open it.
CREATE TABLE device_notices (
  id         uuid PRIMARY KEY,
  citizen_id uuid NOT NULL REFERENCES citizens (id),
  device_id  uuid NOT NULL REFERENCES devices (id), -- who is told
  about_id   uuid NOT NULL REFERENCES devices (id), -- what it is about
  kind       text NOT NULL CHECK (kind ~ '^[a-z_]{1,40}$'),
  created_at timestamptz NOT NULL,
  seen_at    timestamptz
);
CREATE INDEX device_notices_open ON device_notices (device_id, id DESC) WHERE seen_at IS NULL;

-- What a card or a phone signed about devices, apart from binding: a loss, its
-- taking back, a renewal. Kept as evidence, used once.
CREATE TABLE device_statements (
  id           uuid PRIMARY KEY,
  purpose      text NOT NULL CHECK (purpose IN ('report-loss', 'undo-loss', 'renew-certificate')),
  citizen_id   uuid NOT NULL REFERENCES citizens (id),
  device_id    uuid REFERENCES devices (id),
  browser_hash bytea CHECK (octet_length(browser_hash) = 32),
  certificate  bytea,
  card_number  text NOT NULL DEFAULT '',
  statement    bytea NOT NULL,
  proof        bytea,
  revocation   bytea,
  code         text NOT NULL DEFAULT '',
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  completed_at timestamptz,
  CHECK ((proof IS NOT NULL) = (completed_at IS NOT NULL))
);
CREATE INDEX device_statements_citizen ON device_statements (citizen_id, id DESC);

-- +goose Down
DROP TABLE device_statements, device_notices;
DROP INDEX citizen_certificates_checked;
ALTER TABLE enrolments DROP COLUMN by_device_id;
ALTER TABLE mobile_certificates DROP COLUMN superseded_at;
ALTER TABLE devices DROP COLUMN state_changed_at, DROP COLUMN added_by_device_id, DROP COLUMN cooldown_until;
