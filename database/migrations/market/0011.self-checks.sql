-- What is stored, counted as it is stored: rows and a checksum of their values, by table, dataset, schema and day. The self-check
-- compares that with the rows themselves: one that is gone, doubled or altered behind the back of ingestion shows.

CREATE TABLE stored_rows (
    table_name text    NOT NULL,
    dataset    text    NOT NULL,
    schema     text    NOT NULL,
    day        date    NOT NULL,
    rows       bigint  NOT NULL,
    checksum   numeric NOT NULL,
    changes    bigint  NOT NULL DEFAULT 1,
    dropped_at timestamptz,
    PRIMARY KEY (table_name, dataset, schema, day)
) WITH (fillfactor = 50);
COMMENT ON TABLE stored_rows IS 'Rows of each UTC day of the rows'' own time, as the transactions that stored them counted; of bars the vendor''s own';
COMMENT ON COLUMN stored_rows.checksum IS 'row_checksum of all their columns, modulo 2^64';
COMMENT ON COLUMN stored_rows.changes IS 'Grows with each transaction that stored some';
COMMENT ON COLUMN stored_rows.dropped_at IS 'When retention last dropped the rows of that day';

-- The sums of columns, each times a number of its own (odd: no change of one value leaves the checksum as it was), modulo 2^64.
-- A column of nothing but zeros and NULLs changes nothing. ots_ingestion.row_ledger does the same as the rows come.
CREATE FUNCTION row_checksum(p_names text[], p_sums numeric[]) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT mod(mod(coalesce(sum(value * factor), 0), 18446744073709551616) + 18446744073709551616, 18446744073709551616)
    FROM (SELECT value, ('x' || encode(substr(sha256(convert_to(name, 'UTF8')), 1, 6), 'hex'))::bit(48)::bigint | 1 AS factor
          FROM unnest(p_names, p_sums) AS given (name, value)) AS weighed
$$;

-- In the transaction that stores the rows, whose table's write lock its caller holds. Rows that replace others are counted as
-- what they are more.
CREATE FUNCTION note_rows(p_table text, p_schema text, p_instrument integer, p_days date[], p_rows bigint[], p_checksums numeric[])
RETURNS void LANGUAGE sql AS $$
    INSERT INTO stored_rows AS r (table_name, dataset, schema, day, rows, checksum)
    SELECT p_table, coalesce((SELECT dataset FROM instruments WHERE instrument_id = p_instrument), ''), p_schema, day, number, checksum
    FROM unnest(p_days, p_rows, p_checksums) AS given (day, number, checksum) ORDER BY day
    ON CONFLICT (table_name, dataset, schema, day) DO UPDATE SET rows = r.rows + excluded.rows,
        checksum = mod(r.checksum + excluded.checksum, 18446744073709551616), changes = r.changes + 1
$$;

-- The same of the rows that are there, all columns and (by the name '') how many of their values are not NULL. STABLE: it sees what the statement that asks sees.
CREATE FUNCTION count_rows(p_table text, p_starts timestamptz, p_ends timestamptz)
RETURNS TABLE (dataset text, schema text, day date, rows bigint, checksum numeric) LANGUAGE plpgsql STABLE SET timezone = 'UTC' AS $$
DECLARE
    v_schema text := CASE p_table WHEN 'trades' THEN 'trades' WHEN 'statistics' THEN 'statistics' WHEN 'definitions' THEN 'definition'
        WHEN 'bars_1m' THEN 'ohlcv-1m' WHEN 'bars_1h' THEN 'ohlcv-1h' WHEN 'bars_1d' THEN 'ohlcv-1d' END;
    v_sums   text;
    v_totals text;
    v_names  text[];
    v_every  text;
BEGIN
    SELECT string_agg(format(CASE WHEN atttypid = 'timestamptz'::regtype THEN 'sum(round(date_part(''epoch'', %I) * 1000000)::bigint) AS s%s'
                                  WHEN atttypid = 'bpchar'::regtype THEN 'sum(ascii(%I)) AS s%s'
                                  ELSE 'sum(%I) AS s%s' END, attname, attnum), ', ' ORDER BY attnum),
           string_agg(format('sum(s%s)', attnum), ', ' ORDER BY attnum), array_agg(attname::text ORDER BY attnum),
           string_agg(format('%I', attname), ', ' ORDER BY attnum)
    INTO v_sums, v_totals, v_names, v_every
    FROM pg_attribute WHERE attrelid = p_table::regclass AND attnum > 0 AND NOT attisdropped;
    RETURN QUERY EXECUTE format(
        'WITH counted AS (
             SELECT instrument_id, %1$s AS schema_id, (ts AT TIME ZONE ''UTC'')::date AS day, count(*) AS number,
                    sum(num_nonnulls(%2$s)) AS present, %3$s
             FROM %4$I WHERE ts >= $1 AND ts < $2 %5$s GROUP BY 1, 2, 3)
         SELECT coalesce(i.dataset, ''''), coalesce($3, s.name, ''''), c.day, sum(number)::bigint,
                row_checksum($4, ARRAY[sum(present), %6$s])
         FROM counted c LEFT JOIN instruments i USING (instrument_id) LEFT JOIN dbn_schemas s USING (schema_id) GROUP BY 1, 2, 3',
        CASE p_table WHEN 'quotes' THEN 'schema_id' ELSE 'NULL::smallint' END, v_every, v_sums, p_table,
        CASE WHEN p_table LIKE 'bars%' THEN 'AND origin = ''v''' ELSE '' END, v_totals
    ) USING p_starts, p_ends, v_schema, ARRAY[''] || v_names;
