-- +goose Up

-- The part of the revocation list that a certificate names: part list_part of
-- list_of. 1 part is the complete list alone. Fixed when it is issued.
ALTER TABLE mobile_certificates
  ADD COLUMN list_of   smallint NOT NULL DEFAULT 1 CHECK (list_of BETWEEN 1 AND 1024),
  ADD COLUMN list_part smallint NOT NULL DEFAULT 0,
  ADD CONSTRAINT mobile_certificates_part CHECK (list_part >= 0 AND list_part < list_of);
CREATE INDEX mobile_certificates_list ON mobile_certificates (authority, list_of, list_part) WHERE revoked_at IS NOT NULL;

-- How often the revocations of an authority have changed. A node compares the
-- number to learn whether the list it has made is still the whole truth.
CREATE TABLE revocation_marks (
  authority text PRIMARY KEY REFERENCES authorities (name),
  changed   bigint NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION mark_revocation() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO revocation_marks AS m (authority, changed) VALUES (NEW.authority, 1)
  ON CONFLICT (authority) DO UPDATE SET changed = m.changed + 1;
  RETURN NULL;
END
$$;
-- +goose StatementEnd

-- Deferred: the mark is locked last of all, just before the commit, so that two
-- transactions that stop several certificates cannot wait for each other.
CREATE CONSTRAINT TRIGGER mobile_certificates_mark
  AFTER UPDATE OF state, revoked_at, reason ON mobile_certificates
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN ((OLD.state, OLD.revoked_at, OLD.reason) IS DISTINCT FROM (NEW.state, NEW.revoked_at, NEW.reason))
  EXECUTE FUNCTION mark_revocation();

-- Revocation lists of other CAs, fetched by one node for all. What is taken out
-- is verified again: the table needs no trust.
CREATE TABLE foreign_lists (
  url         text NOT NULL CHECK (length(url) <= 2048),
  issuer_hash bytea NOT NULL CHECK (octet_length(issuer_hash) = 32),
  issuer      bytea NOT NULL,
  this_update timestamptz NOT NULL,
  next_update timestamptz NOT NULL,
  fetched_at  timestamptz NOT NULL,
  der         bytea NOT NULL,
  PRIMARY KEY (url, issuer_hash)
);
-- Serial numbers do not compress, and a list is always read whole.
ALTER TABLE foreign_lists ALTER COLUMN der SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE foreign_lists;
DROP TRIGGER mobile_certificates_mark ON mobile_certificates;
DROP FUNCTION mark_revocation();
DROP TABLE revocation_marks;
DROP INDEX mobile_certificates_list;
ALTER TABLE mobile_certificates DROP CONSTRAINT mobile_certificates_part, DROP COLUMN list_part, DROP COLUMN list_of;
