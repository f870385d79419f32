-- The accounts database, made from database/migrations/accounts by
-- `python database/schema/generate.py`; a test keeps it current.

CREATE SCHEMA audit;

CREATE FUNCTION audit.append(request_id text, user_id uuid, username text, role text, credential text, address text, method text, path text, status integer, event text, detail text) RETURNS TABLE(entry_id bigint, hash bytea)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
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

CREATE TABLE audit.entries (
    entry_id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    request_id text NOT NULL,
    user_id uuid,
    username text,
    role text,
    credential text,
    address text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    status integer NOT NULL,
    event text NOT NULL,
    detail text,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT entries_event_check CHECK ((event = ANY (ARRAY['login'::text, 'login_failed'::text, 'refresh'::text, 'refresh_failed'::text, 'refresh_reused'::text, 'logout'::text, 'password_change'::text, 'password_reset'::text, 'user_create'::text, 'user_change'::text, 'user_remove'::text, 'key_create'::text, 'key_revoke'::text, 'signing_key'::text, 'write'::text, 'refused'::text]))),
    CONSTRAINT entries_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT entries_previous_check CHECK ((octet_length(previous) = 32))
);

COMMENT ON TABLE audit.entries IS 'Every login, write, refusal and change of users and keys; rows are only ever added, by audit.append';

COMMENT ON COLUMN audit.entries.hash IS 'SHA-256 of previous, then the JSON array [1, entry_id, at in microseconds, request_id ... detail] in UTF-8';

CREATE FUNCTION audit.hash_of(entry audit.entries) RETURNS bytea
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT sha256(entry.previous || convert_to(json_build_array(
        1, entry.entry_id, (extract(epoch FROM entry.at) * 1000000)::bigint, entry.request_id, entry.user_id,
        entry.username, entry.role, entry.credential, entry.address, entry.method, entry.path, entry.status,
        entry.event, entry.detail)::text, 'UTF8'))
$$;

CREATE FUNCTION audit.is_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only';
END
$$;

CREATE TABLE api_keys (
    key_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    key_hash bytea NOT NULL,
    role text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT api_keys_key_hash_check CHECK ((octet_length(key_hash) = 32)),
    CONSTRAINT api_keys_name_check CHECK (((name <> ''::text) AND (length(name) <= 100))),
    CONSTRAINT api_keys_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'trader'::text, 'operator'::text, 'admin'::text]))),
    CONSTRAINT api_keys_scopes_check CHECK (((cardinality(scopes) > 0) AND (scopes <@ ARRAY['market'::text, 'analytics'::text, 'cache'::text, 'control'::text, 'account'::text])))
);

COMMENT ON COLUMN api_keys.prefix IS 'The first characters of the key, to tell one from another; no part of its secret';

CREATE TABLE applied_migrations (
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE VIEW audit_log AS
 SELECT entry_id,
    at,
    request_id,
    user_id,
    username,
    role,
    credential,
    address,
    method,
    path,
    status,
    event,
    detail,
    previous,
    hash
   FROM audit.entries;

CREATE TABLE idempotency_keys (
    user_id text NOT NULL,
    key text NOT NULL,
    request text NOT NULL,
    owner uuid NOT NULL,
    lease_ends timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    fingerprint bytea,
    status integer,
    headers jsonb,
    body bytea,
    CONSTRAINT idempotency_keys_check CHECK (((status IS NULL) = (fingerprint IS NULL))),
    CONSTRAINT idempotency_keys_key_check CHECK (((length(key) >= 1) AND (length(key) <= 255)))
);

COMMENT ON COLUMN idempotency_keys.request IS 'Method and target of the first request';

COMMENT ON COLUMN idempotency_keys.owner IS 'The attempt that is under way, or was last';

COMMENT ON COLUMN idempotency_keys.lease_ends IS 'Prolonged while the attempt is under way; past it, and without a status, the key is free';

COMMENT ON COLUMN idempotency_keys.fingerprint IS 'SHA-256 of content type and body';

COMMENT ON COLUMN idempotency_keys.body IS 'Null with a status: the answer was too large to keep';

CREATE TABLE login_failures (
    subject bytea NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    attempts bigint DEFAULT 0 NOT NULL,
    last_at timestamp with time zone DEFAULT now() NOT NULL,
    locked_until timestamp with time zone
);

COMMENT ON COLUMN login_failures.subject IS 'SHA-256 of what is counted: an account, an account at an address, or an address';

CREATE TABLE refresh_tokens (
    token_hash bytea NOT NULL,
    session_id uuid NOT NULL,
    issued_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    CONSTRAINT refresh_tokens_token_hash_check CHECK ((octet_length(token_hash) = 32))
);

COMMENT ON TABLE refresh_tokens IS 'Each works once. Used ones stay while the session does: a second use is theft, and ends it';

CREATE TABLE sessions (
    session_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    role text,
    address text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    ended_by text,
    CONSTRAINT sessions_check CHECK (((ended_at IS NULL) = (ended_by IS NULL))),
    CONSTRAINT sessions_ended_by_check CHECK ((ended_by = ANY (ARRAY['logout'::text, 'reuse'::text, 'password'::text, 'disabled'::text, 'removed'::text]))),
    CONSTRAINT sessions_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'trader'::text, 'operator'::text, 'admin'::text])))
);

