-- +goose Up

-- An authority of somebody else has no key here. Its chain is what goes along
-- with a signature: issuing CA first, anchor last.
ALTER TABLE authorities
  ALTER COLUMN key_id DROP NOT NULL,
  ADD COLUMN chain bytea[],
  ADD CONSTRAINT authorities_kind CHECK ((key_id IS NULL) = (chain IS NOT NULL)),
  ADD CONSTRAINT authorities_outside CHECK ((name LIKE 'outside:%') = (chain IS NOT NULL));

-- A serial number is unique for one issuer (RFC 5280 §4.1.2.2), not for all.
-- reported_*: what an outside CA has been told of the certificate's state.
ALTER TABLE mobile_certificates
  DROP CONSTRAINT mobile_certificates_serial_key,
  ADD CONSTRAINT mobile_certificates_serial UNIQUE (serial, authority),
  ADD COLUMN reported_state  text NOT NULL DEFAULT 'good' CHECK (reported_state IN ('good', 'revoked', 'held')),
  ADD COLUMN reported_reason smallint,
  ADD COLUMN reported_at     timestamptz;
CREATE INDEX mobile_certificates_unreported ON mobile_certificates (id)
  WHERE authority LIKE 'outside:%' AND (state <> reported_state OR coalesce(reason, -1) <> coalesce(reported_reason, -1));

-- What an outside CA is asked for: one row a key. The phone is bound meanwhile.
CREATE TABLE certificate_requests (
  id              uuid PRIMARY KEY,
  citizen_id      uuid NOT NULL REFERENCES citizens (id),
  device_id       uuid NOT NULL REFERENCES devices (id),
  key_id          uuid NOT NULL UNIQUE REFERENCES keys (id),
  key_hash        bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32), -- SHA-256 of SubjectPublicKeyInfo
  renews_id       uuid REFERENCES mobile_certificates (id),
  request         bytea NOT NULL, -- PKCS #10, DER
  state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'issued', 'refused')),
  attempts        integer NOT NULL DEFAULT 0,
  next_attempt_at timestamptz NOT NULL,
  last_error      text NOT NULL DEFAULT '' CHECK (last_error ~ '^[a-z0-9_]{0,64}$'),
  certificate_id  uuid REFERENCES mobile_certificates (id),
  created_at      timestamptz NOT NULL,
  ended_at        timestamptz,
  CHECK ((state = 'waiting') = (ended_at IS NULL)),
  CHECK ((state = 'issued') = (certificate_id IS NOT NULL))
);
CREATE INDEX certificate_requests_due ON certificate_requests (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX certificate_requests_device ON certificate_requests (device_id);
CREATE UNIQUE INDEX certificate_requests_waiting ON certificate_requests (device_id) WHERE state = 'waiting';

-- A renewal may end with a request; the certificate follows.
ALTER TABLE device_statements
  DROP CONSTRAINT device_statements_renewal,
  ADD COLUMN new_request_id uuid REFERENCES certificate_requests (id),
  ADD CONSTRAINT device_statements_renewal CHECK (purpose <> 'renew-certificate' OR
    (device_id IS NOT NULL AND old_certificate_id IS NOT NULL AND
     (new_certificate_id IS NOT NULL OR new_request_id IS NOT NULL) = (completed_at IS NOT NULL)));
CREATE INDEX device_statements_request ON device_statements (new_request_id) WHERE new_request_id IS NOT NULL;

-- +goose Down
DROP INDEX device_statements_request;
ALTER TABLE device_statements DROP CONSTRAINT device_statements_renewal, DROP COLUMN new_request_id,
  ADD CONSTRAINT device_statements_renewal CHECK (purpose <> 'renew-certificate' OR
    (device_id IS NOT NULL AND old_certificate_id IS NOT NULL AND (new_certificate_id IS NOT NULL) = (completed_at IS NOT NULL)));
DROP TABLE certificate_requests;
DROP INDEX mobile_certificates_unreported;
ALTER TABLE mobile_certificates
  DROP COLUMN reported_at, DROP COLUMN reported_reason, DROP COLUMN reported_state,
  DROP CONSTRAINT mobile_certificates_serial,
  ADD CONSTRAINT mobile_certificates_serial_key UNIQUE (serial);
ALTER TABLE authorities DROP CONSTRAINT authorities_outside, DROP CONSTRAINT authorities_kind, DROP COLUMN chain, ALTER COLUMN key_id SET NOT NULL;
