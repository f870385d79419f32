-- What was stored when, coarsely: so that an answer about some stretch of time can be kept for as long as nothing of that
-- stretch has changed, and no longer. See ots_market.versions.

CREATE TABLE stored_changes (
    span       text NOT NULL CHECK (span IN ('quarter', 'day', 'month')),
    starts     timestamptz NOT NULL,
    table_name text NOT NULL,
    changed_us bigint NOT NULL,
    PRIMARY KEY (span, starts, table_name)
) WITH (fillfactor = 50);
COMMENT ON TABLE stored_changes IS 'When records of a stretch of event time were last stored, replaced or dropped, by table: quarters of an hour, and the days and months that they are in (UTC)';
COMMENT ON COLUMN stored_changes.changed_us IS 'Microseconds since 1970, but always more than before: no two states of a table have the same sum';

-- In the transaction that changes the rows, whose table's write lock its caller holds: so two writers never wait for each other
-- here. A batch of more days than four (history) counts as a change of the first quarter of each: whoever asks for any moment of
-- such a day sees it.
CREATE FUNCTION note_stored(p_table text, p_quarters timestamptz[]) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
    INSERT INTO stored_changes AS c (span, starts, table_name, changed_us)
    SELECT span, starts, p_table, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM (
        SELECT 'month' AS span, date_trunc('month', q) AS starts FROM unnest(p_quarters) q
        UNION
        SELECT 'day', date_trunc('day', q) FROM unnest(p_quarters) q
        UNION
        SELECT 'quarter', CASE WHEN days > 4 THEN date_trunc('day', q)
                               ELSE date_bin(interval '15 minutes', q, timestamptz '1970-01-01 00:00:00+00') END
        FROM unnest(p_quarters) q, (SELECT count(DISTINCT date_trunc('day', d)) AS days FROM unnest(p_quarters) d) counted
    ) touched ORDER BY span, starts
    ON CONFLICT (span, starts, table_name) DO UPDATE SET changed_us = greatest(c.changed_us + 1, excluded.changed_us)
$$;
REVOKE ALL ON FUNCTION note_stored FROM PUBLIC;

-- Dropped records are a change too. Otherwise as in 0001.
CREATE OR REPLACE FUNCTION drop_chunk(p_table text, p_chunk text, p_starts timestamptz, p_ends timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- whoever imports holds a lock on this table since open_chunks: with ours, nobody is between opening a chunk and writing
    LOCK TABLE kept_chunks IN SHARE MODE;
    IF is_kept(p_table, p_starts, p_ends) THEN
        RAISE lock_not_available USING MESSAGE = 'an import has just claimed the chunk';
    END IF;
    IF (SELECT flavour FROM time_tables WHERE table_name = p_table) = 'native' THEN
        EXECUTE format('DROP TABLE %s', p_chunk);
    ELSE
        PERFORM drop_chunks(p_table::regclass, older_than => p_ends, newer_than => p_starts);
    END IF;
    PERFORM note_stored(p_table, ARRAY(SELECT day FROM generate_series(p_starts, p_ends - interval '1 microsecond', interval '1 day') day));
END
$$;

-- Snapshots are written by a role that may write nothing else, so they note themselves.
CREATE FUNCTION note_snapshot() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM note_stored('volatility_snapshots', ARRAY[NEW.ts]);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION note_snapshot FROM PUBLIC;
CREATE TRIGGER noted AFTER INSERT OR UPDATE ON volatility_snapshots FOR EACH ROW EXECUTE FUNCTION note_snapshot();

-- What is said of an instrument has no time of its own: a later definition corrects what was guessed from a symbol, and a stock
-- that comes in by another dataset may be preferred to the one that answered. A row for each statement that did, so that writers
-- never wait for each other. (An option that is new has no record before it was.)
CREATE TABLE instrument_revisions (
    revision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revised_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE instrument_revisions IS 'Statements that changed instruments, or added one that is no option';
CREATE FUNCTION note_revised_instruments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM revised WHERE TG_OP = 'UPDATE' OR expiration IS NULL) THEN
        INSERT INTO instrument_revisions DEFAULT VALUES;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER revised AFTER UPDATE ON instruments REFERENCING NEW TABLE AS revised
    FOR EACH STATEMENT EXECUTE FUNCTION note_revised_instruments();
CREATE TRIGGER added AFTER INSERT ON instruments REFERENCING NEW TABLE AS revised
    FOR EACH STATEMENT EXECUTE FUNCTION note_revised_instruments();
