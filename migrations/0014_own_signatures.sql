-- +goose Up

-- Whoever has a signature judged that this service made learns since when it is
-- on record here: it is found by the hash of its bytes.
CREATE INDEX signatures_sha256 ON signatures (sha256(der));

-- +goose Down
DROP INDEX signatures_sha256;
