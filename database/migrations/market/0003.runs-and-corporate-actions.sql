-- Runs: one row for each file that was taken in, from upload to its end. A batch of rows and the run's cursor are committed together.

CREATE TABLE runs (
    run_id           uuid PRIMARY KEY,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz,
    status           text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done', 'failed')),
    requested_by     text NOT NULL,
    spool_file       text NOT NULL,
    bytes            bigint NOT NULL,
    sha256           text NOT NULL,
    dataset          text NOT NULL,
    schema           text,
    total            bigint NOT NULL,
    batch_records    integer NOT NULL,
    records_done     bigint NOT NULL DEFAULT 0,
    stored           bigint NOT NULL DEFAULT 0,
    revised          bigint NOT NULL DEFAULT 0,
    duplicate        bigint NOT NULL DEFAULT 0,
    rejected         bigint NOT NULL DEFAULT 0,
    control          bigint NOT NULL DEFAULT 0,
    reasons          jsonb NOT NULL DEFAULT '{}',
    first_at_ns      bigint,
    last_at_ns       bigint,
    attempts         integer NOT NULL DEFAULT 0,
    error            text,
    -- every record that was read went somewhere
    CHECK (records_done = stored + revised + duplicate + rejected + control)
);
COMMENT ON COLUMN runs.total IS 'Records in the file, counted when it was verified';
COMMENT ON COLUMN runs.batch_records IS 'Where the file is cut into transactions; kept, so that a restart cuts it alike';
COMMENT ON COLUMN runs.records_done IS 'The cursor: the records before it are committed';
CREATE INDEX runs_waiting ON runs (created_at, run_id) WHERE status IN ('queued', 'running');
CREATE INDEX runs_newest ON runs (created_at DESC, run_id DESC);

CREATE TABLE corporate_actions (
    symbol      text NOT NULL,
    ex_date     date NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('split', 'dividend')),
    numerator   integer CHECK (numerator > 0),
    denominator integer CHECK (denominator > 0),
    amount      bigint CHECK (amount > 0),
    source      text NOT NULL,
    stated_by   text NOT NULL,
    stated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, ex_date, kind),
    CHECK ((kind = 'split') = (numerator IS NOT NULL AND denominator IS NOT NULL)),
    CHECK ((kind = 'dividend') = (amount IS NOT NULL))
);
COMMENT ON COLUMN corporate_actions.numerator IS 'New shares for each denominator old ones: 7 and 1 for a 7:1 split';
COMMENT ON COLUMN corporate_actions.amount IS 'Cash a share, 1e-9 dollars';
COMMENT ON COLUMN corporate_actions.ex_date IS 'The first New York session at the new price';