COMMENT ON TABLE sessions IS 'One sign-in: the family of its refresh tokens, named by each of its access tokens (sid)';

COMMENT ON COLUMN sessions.role IS 'The most that was asked for at sign-in; null: whatever the user has at the time';

CREATE TABLE signing_keys (
    kid text NOT NULL,
    algorithm text NOT NULL,
    sealed_seed bytea NOT NULL,
    sealed_under text NOT NULL,
    state text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    signed_from timestamp with time zone,
    signed_until timestamp with time zone,
    retired_at timestamp with time zone,
    CONSTRAINT signing_keys_algorithm_check CHECK ((algorithm = 'EdDSA'::text)),
    CONSTRAINT signing_keys_state_check CHECK ((state = ANY (ARRAY['published'::text, 'signing'::text, 'verifying'::text, 'retired'::text])))
);

COMMENT ON TABLE signing_keys IS 'published -> signing -> verifying -> retired; all but the retired are in the JWKS';

COMMENT ON COLUMN signing_keys.sealed_seed IS 'AES-256-GCM: nonce, ciphertext; kid and algorithm are authenticated with it';

COMMENT ON COLUMN signing_keys.sealed_under IS 'Names the JWT_SIGNING_KEY that opens it, and tells nothing about it';

CREATE TABLE users (
    user_id uuid DEFAULT gen_random_uuid() NOT NULL,
    username text NOT NULL,
    password_hash text NOT NULL,
    role text NOT NULL,
    disabled boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    password_changed_at timestamp with time zone DEFAULT now() NOT NULL,
    removed_at timestamp with time zone,
    CONSTRAINT users_removed_are_disabled CHECK (((removed_at IS NULL) OR disabled)),
    CONSTRAINT users_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'trader'::text, 'operator'::text, 'admin'::text]))),
    CONSTRAINT users_username_check CHECK ((username ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'::text))
);

COMMENT ON COLUMN users.password_hash IS 'argon2id, in its own encoded form';

COMMENT ON COLUMN users.removed_at IS 'The row stays: the audit log names it, and a name never comes to mean another person';

ALTER TABLE ONLY audit.entries
    ADD CONSTRAINT entries_pkey PRIMARY KEY (entry_id);

ALTER TABLE ONLY api_keys
    ADD CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash);

ALTER TABLE ONLY api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY applied_migrations
    ADD CONSTRAINT applied_migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, key);

ALTER TABLE ONLY login_failures
    ADD CONSTRAINT login_failures_pkey PRIMARY KEY (subject);

ALTER TABLE ONLY refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (session_id);

ALTER TABLE ONLY signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (kid);

ALTER TABLE ONLY users
    ADD CONSTRAINT users_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY users
    ADD CONSTRAINT users_username_key UNIQUE (username);

CREATE INDEX audit_entries_by_event ON audit.entries USING btree (event, entry_id);

CREATE INDEX audit_entries_by_time ON audit.entries USING btree (at);

CREATE INDEX audit_entries_by_user ON audit.entries USING btree (username, entry_id);

CREATE INDEX api_keys_by_user ON api_keys USING btree (user_id, created_at);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys USING btree (created_at);

CREATE INDEX refresh_tokens_by_session ON refresh_tokens USING btree (session_id);

CREATE INDEX sessions_by_expiry ON sessions USING btree (expires_at);

CREATE INDEX sessions_by_user ON sessions USING btree (user_id, address);

CREATE UNIQUE INDEX signing_keys_one_signs ON signing_keys USING btree (sealed_under) WHERE (state = 'signing'::text);

CREATE TRIGGER entries_no_change BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.entries FOR EACH STATEMENT EXECUTE FUNCTION audit.is_append_only();

ALTER TABLE ONLY api_keys
    ADD CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(user_id);

ALTER TABLE ONLY refresh_tokens
    ADD CONSTRAINT refresh_tokens_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(session_id) ON DELETE CASCADE;

ALTER TABLE ONLY sessions
    ADD CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(user_id);
