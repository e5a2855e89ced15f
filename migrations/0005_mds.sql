-- +goose Up

-- The last good FIDO metadata BLOB, one row: every node and every restart has
-- it, whatever the Internet does. number only grows.
CREATE TABLE mds_blob (
  only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  number      bigint NOT NULL CHECK (number > 0),
  next_update date NOT NULL,
  raw         bytea NOT NULL,
  source      text NOT NULL CHECK (source IN ('file', 'url', 'operator')),
  accepted_at timestamptz NOT NULL
);

-- The job that looks at bound models again walks them model by model.
CREATE INDEX devices_model ON devices (aaguid, id) WHERE state = 'active';
-- U2F has no AAGUID; nor have many phones that say nothing of their model.
CREATE INDEX devices_u2f ON devices (id) WHERE state = 'active' AND attestation_format = 'fido-u2f';

-- What a client makes of passkeys that are copied between devices. It can only
-- be stricter than the deployment (passkey.synced_passkeys).
ALTER TABLE clients ADD COLUMN synced_passkeys text NOT NULL DEFAULT 'inherit'
  CHECK (synced_passkeys IN ('inherit', 'allowed', 'lower_acr', 'refused'));

-- +goose Down
ALTER TABLE clients DROP COLUMN synced_passkeys;
DROP INDEX devices_u2f, devices_model;
DROP TABLE mds_blob;
