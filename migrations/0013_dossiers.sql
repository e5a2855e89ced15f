-- +goose Up

-------------------------------------------------------------------- webhooks
-- Where a client is told that something of its own has changed. The secret is
-- sealed under the keyring.
ALTER TABLE clients
  ADD COLUMN webhook_url    text NOT NULL DEFAULT '' CHECK (length(webhook_url) <= 2048),
  ADD COLUMN webhook_secret bytea,
  ADD CHECK ((webhook_url = '') = (webhook_secret IS NULL));

-- What is to be told: ids and states, nothing about people. A row is written in
-- the transaction of the act, delivered by the leader, and forgotten later.
CREATE TABLE webhook_messages (
  id              uuid PRIMARY KEY,
  client_id       uuid NOT NULL REFERENCES clients (id),
  type            text NOT NULL CHECK (length(type) BETWEEN 1 AND 100),
  data            jsonb NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now(),
  attempts        integer NOT NULL DEFAULT 0,
  next_attempt_at timestamptz DEFAULT now(), -- NULL: delivered or given up
  delivered_at    timestamptz,
  dead_at         timestamptz,
  last_error      text NOT NULL DEFAULT '',
  CHECK ((next_attempt_at IS NULL) = (delivered_at IS NOT NULL OR dead_at IS NOT NULL))
);
CREATE INDEX webhook_messages_due ON webhook_messages (client_id, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_messages_old ON webhook_messages (created_at);

-- +goose StatementBegin
CREATE FUNCTION queue_webhook(to_client uuid, message_type text, message jsonb) RETURNS void
LANGUAGE sql AS $$
  INSERT INTO webhook_messages (id, client_id, type, data)
  SELECT gen_random_uuid(), c.id, message_type, message FROM clients c WHERE c.id = to_client AND c.webhook_url <> ''
$$;
-- +goose StatementEnd

-- The 22-character form of an id, as the API has it.
-- +goose StatementBegin
CREATE FUNCTION short_id(id uuid) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT translate(encode(uuid_send(id), 'base64'), '+/=', '-_') $$;
-- +goose StatementEnd

-- A sign order ends in many ways; none of them can forget to tell.
-- +goose StatementBegin
CREATE FUNCTION tell_order_end() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM queue_webhook(NEW.client_id, 'sign_order.' || NEW.state, jsonb_build_object('order', short_id(NEW.id), 'state', NEW.state));
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER orders_tell_end AFTER UPDATE OF state ON orders FOR EACH ROW
  WHEN (NEW.kind = 'sign' AND OLD.state IS DISTINCT FROM NEW.state
    AND NEW.state IN ('completed', 'rejected', 'expired', 'cancelled', 'failed'))
  EXECUTE FUNCTION tell_order_end();

-------------------------------------------------------------------- dossiers
-- An official document on its way: its files by digest, the points that sign
-- it, and the SI file, the XML record of the points. Whatever changes a dossier
-- raises its version; nobody writes over what they have not read.
CREATE TABLE dossiers (
  id               uuid PRIMARY KEY,
  client_id        uuid NOT NULL REFERENCES clients (id),
  reference        text NOT NULL CHECK (length(reference) BETWEEN 1 AND 64),
  title            text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
  revision         integer NOT NULL DEFAULT 1 CHECK (revision BETWEEN 1 AND 999),
  previous_id      uuid UNIQUE REFERENCES dossiers (id),
  previous_digest  bytea, -- of the SI file of the revision before
  digest_algorithm text NOT NULL CHECK (digest_algorithm IN ('SHA-256', 'SHA-384', 'SHA-512')),
  level            text NOT NULL DEFAULT '',
  state            text NOT NULL CHECK (state IN ('open', 'completed', 'returned', 'withdrawn', 'expired')),
  stage            integer NOT NULL,
  version          bigint NOT NULL DEFAULT 1,
  si               bytea NOT NULL,
  created_at       timestamptz NOT NULL,
  updated_at       timestamptz NOT NULL,
  expires_at       timestamptz NOT NULL,
  ended_at         timestamptz,
  end_reason       text NOT NULL DEFAULT '',
  UNIQUE (client_id, reference, revision),
  CHECK ((previous_id IS NULL) = (revision = 1)),
  CHECK ((state = 'open') = (ended_at IS NULL))
);
CREATE INDEX dossiers_client ON dossiers (client_id, id DESC);
CREATE INDEX dossiers_expiry ON dossiers (expires_at) WHERE state = 'open';

CREATE TABLE dossier_files (
  dossier_id uuid NOT NULL REFERENCES dossiers (id) ON DELETE CASCADE,
  number     integer NOT NULL CHECK (number >= 1),
  name       text NOT NULL,
  media_type text NOT NULL,
  size       bigint NOT NULL CHECK (size >= 0),
  digest     bytea NOT NULL,
  PRIMARY KEY (dossier_id, number),
  UNIQUE (dossier_id, name)
);

CREATE TABLE dossier_points (
  dossier_id   uuid NOT NULL REFERENCES dossiers (id) ON DELETE CASCADE,
  number       integer NOT NULL CHECK (number >= 1),
  stage        integer NOT NULL CHECK (stage >= 1),
  title        text NOT NULL,
  citizen_id   uuid NOT NULL REFERENCES citizens (id),
  files        integer[] NOT NULL,
  state        text NOT NULL CHECK (state IN ('waiting', 'open', 'later', 'signed', 'returned')),
  opened_at    timestamptz,
  later_reason text NOT NULL DEFAULT '',
  signed_by    uuid REFERENCES citizens (id),
  deputy       boolean NOT NULL DEFAULT false,
  comment      text NOT NULL DEFAULT '',
  signed_at    timestamptz,
  order_id     uuid,
  document     integer,  -- of the order: the one whose signature stands in the SI file
  failure      text NOT NULL DEFAULT '', -- why the last order over it came to nothing
  PRIMARY KEY (dossier_id, number),
  CHECK ((state IN ('signed', 'returned')) = (signed_by IS NOT NULL AND signed_at IS NOT NULL AND order_id IS NOT NULL AND document IS NOT NULL)),
  CHECK (state = 'waiting' OR opened_at IS NOT NULL)
);
CREATE INDEX dossier_points_inbox ON dossier_points (citizen_id, dossier_id) WHERE state IN ('open', 'later');
CREATE INDEX dossier_points_signed ON dossier_points (signed_by, signed_at DESC) WHERE signed_by IS NOT NULL;

CREATE TABLE dossier_deputies (
  dossier_id uuid NOT NULL,
  point      integer NOT NULL,
  citizen_id uuid NOT NULL REFERENCES citizens (id),
  reason     text NOT NULL,
  not_before timestamptz NOT NULL,
  not_after  timestamptz NOT NULL CHECK (not_after > not_before),
  PRIMARY KEY (dossier_id, point, citizen_id),
  FOREIGN KEY (dossier_id, point) REFERENCES dossier_points (dossier_id, number) ON DELETE CASCADE
);
CREATE INDEX dossier_deputies_inbox ON dossier_deputies (citizen_id, dossier_id);

-- A point that was taken into a sign order. Several orders may be out for one
-- point; the first that is signed gets it. It is written before the order.
CREATE TABLE dossier_claims (
  order_id   uuid NOT NULL,
  dossier_id uuid NOT NULL REFERENCES dossiers (id) ON DELETE CASCADE,
  point      integer NOT NULL,
  decision   text NOT NULL CHECK (decision IN ('approve', 'return')),
  citizen_id uuid NOT NULL REFERENCES citizens (id),
  deputy     boolean NOT NULL,
  later      boolean NOT NULL, -- the point had been passed when it was taken
  comment    text NOT NULL DEFAULT '',
  made_at    timestamptz NOT NULL, -- also the time that the point will state
  covers     integer[] NOT NULL,   -- earlier points that it signs
  digest     bytea NOT NULL,       -- of its canonical SignedInfo
  first      integer NOT NULL,     -- place of its first document in the order
  document   integer NOT NULL CHECK (document >= first), -- and of the SignedInfo, its last
  state      text NOT NULL DEFAULT 'out' CHECK (state IN ('out', 'attached', 'left_out', 'lost', 'void')),
  failure    text NOT NULL DEFAULT '',
  PRIMARY KEY (order_id, dossier_id, point)
);
CREATE INDEX dossier_claims_out ON dossier_claims (made_at) WHERE state = 'out';
CREATE INDEX dossier_claims_dossier ON dossier_claims (dossier_id, made_at);

-- The files' signatures of a signed point: they outlive the order.
CREATE TABLE dossier_signatures (
  dossier_id uuid NOT NULL,
  point      integer NOT NULL,
  file       integer NOT NULL, -- 0: the value in the SI file
  der        bytea NOT NULL,
  PRIMARY KEY (dossier_id, point, file),
  FOREIGN KEY (dossier_id, point) REFERENCES dossier_points (dossier_id, number) ON DELETE CASCADE
);

-- +goose Down
DROP TABLE dossier_signatures, dossier_claims, dossier_deputies, dossier_points, dossier_files, dossiers;
DROP TRIGGER orders_tell_end ON orders;
DROP FUNCTION tell_order_end();
DROP FUNCTION short_id(uuid);
DROP FUNCTION queue_webhook(uuid, text, jsonb);
DROP TABLE webhook_messages;
ALTER TABLE clients DROP COLUMN webhook_secret, DROP COLUMN webhook_url;
