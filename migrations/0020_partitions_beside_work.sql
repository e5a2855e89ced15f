-- +goose Up

-- A new partition is made by itself and then attached: that takes a lock on its
-- table which goes beside reading and writing. Made as a partition at once, it
-- would lock out everybody, and with several tables in one transaction meet those
-- who use them in another order (a deadlock at midnight).
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
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', child, parent);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child,
          uuid7_floor(day::timestamp AT TIME ZONE 'UTC'),
          uuid7_floor((day + 1)::timestamp AT TIME ZONE 'UTC'));
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
-- +goose StatementEnd

-- +goose Down
SELECT 1;
