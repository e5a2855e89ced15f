-- +goose Up

-- What a registrar has checked before two of them bind a phone in person.
ALTER TABLE enrolments
  ADD COLUMN in_person jsonb,
  ADD CONSTRAINT enrolments_in_person CHECK ((proof_kind = 'registrar') = (in_person IS NOT NULL));

-- +goose Down
ALTER TABLE enrolments DROP COLUMN in_person;
