-- What was decided about the market and what became of it: one chain of rows that are only ever added. The body of a row is the
-- canonical JSON of what was recorded, and the hash covers it and the hash of the row before, so a row that is altered, taken out
-- or put elsewhere shows. Beside it what may change: how far each underlying is decided, which signals wait for their outcome, and
-- backtests.

CREATE TABLE signal_ledger (
    seq           bigint PRIMARY KEY CHECK (seq > 0),
    previous_hash bytea  NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash          bytea  NOT NULL CHECK (octet_length(hash) = 32),
    body          text   NOT NULL,
    kind          text   NOT NULL GENERATED ALWAYS AS (body::jsonb ->> 'kind') STORED CHECK (kind IN ('signal', 'abstention', 'outcome')),
    id            text   NOT NULL GENERATED ALWAYS AS (body::jsonb ->> 'id') STORED UNIQUE,
    decided_ns    bigint NOT NULL GENERATED ALWAYS AS ((body::jsonb ->> 'decided_ns')::bigint) STORED,
    committed_ns  bigint NOT NULL GENERATED ALWAYS AS ((body::jsonb ->> 'committed_ns')::bigint) STORED,
    -- of signals and abstentions
    strategy      text   GENERATED ALWAYS AS (body::jsonb #>> '{record,strategy}') STORED,
    underlying    text   GENERATED ALWAYS AS (body::jsonb #>> '{record,underlying}') STORED,
    session       text   GENERATED ALWAYS AS (body::jsonb #>> '{record,session}') STORED,
    event_ns      bigint GENERATED ALWAYS AS ((body::jsonb #>> '{record,event_ns}')::bigint) STORED,
    strategy_version text GENERATED ALWAYS AS (body::jsonb #>> '{record,strategy_version}') STORED,
    mode          text   GENERATED ALWAYS AS (body::jsonb #>> '{record,mode}') STORED,
    direction     smallint GENERATED ALWAYS AS ((body::jsonb #>> '{record,direction}')::smallint) STORED,
    why           text   GENERATED ALWAYS AS (body::jsonb #>> '{record,why}') STORED,
    days_to_expiration double precision GENERATED ALWAYS AS ((body::jsonb #>> '{record,days_to_expiration}')::double precision) STORED,
    odds          jsonb  GENERATED ALWAYS AS (body::jsonb #> '{record,odds}') STORED,
    -- of outcomes
    signal_id     text   GENERATED ALWAYS AS (body::jsonb #>> '{record,signal_id}') STORED,
    revision      integer GENERATED ALWAYS AS ((body::jsonb #>> '{record,revision}')::integer) STORED,
    resolved_of_ns bigint GENERATED ALWAYS AS ((body::jsonb #>> '{record,resolved_of_ns}')::bigint) STORED,
    barrier       text   GENERATED ALWAYS AS (jsonb_path_query_first(body::jsonb, '$.record.fills[*] ? (@.model == "touch").barrier') #>> '{}') STORED,
    fills         jsonb  GENERATED ALWAYS AS (body::jsonb #> '{record,fills}') STORED,
    baseline      jsonb  GENERATED ALWAYS AS (nullif(body::jsonb #> '{record,baseline}', 'null')) STORED,
    CHECK ((body::jsonb ->> 'seq')::bigint = seq),
    CHECK (kind = 'outcome' OR (strategy, underlying, session, event_ns, mode, direction) IS NOT NULL),
    CHECK (kind <> 'outcome' OR (signal_id, revision, barrier) IS NOT NULL)
);
COMMENT ON TABLE signal_ledger IS 'Signals, abstentions and outcomes in one chain; rows are only ever added, see docs/SIGNALS.md';
COMMENT ON COLUMN signal_ledger.hash IS 'SHA-256 of previous_hash and the bytes of body; the first previous_hash is 32 zero bytes';
COMMENT ON COLUMN signal_ledger.body IS 'Canonical JSON: seq, kind, id, decided_ns, committed_ns, record. Every other column but the hashes is made from it';
COMMENT ON COLUMN signal_ledger.id IS 'A decision''s says strategy, parameters, underlying and event, so that whatever decides again about the same adds nothing; an outcome''s is its signal''s and its revision';
COMMENT ON COLUMN signal_ledger.committed_ns IS 'When the row was put into its transaction, which ends at once';
CREATE INDEX signal_ledger_events ON signal_ledger (event_ns, seq) WHERE kind <> 'outcome';
CREATE INDEX signal_ledger_of_underlying ON signal_ledger (underlying, seq) WHERE kind <> 'outcome';
CREATE UNIQUE INDEX signal_ledger_outcomes ON signal_ledger (signal_id, revision) WHERE kind = 'outcome';

-- Adds are made one after the other, each to the end; whoever does not know the end is refused.
CREATE FUNCTION extend_signal_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_seq  bigint := 0;
    v_hash bytea := decode(repeat('00', 32), 'hex');
BEGIN
    PERFORM pg_advisory_xact_lock(1397311308);
    SELECT seq, hash INTO v_seq, v_hash FROM signal_ledger ORDER BY seq DESC LIMIT 1;
    IF NOT FOUND THEN
        v_seq := 0;
        v_hash := decode(repeat('00', 32), 'hex');
    END IF;
    IF NEW.seq IS DISTINCT FROM v_seq + 1 OR NEW.previous_hash IS DISTINCT FROM v_hash
        OR NEW.hash IS DISTINCT FROM sha256(v_hash || convert_to(NEW.body, 'UTF8')) THEN
        RAISE integrity_constraint_violation USING MESSAGE = format('row %s does not follow row %s of the ledger', NEW.seq, v_seq);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER extend BEFORE INSERT ON signal_ledger FOR EACH ROW EXECUTE FUNCTION extend_signal_ledger();

CREATE FUNCTION signal_ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = 'rows of the ledger are only ever added';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signal_ledger EXECUTE FUNCTION signal_ledger_is_append_only();

CREATE TABLE signal_cursors (
    underlying text PRIMARY KEY,
    event_ns   bigint NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    retry_at   timestamptz NOT NULL DEFAULT '-infinity',
    error      text,
    moved_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE signal_cursors IS 'How far each underlying is decided; whoever decides holds the row locked, and moves it in the transaction that adds what was decided';
COMMENT ON COLUMN signal_cursors.event_ns IS 'Minute bars that closed up to then are decided';
COMMENT ON COLUMN signal_cursors.attempts IS 'How often the next one was tried in vain';

CREATE TABLE signal_resolutions (
    signal_id    text PRIMARY KEY,
    underlying   text NOT NULL,
    session      date NOT NULL,
    event_ns     bigint NOT NULL,
    settles_ns   bigint NOT NULL,
    revision     integer NOT NULL DEFAULT -1,
    data_digest  text,
    data_version text,
    attempts     integer NOT NULL DEFAULT 0,
    due_at       timestamptz NOT NULL DEFAULT '-infinity',
    error        text
);
COMMENT ON TABLE signal_resolutions IS 'Every signal of the ledger, and how far its outcome is; made anew from the ledger when it is lost';
COMMENT ON COLUMN signal_resolutions.settles_ns IS 'When all has happened that its outcome and its baselines rest on: before, they would depend on when they are asked for';
COMMENT ON COLUMN signal_resolutions.revision IS 'The newest outcome''s; -1: it has none yet';
COMMENT ON COLUMN signal_resolutions.data_version IS 'Of the market''s data when its outcome was last looked at: another one makes it be looked at again';
CREATE INDEX signal_resolutions_open ON signal_resolutions (settles_ns) WHERE revision < 0;
CREATE INDEX signal_resolutions_session ON signal_resolutions (session);

CREATE TABLE signal_trials (
    trial_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run             text NOT NULL,
    strategy        text NOT NULL,
    parameters_hash text NOT NULL,
    parameters      jsonb NOT NULL,
    signals         integer NOT NULL,
    days            integer NOT NULL,
    sharpe          double precision,
    made_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (run, strategy, parameters_hash)
);
COMMENT ON TABLE signal_trials IS 'Every set of parameters that was ever tried on data: the best of many looks good by chance, so the statistics ask how many there were';
COMMENT ON COLUMN signal_trials.run IS 'A digest of the data and the dates: the same trial again is the same row';
COMMENT ON COLUMN signal_trials.sharpe IS 'Of daily net returns at touch, not made annual; NULL where it cannot be told';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signal_trials EXECUTE FUNCTION signal_ledger_is_append_only();

CREATE TABLE signal_backtests (
    backtest_id  text PRIMARY KEY,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    request      jsonb NOT NULL,
    state        text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempts     integer NOT NULL DEFAULT 0,
    started_at   timestamptz,
    finished_at  timestamptz,
    error        text,
    report       text,
    page         text,
    CHECK ((state = 'done') = (report IS NOT NULL)),
    CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
);
COMMENT ON TABLE signal_backtests IS 'Asked for over HTTP, run one at a time by the worker of signals';
CREATE INDEX signal_backtests_when ON signal_backtests (requested_at, backtest_id);