END
$$;

-- Minute bars that are not what the stored trades of a stretch make, by dataset: a bar that is missing, one too many, and one of
-- other values. Where the vendor's own bar is there, it is right whatever the trades say.
CREATE FUNCTION count_wrong_minutes(p_starts timestamptz, p_ends timestamptz)
RETURNS TABLE (dataset text, missing bigint, surplus bigint, altered bigint) LANGUAGE sql STABLE SET timezone = 'UTC' AS $$
    WITH made AS (
        SELECT instrument_id, date_trunc('minute', ts) AS ts, publisher_id, max(price) AS high, min(price) AS low, sum(size) AS volume,
               array_agg(price ORDER BY trades.ts, ts_ns, sequence, digest, ord) AS prices
        FROM trades WHERE trades.ts >= p_starts AND trades.ts < p_ends GROUP BY 1, 2, 3
    ), kept AS (
        SELECT * FROM bars_1m WHERE ts >= p_starts AND ts < p_ends
    ), compared AS (
        SELECT instrument_id, kept.origin IS NULL AS missing, made.prices IS NULL AND kept.origin = 't' AS surplus,
               kept.origin = 't' AND (kept.open, kept.high, kept.low, kept.close, kept.volume::numeric)
                   <> (made.prices[1], made.high, made.low, made.prices[cardinality(made.prices)], made.volume) AS altered
        FROM made FULL JOIN kept USING (instrument_id, ts, publisher_id)
    )
    SELECT coalesce(i.dataset, ''), count(*) FILTER (WHERE missing), count(*) FILTER (WHERE surplus), count(*) FILTER (WHERE altered)
    FROM compared LEFT JOIN instruments i USING (instrument_id) WHERE missing OR surplus OR altered GROUP BY 1
$$;

-- What is stored before anybody counted is taken as it is.
INSERT INTO stored_rows (table_name, dataset, schema, day, rows, checksum)
SELECT name, counted.*
FROM unnest(ARRAY['trades', 'quotes', 'statistics', 'definitions', 'bars_1m', 'bars_1h', 'bars_1d']) AS name,
     count_rows(name, '-infinity', 'infinity') AS counted;

-- Dropped rows are not missing. Otherwise as in 0009.
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
    -- and a row of no dataset for each day: bars that were built from trades are counted nowhere
    INSERT INTO stored_rows (table_name, dataset, schema, day, rows, checksum)
    SELECT p_table, '', '', day, 0, 0
    FROM generate_series(p_starts AT TIME ZONE 'UTC', (p_ends AT TIME ZONE 'UTC') - interval '1 day', interval '1 day') AS day
    ON CONFLICT DO NOTHING;
    UPDATE stored_rows SET rows = 0, checksum = 0, changes = changes + 1, dropped_at = now()
    WHERE table_name = p_table AND day >= (p_starts AT TIME ZONE 'UTC')::date AND day < (p_ends AT TIME ZONE 'UTC')::date;
    PERFORM note_stored(p_table, ARRAY(SELECT day FROM generate_series(p_starts, p_ends - interval '1 microsecond', interval '1 day') day));
END
$$;

CREATE TABLE self_checks (
    check_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    asked_by    text        NOT NULL,
    stretches   integer     NOT NULL,
    left_over   integer     NOT NULL,
    rows        bigint      NOT NULL,
    missing     bigint      NOT NULL,
    surplus     bigint      NOT NULL,
    altered     bigint      NOT NULL,
    schemas     jsonb       NOT NULL,
    differences jsonb       NOT NULL,
    CHECK (missing >= 0 AND surplus >= 0 AND altered >= 0)
);
COMMENT ON TABLE self_checks IS 'Each comparison of what is stored with what was counted as it was stored';
COMMENT ON COLUMN self_checks.stretches IS 'Days, or longer chunks of a table, that were compared';
COMMENT ON COLUMN self_checks.left_over IS 'Stretches that had changed and were more than one check may read: the next ones take them';
COMMENT ON COLUMN self_checks.altered IS 'Days with the right number of rows and other values in them, and bars that differ from their trades';
COMMENT ON COLUMN self_checks.schemas IS 'A list: dataset, schema, rows compared, missing, surplus, altered';
COMMENT ON COLUMN self_checks.differences IS 'A list, of every stretch whose last comparison differed: table, dataset, schema, day, counted, stored, missing, surplus, altered';

CREATE TABLE self_check_stretches (
    table_name  text        NOT NULL,
    starts      date        NOT NULL,
    changes     bigint      NOT NULL,
    checked_at  timestamptz NOT NULL,
    differences jsonb       NOT NULL,
    PRIMARY KEY (table_name, starts)
);
COMMENT ON TABLE self_check_stretches IS 'What was seen of each stretch when it was last compared: one that has changed since comes first, one that differed again and again';
COMMENT ON COLUMN self_check_stretches.starts IS 'The first day of a chunk of a time table; 1970-01-01 for all of bars_1d';
COMMENT ON COLUMN self_check_stretches.changes IS 'The sum of stored_rows.changes then, or before';
