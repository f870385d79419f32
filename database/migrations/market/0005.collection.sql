-- Live collection: what is wanted, where each dataset stands, and how far its spool is stored. All small: one row a
-- dataset, a spool or a schema. The records themselves go through files (the spool) into the tables of 0002.

CREATE TABLE collections (
    dataset      text PRIMARY KEY,
    wanted       boolean NOT NULL,
    stype_in     text NOT NULL CHECK (stype_in IN ('raw_symbol', 'parent')),
    symbols      text[] NOT NULL,
    schemas      text[] NOT NULL,
    notes        text[] NOT NULL DEFAULT '{}',
    replay_from_ns bigint,
    revision     bigint NOT NULL DEFAULT 1,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE collections IS 'What was asked for last, a row a dataset; it lasts over restarts';
COMMENT ON COLUMN collections.schemas IS 'As subscribed: Databento''s names, definition first';
COMMENT ON COLUMN collections.notes IS 'Where what is subscribed is not what was asked: tbbo became tcbbo';
COMMENT ON COLUMN collections.replay_from_ns IS 'Where a schema that was never collected begins; NULL: now';
COMMENT ON COLUMN collections.revision IS 'Grows with each change, so that the collector sees it';

CREATE TABLE collection_states (
    dataset         text PRIMARY KEY REFERENCES collections,
    state           text NOT NULL CHECK (state IN ('stopped', 'waiting', 'connecting', 'authenticating', 'subscribing', 'replaying',
                        'streaming', 'mute', 'backing_off', 'failed', 'disk_full')),
    since           timestamptz NOT NULL,
    reason          text,
    hint            text,
    attempts        integer NOT NULL DEFAULT 0,
    next_retry_at   timestamptz,
    holder          text NOT NULL,
    session_id      text,
    connections     bigint NOT NULL DEFAULT 0,
    received        bigint NOT NULL DEFAULT 0,
    last_received_at timestamptz,
    spool_bytes     bigint NOT NULL DEFAULT 0,
    store_error     text,
    clock_offset_ns bigint NOT NULL DEFAULT 0,
    reported_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE collection_states IS 'As the collector that holds the dataset''s lease last reported it';
COMMENT ON COLUMN collection_states.clock_offset_ns IS 'The feed''s clock less ours: 0, but for a tape';

CREATE TABLE collection_cursors (
    dataset    text NOT NULL,
    spool_id   text NOT NULL,
    connection bigint NOT NULL,
    part       integer NOT NULL,
    position   bigint NOT NULL,
    ended      boolean NOT NULL,
    stopped    boolean NOT NULL,
    broken     boolean NOT NULL,
    repeats    bytea NOT NULL,
    moved_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset, spool_id)
);
COMMENT ON TABLE collection_cursors IS 'How far each spool is stored; moved in the transaction of the rows';
COMMENT ON COLUMN collection_cursors.position IS 'Bytes of this part of this connection that are stored';
COMMENT ON COLUMN collection_cursors.ended IS 'Everything of this connection is stored, and its end is in the gap ledger';
COMMENT ON COLUMN collection_cursors.stopped IS 'It ended because no more was wanted: what came later is not missing';
COMMENT ON COLUMN collection_cursors.broken IS 'The feed skipped records in this connection: what came later does not move resume_ns';
COMMENT ON COLUMN collection_cursors.repeats IS 'What the counters of equal records knew here';

CREATE TABLE collection_schemas (
    dataset      text NOT NULL,
    schema       text NOT NULL,
    resume_ns    bigint,
    last_ns      bigint,
    records      bigint NOT NULL DEFAULT 0,
    replayed     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (dataset, schema)
);
COMMENT ON COLUMN collection_schemas.resume_ns IS 'Index time up to which everything that came is stored: a replay begins here';
COMMENT ON COLUMN collection_schemas.last_ns IS 'The newest index time stored';
COMMENT ON COLUMN collection_schemas.replayed IS 'Records newly stored since the oldest pending gap opened';

CREATE TABLE collection_pending_gaps (
    gap_id  bigint PRIMARY KEY,
    dataset text NOT NULL,
    schema  text NOT NULL
);
COMMENT ON TABLE collection_pending_gaps IS 'Gaps that the feed''s replay, going on or still to come, will close';

CREATE TABLE vendor_schemas (
    dataset    text PRIMARY KEY,
    schemas    text[] NOT NULL,
    fetched_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE vendor_schemas IS 'What the vendor says each dataset has (metadata.list_schemas), so that it need not be asked every time';
