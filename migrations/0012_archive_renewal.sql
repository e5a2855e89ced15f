-- +goose Up

-- Signatures with an archive time-stamp get a further one before the newest ends:
-- when that is due, and how often it has happened.
ALTER TABLE signatures
  ADD COLUMN renew_at timestamptz,
  ADD COLUMN renewals integer NOT NULL DEFAULT 0;
CREATE INDEX signatures_renew_at ON signatures (renew_at) WHERE renew_at IS NOT NULL;

-- +goose Down
DROP INDEX signatures_renew_at;
ALTER TABLE signatures DROP COLUMN renew_at, DROP COLUMN renewals;
