-- +goose Up

-- A signature may be a CMS SignedData or a bare value, as the order asked.
ALTER TABLE signatures
  DROP CONSTRAINT signatures_form_check,
  ADD CONSTRAINT signatures_form_check CHECK (form IN ('cms', 'pades', 'pkcs1', 'raw'));

-- +goose Down
ALTER TABLE signatures
  DROP CONSTRAINT signatures_form_check,
  ADD CONSTRAINT signatures_form_check CHECK (form IN ('cms'));
