-- What is missing (gaps), what could not be stored (dead letters), and what money cost (rates).

CREATE TABLE gaps (
    gap_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset         text NOT NULL,
    schema          text NOT NULL,
    symbol          text,
    starts_ns       bigint NOT NULL,
    ends_ns         bigint,
    evidence        text NOT NULL CHECK (evidence IN
        ('disconnect', 'skipped', 'mute', 'aged-out', 'heartbeat', 'sequence', 'session', 'restart', 'disk-full')),
    detail          text NOT NULL,
    opened_at       timestamptz NOT NULL DEFAULT now(),
    closed_at       timestamptz,
    closed_by       text CHECK (closed_by IN ('replay', 'backfill', 'session')),
    found           bigint CHECK (found >= 0),
    repair_attempts integer NOT NULL DEFAULT 0,
    repair_after    timestamptz,
    repair_job      text,
    repair_note     text,
    CHECK (starts_ns < ends_ns),
    CHECK ((closed_at IS NULL) = (closed_by IS NULL) AND (closed_at IS NULL) = (found IS NULL)),
    CHECK (closed_at IS NULL OR ends_ns IS NOT NULL)
);
COMMENT ON TABLE gaps IS 'Intervals [starts_ns, ends_ns) of which records may be missing, each with its evidence, until they are found';
COMMENT ON COLUMN gaps.symbol IS 'A ticker, or a parent such as AAPL.OPT; NULL: everything that is collected of that dataset and schema';
COMMENT ON COLUMN gaps.ends_ns IS 'NULL: not over yet';
COMMENT ON COLUMN gaps.found IS 'Records that the closing brought in; 0: nothing had been missing';
COMMENT ON COLUMN gaps.repair_after IS 'Not to be asked of history again before';
-- the same gap stated twice (a collector killed between stating it and acting on it) is one
CREATE UNIQUE INDEX gaps_open ON gaps (dataset, schema, coalesce(symbol, ''), evidence, starts_ns) WHERE closed_at IS NULL;
CREATE INDEX gaps_when ON gaps (starts_ns, gap_id);

CREATE TABLE dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset        text NOT NULL,
    schema         text NOT NULL,
    reason         text NOT NULL,
    origin         text NOT NULL,
    records        bytea NOT NULL,
    ords           integer[],
    number         integer NOT NULL,
    whole          boolean NOT NULL,
    digest         bytea NOT NULL,
    first_at_ns    bigint,
    buried_at      timestamptz NOT NULL DEFAULT now(),
    seen           integer NOT NULL DEFAULT 1,
    attempts       integer NOT NULL DEFAULT 0,
    tried_at       timestamptz,
    stored         bigint NOT NULL DEFAULT 0,
    note           text,
    replayed_at    timestamptz
);
COMMENT ON TABLE dead_letters IS 'Records that could not be stored, byte for byte, until a replay stores them';
COMMENT ON COLUMN dead_letters.records IS 'DBN records one after the other; emptied once they are stored';
COMMENT ON COLUMN dead_letters.ords IS 'The rank of each record among its equals where it came from (see trades.ord); NULL: to be counted on replay';
COMMENT ON COLUMN dead_letters.whole IS 'False: the bytes are not whole records, and no replay can read them';
COMMENT ON COLUMN dead_letters.seen IS 'How often the same bytes came for the same reason';
CREATE UNIQUE INDEX dead_letters_waiting ON dead_letters (dataset, schema, reason, digest) WHERE replayed_at IS NULL;

CREATE TABLE rate_curves (
    curve_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    curve_date date NOT NULL,
    source     text NOT NULL,
    known_at   timestamptz NOT NULL,
    stated_by  text NOT NULL,
    stated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rate_curves IS 'Interest rate curves as they were stated; a revision is a row of its own, nothing is overwritten';
COMMENT ON COLUMN rate_curves.known_at IS 'From when on it was public: no earlier as_of may use it';
CREATE INDEX rate_curves_known ON rate_curves (curve_date DESC, known_at DESC, curve_id DESC);

CREATE TABLE rate_points (
    curve_id    bigint NOT NULL REFERENCES rate_curves ON DELETE CASCADE,
    days        integer NOT NULL CHECK (days > 0),
    rate        double precision NOT NULL CHECK (rate BETWEEN -0.05 AND 0.5),
    compounding text NOT NULL CHECK (compounding IN ('continuous', 'annual', 'semiannual', 'simple', 'simple-360')),
    PRIMARY KEY (curve_id, days)
);
COMMENT ON COLUMN rate_points.days IS 'Calendar days from the curve''s date';
