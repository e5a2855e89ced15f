-- +goose Up

-- A key that signs nothing new is destroyed after this time: the keys of renewed
-- certificates and of replaced authorities.
ALTER TABLE keys ADD COLUMN destroy_after timestamptz;
CREATE INDEX keys_destroy ON keys (destroy_after) WHERE destroy_after IS NOT NULL;

-- The days before its end at which the holder was last told, so that each
-- notice is made once; and what a daily look for such certificates reads.
ALTER TABLE mobile_certificates ADD COLUMN warned_days smallint;
CREATE INDEX mobile_certificates_end ON mobile_certificates (not_after) WHERE state = 'good' AND superseded_at IS NULL;

-- A renewal names the certificate that it replaces and the one that came of it.
ALTER TABLE device_statements
  ADD COLUMN old_certificate_id uuid REFERENCES mobile_certificates (id),
  ADD COLUMN new_certificate_id uuid REFERENCES mobile_certificates (id),
  ADD CONSTRAINT device_statements_renewal CHECK (purpose <> 'renew-certificate' OR
    (device_id IS NOT NULL AND old_certificate_id IS NOT NULL AND (new_certificate_id IS NOT NULL) = (completed_at IS NOT NULL)));
CREATE INDEX device_statements_device ON device_statements (device_id) WHERE device_id IS NOT NULL;
-- What was begun and never finished is purged.
CREATE INDEX device_statements_open ON device_statements (expires_at) WHERE completed_at IS NULL;
CREATE INDEX enrolments_open ON enrolments (created_at) WHERE completed_at IS NULL;

-- Certificates of our own authorities that newer ones have replaced. What they
-- signed is still verified with them, and OCSP still answers for them.
CREATE TABLE replaced_authorities (
  key_id      uuid PRIMARY KEY REFERENCES keys (id),
  name        text NOT NULL,
  certificate bytea NOT NULL,
  issuer      text NOT NULL,
  created_at  timestamptz NOT NULL,
  replaced_at timestamptz NOT NULL
);

-- +goose Down
DROP TABLE replaced_authorities;
DROP INDEX enrolments_open, device_statements_open, device_statements_device;
ALTER TABLE device_statements DROP CONSTRAINT device_statements_renewal, DROP COLUMN new_certificate_id, DROP COLUMN old_certificate_id;
DROP INDEX mobile_certificates_end;
ALTER TABLE mobile_certificates DROP COLUMN warned_days;
DROP INDEX keys_destroy;
ALTER TABLE keys DROP COLUMN destroy_after;
