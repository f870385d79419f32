-- Backfills: what was asked of history, in parts of about 200,000 records, each downloaded whole, verified, and stored by a run.

CREATE TABLE backfills (
    backfill_id       uuid PRIMARY KEY,
    fingerprint       text NOT NULL UNIQUE,
    origin            text NOT NULL CHECK (origin IN ('request', 'first-start', 'repair')),
    requested_by      text NOT NULL,
    wanted            jsonb NOT NULL,
    notes             text[] NOT NULL DEFAULT '{}',
    starts_ns         bigint NOT NULL,
    ends_ns           bigint NOT NULL,
    status            text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    created_at        timestamptz NOT NULL DEFAULT now(),
    started_at        timestamptz,
    finished_at       timestamptz,
    estimated_usd     double precision NOT NULL CHECK (estimated_usd >= 0),
    estimated_records bigint NOT NULL CHECK (estimated_records >= 0),
    estimated_bytes   bigint NOT NULL CHECK (estimated_bytes >= 0),
    max_cost_usd      double precision NOT NULL CHECK (max_cost_usd >= 0),
    spent_usd         double precision NOT NULL DEFAULT 0 CHECK (spent_usd >= 0),
    gap_id            bigint REFERENCES gaps,
    error             text,
    hint              text,
    CHECK (starts_ns < ends_ns)
);
COMMENT ON COLUMN backfills.fingerprint IS 'Of the question; the same question again is the same backfill, which goes on where it was';
COMMENT ON COLUMN backfills.wanted IS 'A list: dataset, schema, stype_in, symbols, number of windows, estimate of each';
COMMENT ON COLUMN backfills.max_cost_usd IS 'No download is started that could bring spent_usd above it; Infinity where history is free';
COMMENT ON COLUMN backfills.spent_usd IS 'The vendor''s price of every download that was begun, repeated ones included';
CREATE INDEX backfills_newest ON backfills (created_at DESC, backfill_id DESC);

CREATE TABLE backfill_parts (
    part_id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    backfill_id       uuid NOT NULL REFERENCES backfills ON DELETE CASCADE,
    rank              integer NOT NULL,
    dataset           text NOT NULL,
    schema            text NOT NULL,
    stype_in          text NOT NULL CHECK (stype_in IN ('raw_symbol', 'parent')),
    symbols           text[] NOT NULL,
    starts_ns         bigint NOT NULL,
    ends_ns           bigint NOT NULL,
    estimated_records bigint NOT NULL,
    status            text NOT NULL DEFAULT 'waiting'
        CHECK (status IN ('waiting', 'downloading', 'storing', 'done', 'failed', 'cancelled')),
    holder            text,
    attempts          integer NOT NULL DEFAULT 0,
    cuts              integer NOT NULL DEFAULT 0,
    retry_at          timestamptz,
    expected          bigint,
    received          bigint,
    bytes             bigint,
    cost_usd          double precision NOT NULL DEFAULT 0,
    run_id            uuid REFERENCES runs,
    error_kind        text,
    error             text,
    started_at        timestamptz,
    finished_at       timestamptz,
    UNIQUE (backfill_id, rank),
    CHECK (starts_ns < ends_ns),
    -- a file that was taken for whole has as many records as the vendor counted
    CHECK (status NOT IN ('storing', 'done') OR (expected IS NOT NULL AND received = expected)),
    CHECK (status <> 'storing' OR run_id IS NOT NULL)
);
COMMENT ON TABLE backfill_parts IS 'One download each: [starts_ns, ends_ns) of index time, of one schema and some symbols';
COMMENT ON COLUMN backfill_parts.holder IS 'The attempt that downloads it; a later attempt takes its place, and the earlier one''s file is dropped';
COMMENT ON COLUMN backfill_parts.cuts IS 'Downloads that were not whole, and runs that failed: only so many are tried again';
COMMENT ON COLUMN backfill_parts.expected IS 'The vendor''s own count of the records (metadata.get_record_count)';
COMMENT ON COLUMN backfill_parts.run_id IS 'The run that stores it; NULL where there was nothing to store';
CREATE INDEX backfill_parts_open ON backfill_parts (backfill_id, rank) WHERE status IN ('waiting', 'downloading', 'storing');
CREATE INDEX backfill_parts_done ON backfill_parts (dataset, schema, starts_ns) WHERE status = 'done';

ALTER TABLE runs ADD COLUMN keep boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN runs.keep IS 'Whether its rows are exempt from retention: what a person brought in is, repairs are not';
CREATE INDEX runs_files ON runs (spool_file);
