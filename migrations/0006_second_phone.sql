-- +goose Up

-- Who agrees to a binding, fixed when it begins: the card, a phone that is bound
-- already, or registrars. "proof" is kept in the form of its kind.
ALTER TABLE enrolments
  ADD COLUMN proof_kind text NOT NULL DEFAULT 'card' CHECK (proof_kind IN ('card', 'device', 'registrar')),
  ADD CHECK ((proof_kind = 'device') = (by_device_id IS NOT NULL));

-- +goose Down
ALTER TABLE enrolments DROP COLUMN proof_kind;
