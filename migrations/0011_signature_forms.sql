-- +goose Up

-- A signature may be a CMS SignedData or a bare value, as the order asked.
ALTER TABLE signatures
  DROP CONSTRAINT signatures_form_check,
  ADD CONSTRAINT signatures_form_check CHECK (form IN ('cms', 'pades', 'pkcs1', 'raw'));

-- Of a batch, a document that could not be signed is reported alone: its place
-- and the code of what went wrong. What an approved order still waits for is a
-- code too; empty when it does not wait.
ALTER TABLE orders
  ADD COLUMN failures    jsonb,
  ADD COLUMN wait_reason text NOT NULL DEFAULT '';

-- Earlier signatures that new ones join, as the client sent them; the order's
-- content names each by its hash.
CREATE TABLE order_inputs (
  order_id uuid NOT NULL,
  document integer NOT NULL CHECK (document >= 0),
  earlier  bytea NOT NULL,
  PRIMARY KEY (order_id, document)
) PARTITION BY RANGE (order_id);

-- ensure_partitions now finds the growing tables by itself: every table that is
-- partitioned in this schema is so by the time in its UUIDv7.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION ensure_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  parent text;
  day    date;
  child  text;
  made   integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('sealgate.ensure_partitions'));
  FOR parent IN SELECT c.relname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
                WHERE c.relnamespace = current_schema()::regnamespace ORDER BY c.relname LOOP
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
SELECT ensure_partitions(7);

-- +goose Down
DROP TABLE order_inputs;
ALTER TABLE orders DROP COLUMN failures, DROP COLUMN wait_reason;
ALTER TABLE signatures
  DROP CONSTRAINT signatures_form_check,
  ADD CONSTRAINT signatures_form_check CHECK (form IN ('cms'));
