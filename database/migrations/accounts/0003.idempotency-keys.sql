-- What was answered to a POST that came with an Idempotency-Key, so that its repetition makes nothing twice.

CREATE TABLE idempotency_keys (
    user_id     text NOT NULL,
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request     text NOT NULL,
    owner       uuid NOT NULL,
    lease_ends  timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    fingerprint bytea,
    status      integer,
    headers     jsonb,
    body        bytea,
    PRIMARY KEY (user_id, key),
    CHECK ((status IS NULL) = (fingerprint IS NULL))
);
COMMENT ON COLUMN idempotency_keys.request IS 'Method and target of the first request';
COMMENT ON COLUMN idempotency_keys.owner IS 'The attempt that is under way, or was last';
COMMENT ON COLUMN idempotency_keys.lease_ends IS 'Prolonged while the attempt is under way; past it, and without a status, the key is free';
COMMENT ON COLUMN idempotency_keys.fingerprint IS 'SHA-256 of content type and body';
COMMENT ON COLUMN idempotency_keys.body IS 'Null with a status: the answer was too large to keep';
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
