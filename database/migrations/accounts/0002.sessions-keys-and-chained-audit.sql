-- Sign-ins that can be ended, keys for programs, keys that sign tokens, and an audit log that shows when it was altered.

ALTER TABLE users
    ADD COLUMN password_changed_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN removed_at timestamptz,
    ADD CONSTRAINT users_removed_are_disabled CHECK (removed_at IS NULL OR disabled);
COMMENT ON COLUMN users.removed_at IS 'The row stays: the audit log names it, and a name never comes to mean another person';

CREATE TABLE sessions (
    session_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL REFERENCES users,
    role       text CHECK (role IN ('viewer', 'trader', 'operator', 'admin')),
    address    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at   timestamptz,
    ended_by   text CHECK (ended_by IN ('logout', 'reuse', 'password', 'disabled', 'removed')),
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
COMMENT ON TABLE sessions IS 'One sign-in: the family of its refresh tokens, named by each of its access tokens (sid)';
COMMENT ON COLUMN sessions.role IS 'The most that was asked for at sign-in; null: whatever the user has at the time';
CREATE INDEX sessions_by_user ON sessions (user_id, address);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    issued_at  timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
COMMENT ON TABLE refresh_tokens IS 'Each works once. Used ones stay while the session does: a second use is theft, and ends it';
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

CREATE TABLE api_keys (
    key_id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid NOT NULL REFERENCES users,
    name         text NOT NULL CHECK (name <> '' AND length(name) <= 100),
    prefix       text NOT NULL,
    key_hash     bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    role         text NOT NULL CHECK (role IN ('viewer', 'trader', 'operator', 'admin')),
    scopes       text[] NOT NULL
                 CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['market', 'analytics', 'cache', 'control', 'account']),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
COMMENT ON COLUMN api_keys.prefix IS 'The first characters of the key, to tell one from another; no part of its secret';
CREATE INDEX api_keys_by_user ON api_keys (user_id, created_at);

CREATE TABLE login_failures (
    subject      bytea PRIMARY KEY,
    failures     integer NOT NULL DEFAULT 0,
    attempts     bigint NOT NULL DEFAULT 0,
    last_at      timestamptz NOT NULL DEFAULT now(),
    locked_until timestamptz
);
COMMENT ON COLUMN login_failures.subject IS 'SHA-256 of what is counted: an account, an account at an address, or an address';

CREATE TABLE signing_keys (
    kid          text PRIMARY KEY,
    algorithm    text NOT NULL CHECK (algorithm = 'EdDSA'),
    sealed_seed  bytea NOT NULL,
    sealed_under text NOT NULL,
    state        text NOT NULL CHECK (state IN ('published', 'signing', 'verifying', 'retired')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    signed_from  timestamptz,
    signed_until timestamptz,
    retired_at   timestamptz
);
COMMENT ON TABLE signing_keys IS 'published -> signing -> verifying -> retired; all but the retired are in the JWKS';
COMMENT ON COLUMN signing_keys.sealed_seed IS 'AES-256-GCM: nonce, ciphertext; kid and algorithm are authenticated with it';
COMMENT ON COLUMN signing_keys.sealed_under IS 'Names the JWT_SIGNING_KEY that opens it, and tells nothing about it';
CREATE UNIQUE INDEX signing_keys_one_signs ON signing_keys (sealed_under) WHERE state = 'signing';

-- In a schema of its own: whoever owns a schema may drop what is in it. Provisioning gives it to a role that nobody
-- logs in as, so that the gateway may add and read, and no more.
CREATE SCHEMA audit;

CREATE TABLE audit.entries (
    entry_id   bigint PRIMARY KEY,
    at         timestamptz NOT NULL,
    request_id text NOT NULL,
    user_id    uuid,
    username   text,
    role       text,
    credential text,
    address    text NOT NULL,
    method     text NOT NULL,
    path       text NOT NULL,
    status     integer NOT NULL,
    event      text NOT NULL CHECK (event IN (
        'login', 'login_failed', 'refresh', 'refresh_failed', 'refresh_reused', 'logout',
        'password_change', 'password_reset', 'user_create', 'user_change', 'user_remove',
        'key_create', 'key_revoke', 'signing_key', 'write', 'refused')),
    detail     text,
    previous   bytea NOT NULL CHECK (octet_length(previous) = 32),
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE audit.entries IS 'Every login, write, refusal and change of users and keys; rows are only ever added, by audit.append';
COMMENT ON COLUMN audit.entries.hash IS
    'SHA-256 of previous, then the JSON array [1, entry_id, at in microseconds, request_id ... detail] in UTF-8';
CREATE INDEX audit_entries_by_time ON audit.entries (at);
CREATE INDEX audit_entries_by_user ON audit.entries (username, entry_id);
CREATE INDEX audit_entries_by_event ON audit.entries (event, entry_id);

CREATE FUNCTION audit.hash_of(entry audit.entries) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(entry.previous || convert_to(json_build_array(
        1, entry.entry_id, (extract(epoch FROM entry.at) * 1000000)::bigint, entry.request_id, entry.user_id,
        entry.username, entry.role, entry.credential, entry.address, entry.method, entry.path, entry.status,
        entry.event, entry.detail)::text, 'UTF8'))
$$;

-- the rows of the log as it was, in their order, start the chain; what comes before the first is 32 zero bytes
DO $$
DECLARE
    entry audit.entries;
    former record;
BEGIN
    entry.entry_id := 0;
    entry.hash := decode(repeat('00', 32), 'hex');
    FOR former IN SELECT * FROM public.audit_log ORDER BY entry_id LOOP
        entry := ROW(entry.entry_id + 1, former.at, former.request_id, NULL, former.username, former.role, NULL,
            former.address, former.method, former.path, former.status, former.event, NULL, entry.hash, NULL);
        entry.hash := audit.hash_of(entry);
        INSERT INTO audit.entries SELECT entry.*;
    END LOOP;
END
$$;
DROP TABLE audit_log;
DROP FUNCTION audit_log_is_append_only();
CREATE VIEW audit_log AS SELECT * FROM audit.entries;

CREATE FUNCTION audit.append(
    request_id text, user_id uuid, username text, role text, credential text, address text, method text, path text,
    status integer, event text, detail text
) RETURNS TABLE (entry_id bigint, hash bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    last record;
    entry audit.entries;
BEGIN
    -- a gateway that is cut off before its commit must not keep all others from writing
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    -- one writer at a time, until its commit: the next one must see this row
    PERFORM pg_advisory_xact_lock(x'4F5453415544'::bigint);
    SELECT e.entry_id, e.hash INTO last FROM audit.entries e ORDER BY e.entry_id DESC LIMIT 1;
    entry := ROW(coalesce(last.entry_id, 0) + 1, clock_timestamp(), request_id, user_id, username, role, credential,
        address, method, path, status, event, detail, coalesce(last.hash, decode(repeat('00', 32), 'hex')), NULL);
    entry.hash := audit.hash_of(entry);
    INSERT INTO audit.entries SELECT entry.*;
    RETURN QUERY SELECT entry.entry_id, entry.hash;
END
$$;

-- append-only: not even the owner changes history by accident
CREATE FUNCTION audit.is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only';
END
$$;
CREATE TRIGGER entries_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.entries
    FOR EACH STATEMENT EXECUTE FUNCTION audit.is_append_only();
