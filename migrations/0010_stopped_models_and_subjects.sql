-- +goose Up

-- Devices that their holder suspended, or reported lost, can be resumed: the job
-- that looks at models again must see them too, lest a resume brings a
-- forbidden model back.
DROP INDEX devices_u2f, devices_model;
CREATE INDEX devices_model ON devices (aaguid, id)
  WHERE state <> 'removed' AND state_reason IN ('', 'asked_by_citizen', 'loss');
CREATE INDEX devices_u2f ON devices (id)
  WHERE state <> 'removed' AND state_reason IN ('', 'asked_by_citizen', 'loss') AND attestation_format = 'fido-u2f';

-- A sign order that names no citizen can be handed on to anybody: a client may
-- rule out that it makes such orders.
ALTER TABLE clients ADD COLUMN require_subject boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE clients DROP COLUMN require_subject;
DROP INDEX devices_u2f, devices_model;
CREATE INDEX devices_model ON devices (aaguid, id) WHERE state = 'active';
CREATE INDEX devices_u2f ON devices (id) WHERE state = 'active' AND attestation_format = 'fido-u2f';
