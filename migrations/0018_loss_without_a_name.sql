-- +goose Up

-- Whose card a statement about lost phones is of is looked up when the card has
-- signed, and not before: certificates are public.
ALTER TABLE device_statements
  ALTER COLUMN citizen_id DROP NOT NULL,
  ADD CONSTRAINT device_statements_person CHECK (citizen_id IS NOT NULL OR (completed_at IS NULL AND purpose <> 'renew-certificate'));

-- +goose Down
DELETE FROM device_statements WHERE citizen_id IS NULL;
ALTER TABLE device_statements DROP CONSTRAINT device_statements_person, ALTER COLUMN citizen_id SET NOT NULL;
