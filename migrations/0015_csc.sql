-- +goose Up

-- Only the device with this mobile certificate may approve.
ALTER TABLE orders ADD COLUMN subject_certificate_id uuid;

-- Tokens of the Cloud Signature Consortium API: one an order, so that the primary
-- key makes an authorization code work once. A token of scope credential is the
-- signature activation data for the order's documents; each is handed out once.
CREATE TABLE csc_tokens (
  order_id       uuid NOT NULL,
  client_id      uuid NOT NULL,
  citizen_id     uuid NOT NULL,
  scope          text NOT NULL CHECK (scope IN ('service', 'credential')),
  certificate_id uuid,
  spent          integer[] NOT NULL DEFAULT '{}',
  created_at     timestamptz NOT NULL,
  expires_at     timestamptz NOT NULL,
  revoked_at     timestamptz,
  PRIMARY KEY (order_id),
  CHECK ((certificate_id IS NOT NULL) = (scope = 'credential')),
  CHECK (scope = 'credential' OR spent = '{}')
) PARTITION BY RANGE (order_id);
SELECT ensure_partitions(7);

-- A citizen's certificates.
CREATE INDEX mobile_certificates_citizen ON mobile_certificates (citizen_id);

-- +goose Down
DROP INDEX mobile_certificates_citizen;
DROP TABLE csc_tokens;
ALTER TABLE orders DROP COLUMN subject_certificate_id;
