-- The market database, made from database/migrations/market by
-- `python database/schema/generate.py`; a test keeps it current.

CREATE FUNCTION chunk_start(p_chunk interval, p_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT date_bin(p_chunk, p_at, timestamptz '1970-01-05 00:00:00+00')
$$;

CREATE FUNCTION count_rows(p_table text, p_starts timestamp with time zone, p_ends timestamp with time zone) RETURNS TABLE(dataset text, schema text, day date, rows bigint, checksum numeric)
    LANGUAGE plpgsql STABLE
    SET "TimeZone" TO 'UTC'
    AS $_$
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
$_$;

CREATE FUNCTION count_wrong_minutes(p_starts timestamp with time zone, p_ends timestamp with time zone) RETURNS TABLE(dataset text, missing bigint, surplus bigint, altered bigint)
    LANGUAGE sql STABLE
    SET "TimeZone" TO 'UTC'
    AS $$
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

CREATE FUNCTION drop_chunk(p_table text, p_chunk text, p_starts timestamp with time zone, p_ends timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION due_upkeep(p_now timestamp with time zone, p_ahead interval) RETURNS TABLE(table_name text, action text, detail text, command text)
    LANGUAGE sql STABLE
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO'
    AS $$
    WITH chunks AS (
        SELECT t.*, c.*, t.retain IS NOT NULL AND c.ends <= p_now - t.retain AND NOT is_kept(t.table_name, c.starts, c.ends) AS outlived
        FROM time_tables t, list_chunks(t.table_name) c
    ), steps AS (
        SELECT 1 AS turn, t.table_name, s AS starts, 'made' AS action, 'the partition from ' || s AS detail,
               format('SELECT open_chunks(%L, ARRAY[%L::timestamptz])', t.table_name, s) AS command
        FROM time_tables t, generate_series(chunk_start(t.chunk, p_now), p_now + p_ahead, t.chunk) s
        WHERE t.flavour = 'native' AND NOT EXISTS (SELECT FROM chunks c WHERE c.table_name = t.table_name AND c.starts = s)
        UNION ALL
        SELECT 2, c.table_name, c.starts, 'compressed', c.chunk_name, format('SELECT compress_chunk(%L)', c.chunk_name)
        FROM chunks c
        WHERE c.flavour = 'timescale' AND NOT c.compressed AND NOT c.outlived AND c.ends <= p_now - c.compress_after
        UNION ALL
        SELECT 3, c.table_name, c.starts, 'dropped', c.chunk_name,
               format('SELECT drop_chunk(%L, %L, %L, %L)', c.table_name, c.chunk_name, c.starts, c.ends)
        FROM chunks c WHERE c.outlived
    )
    SELECT table_name, action, detail, command FROM steps ORDER BY turn, table_name, starts
$$;

CREATE FUNCTION extend_signal_ledger() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION is_kept(p_table text, p_starts timestamp with time zone, p_ends timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    SET "TimeZone" TO 'UTC'
    AS $$
    SELECT EXISTS (SELECT FROM kept_chunks k JOIN time_tables t USING (table_name)
                   WHERE table_name = p_table AND k.starts < p_ends AND k.starts + t.chunk > p_starts)
$$;

CREATE FUNCTION list_chunks(p_table text) RETURNS TABLE(chunk_name text, starts timestamp with time zone, ends timestamp with time zone, compressed boolean)
    LANGUAGE plpgsql STABLE
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO'
    AS $$
BEGIN
    IF (SELECT flavour FROM time_tables t WHERE t.table_name = p_table) = 'native' THEN
        RETURN QUERY
            SELECT c.oid::regclass::text, bounds[1]::timestamptz, bounds[2]::timestamptz, false
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
                 regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds
            WHERE i.inhparent = to_regclass(quote_ident(p_table)) ORDER BY 2;
    ELSE
        RETURN QUERY EXECUTE format(
            'SELECT format(''%%I.%%I'', chunk_schema, chunk_name), range_start, range_end, is_compressed
             FROM timescaledb_information.chunks WHERE hypertable_name = %L ORDER BY range_start', p_table);
    END IF;
END
$$;

CREATE FUNCTION maintain_time_tables(p_now timestamp with time zone DEFAULT now(), p_ahead interval DEFAULT '3 days'::interval) RETURNS TABLE(table_name text, action text, detail text)
    LANGUAGE plpgsql
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '500ms'
    AS $$
DECLARE
    v_step record;
    v_busy text[] := '{}';
BEGIN
    FOR v_step IN SELECT * FROM due_upkeep(p_now, p_ahead) LOOP
        table_name := v_step.table_name;
        CONTINUE WHEN table_name = ANY (v_busy);
        BEGIN
            EXECUTE v_step.command;
            action := v_step.action;
            detail := v_step.detail;
        EXCEPTION WHEN lock_not_available THEN
            action := 'postponed';
            detail := v_step.detail || ', to be ' || v_step.action || ': ' || SQLERRM;
            v_busy := v_busy || table_name;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE FUNCTION make_time_table(p_table text, p_time_column text, p_chunk interval, p_segment_by text, p_order_by text, p_compress_after interval, p_retain interval) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_flavour text := time_table_flavour();
    v_shape   text := p_table || '__shape';
    v_index   text;
    v_filled  boolean;
BEGIN
    INSERT INTO time_tables VALUES (p_table, p_time_column, v_flavour, p_chunk, p_compress_after, p_retain);
    IF v_flavour = 'native' THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', p_table) INTO v_filled;
        IF v_filled THEN
            RAISE EXCEPTION 'table % is not empty', p_table;
        END IF;
        -- a plain table cannot become partitioned: make the partitioned one in its shape, and take its place and its names
        EXECUTE format('ALTER TABLE %I RENAME TO %I', p_table, v_shape);
        FOR v_index IN SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                       WHERE i.indrelid = quote_ident(v_shape)::regclass LOOP
            EXECUTE format('ALTER INDEX %I RENAME TO %I', v_index, v_index || '__shape');
        END LOOP;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) PARTITION BY RANGE (%I)', p_table, v_shape, p_time_column);
        EXECUTE format('COMMENT ON TABLE %I IS %L', p_table, obj_description(quote_ident(v_shape)::regclass, 'pg_class'));
        EXECUTE format('DROP TABLE %I', v_shape);
    ELSE
        EXECUTE format('SELECT create_hypertable(%L, %L, chunk_time_interval => %L::interval, create_default_indexes => false)',
                       p_table, p_time_column, p_chunk);
        IF v_flavour = 'timescale' THEN
            EXECUTE format('ALTER TABLE %I SET (timescaledb.compress, timescaledb.compress_segmentby = %L, timescaledb.compress_orderby = %L)',
                           p_table, p_segment_by, p_order_by);
        END IF;
    END IF;
    RETURN v_flavour;
END
$$;

COMMENT ON FUNCTION make_time_table(p_table text, p_time_column text, p_chunk interval, p_segment_by text, p_order_by text, p_compress_after interval, p_retain interval) IS 'Turn the empty plain table just made into a time table in this server''s flavour';

CREATE FUNCTION minutes_version(p_span text, p_starts timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(sum(changed_us), 0)::bigint FROM stored_changes
    WHERE span = p_span AND starts = p_starts AND table_name IN ('bars_1m', 'trades')
$$;

CREATE FUNCTION note_revised_instruments() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM revised WHERE TG_OP = 'UPDATE' OR expiration IS NULL) THEN
        INSERT INTO instrument_revisions DEFAULT VALUES;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION note_rows(p_table text, p_schema text, p_instrument integer, p_days date[], p_rows bigint[], p_checksums numeric[]) RETURNS void
    LANGUAGE sql
    AS $$
    INSERT INTO stored_rows AS r (table_name, dataset, schema, day, rows, checksum)
    SELECT p_table, coalesce((SELECT dataset FROM instruments WHERE instrument_id = p_instrument), ''), p_schema, day, number, checksum
    FROM unnest(p_days, p_rows, p_checksums) AS given (day, number, checksum) ORDER BY day
    ON CONFLICT (table_name, dataset, schema, day) DO UPDATE SET rows = r.rows + excluded.rows,
        checksum = mod(r.checksum + excluded.checksum, 18446744073709551616), changes = r.changes + 1
$$;

CREATE FUNCTION note_snapshot() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    PERFORM note_stored('volatility_snapshots', ARRAY[NEW.ts]);
    RETURN NULL;
END
$$;

CREATE FUNCTION note_stored(p_table text, p_quarters timestamp with time zone[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
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

CREATE FUNCTION open_chunks(p_table text, p_moments timestamp with time zone[], p_keep boolean DEFAULT false) RETURNS integer
    LANGUAGE plpgsql
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO'
    AS $$
DECLARE
    v_entry time_tables%ROWTYPE;
    v_start timestamptz;
    v_part  text;
    v_made  integer := 0;
BEGIN
    SELECT * INTO STRICT v_entry FROM time_tables WHERE table_name = p_table;
    FOR v_start IN SELECT DISTINCT chunk_start(v_entry.chunk, m) FROM unnest(p_moments) m ORDER BY 1 LOOP
        IF p_keep THEN
            INSERT INTO kept_chunks VALUES (p_table, v_start) ON CONFLICT DO NOTHING;
        END IF;
        CONTINUE WHEN v_entry.flavour <> 'native';
        -- asked of the table pg_class, not of to_regclass: that may answer from a cache as old as this transaction
        v_part := format('%s_p%s', p_table, to_char(v_start, 'YYYYMMDD'));
        CONTINUE WHEN EXISTS (SELECT FROM pg_class WHERE relname = v_part AND relnamespace = current_schema()::regnamespace);
        -- one maker of a table's partitions at a time; whoever waited looks again. Always after the locks of tables opened
        -- before, so that writers who open tables in one order never wait for each other in a circle
        PERFORM pg_advisory_xact_lock(hashtext('open_chunks ' || p_table));
        CONTINUE WHEN EXISTS (SELECT FROM pg_class WHERE relname = v_part AND relnamespace = current_schema()::regnamespace);
        -- made apart and attached: that locks the parent less than CREATE ... PARTITION OF, so readers go on
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', v_part, p_table);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', p_table, v_part, v_start, v_start + v_entry.chunk);
        v_made := v_made + 1;
    END LOOP;
    IF v_entry.flavour = 'timescale' THEN
        -- into compressed chunks 4,000 to 9,000 rows a second were written (measured), and no transaction may revise more
        -- than 100,000 there; maintenance compresses them again
        PERFORM decompress_chunk(c.chunk_name::regclass, if_compressed => true) FROM list_chunks(p_table) c
        WHERE c.compressed AND EXISTS (SELECT FROM unnest(p_moments) m WHERE m >= c.starts AND m < c.ends);
    END IF;
    RETURN v_made;
END
$$;

CREATE FUNCTION open_volatility_chunks(p_moment timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    PERFORM open_chunks('volatility_snapshots', ARRAY[p_moment]);
    PERFORM open_chunks('volatility_expirations', ARRAY[p_moment]);
    PERFORM open_chunks('volatility_contracts', ARRAY[p_moment]);
END
$$;

CREATE FUNCTION row_checksum(p_names text[], p_sums numeric[]) RETURNS numeric
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT mod(mod(coalesce(sum(value * factor), 0), 18446744073709551616) + 18446744073709551616, 18446744073709551616)
    FROM (SELECT value, ('x' || encode(substr(sha256(convert_to(name, 'UTF8')), 1, 6), 'hex'))::bit(48)::bigint | 1 AS factor
          FROM unnest(p_names, p_sums) AS given (name, value)) AS weighed
$$;

CREATE FUNCTION signal_ledger_is_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = 'rows of the ledger are only ever added';
END
$$;

CREATE FUNCTION time_table_flavour() RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT CASE
        WHEN current_setting('ots.time_table_flavour', true) = 'native' THEN 'native'
        WHEN NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN 'native'
        WHEN current_setting('timescaledb.license', true) = 'timescale' THEN 'timescale'
        ELSE 'timescale-apache'
    END
$$;

CREATE TABLE applied_migrations (
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE backfill_parts (
    part_id bigint NOT NULL,
    backfill_id uuid NOT NULL,
    rank integer NOT NULL,
    dataset text NOT NULL,
    schema text NOT NULL,
    stype_in text NOT NULL,
    symbols text[] NOT NULL,
    starts_ns bigint NOT NULL,
    ends_ns bigint NOT NULL,
    estimated_records bigint NOT NULL,
    status text DEFAULT 'waiting'::text NOT NULL,
    holder text,
    attempts integer DEFAULT 0 NOT NULL,
    cuts integer DEFAULT 0 NOT NULL,
    retry_at timestamp with time zone,
    expected bigint,
    received bigint,
    bytes bigint,
    cost_usd double precision DEFAULT 0 NOT NULL,
    run_id uuid,
    error_kind text,
    error text,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    CONSTRAINT backfill_parts_check CHECK ((starts_ns < ends_ns)),
    CONSTRAINT backfill_parts_check1 CHECK (((status <> ALL (ARRAY['storing'::text, 'done'::text])) OR ((expected IS NOT NULL) AND (received = expected)))),
    CONSTRAINT backfill_parts_check2 CHECK (((status <> 'storing'::text) OR (run_id IS NOT NULL))),
    CONSTRAINT backfill_parts_status_check CHECK ((status = ANY (ARRAY['waiting'::text, 'downloading'::text, 'storing'::text, 'done'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT backfill_parts_stype_in_check CHECK ((stype_in = ANY (ARRAY['raw_symbol'::text, 'parent'::text])))
);

COMMENT ON TABLE backfill_parts IS 'One download each: [starts_ns, ends_ns) of index time, of one schema and some symbols';

COMMENT ON COLUMN backfill_parts.holder IS 'The attempt that downloads it; a later attempt takes its place, and the earlier one''s file is dropped';

COMMENT ON COLUMN backfill_parts.cuts IS 'Downloads that were not whole, and runs that failed: only so many are tried again';

COMMENT ON COLUMN backfill_parts.expected IS 'The vendor''s own count of the records (metadata.get_record_count)';

COMMENT ON COLUMN backfill_parts.run_id IS 'The run that stores it; NULL where there was nothing to store';

ALTER TABLE backfill_parts ALTER COLUMN part_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME backfill_parts_part_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE backfills (
    backfill_id uuid NOT NULL,
    fingerprint text NOT NULL,
    origin text NOT NULL,
    requested_by text NOT NULL,
    wanted jsonb NOT NULL,
    notes text[] DEFAULT '{}'::text[] NOT NULL,
    starts_ns bigint NOT NULL,
    ends_ns bigint NOT NULL,
    status text DEFAULT 'queued'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    estimated_usd double precision NOT NULL,
    estimated_records bigint NOT NULL,
    estimated_bytes bigint NOT NULL,
    max_cost_usd double precision NOT NULL,
    spent_usd double precision DEFAULT 0 NOT NULL,
    gap_id bigint,
    error text,
    hint text,
    CONSTRAINT backfills_check CHECK ((starts_ns < ends_ns)),
    CONSTRAINT backfills_estimated_bytes_check CHECK ((estimated_bytes >= 0)),
    CONSTRAINT backfills_estimated_records_check CHECK ((estimated_records >= 0)),
    CONSTRAINT backfills_estimated_usd_check CHECK ((estimated_usd >= (0)::double precision)),
    CONSTRAINT backfills_max_cost_usd_check CHECK ((max_cost_usd >= (0)::double precision)),
    CONSTRAINT backfills_origin_check CHECK ((origin = ANY (ARRAY['request'::text, 'first-start'::text, 'repair'::text]))),
    CONSTRAINT backfills_spent_usd_check CHECK ((spent_usd >= (0)::double precision)),
    CONSTRAINT backfills_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'failed'::text, 'cancelled'::text])))
);

COMMENT ON COLUMN backfills.fingerprint IS 'Of the question; the same question again is the same backfill, which goes on where it was';

COMMENT ON COLUMN backfills.wanted IS 'A list: dataset, schema, stype_in, symbols, number of windows, estimate of each';

COMMENT ON COLUMN backfills.max_cost_usd IS 'No download is started that could bring spent_usd above it; Infinity where history is free';

COMMENT ON COLUMN backfills.spent_usd IS 'The vendor''s price of every download that was begun, repeated ones included';

CREATE TABLE bars_1d (
    instrument_id integer CONSTRAINT bars_1m_instrument_id_not_null NOT NULL,
    ts timestamp with time zone CONSTRAINT bars_1m_ts_not_null NOT NULL,
    publisher_id integer CONSTRAINT bars_1m_publisher_id_not_null NOT NULL,
    open bigint CONSTRAINT bars_1m_open_not_null NOT NULL,
    high bigint CONSTRAINT bars_1m_high_not_null NOT NULL,
    low bigint CONSTRAINT bars_1m_low_not_null NOT NULL,
    close bigint CONSTRAINT bars_1m_close_not_null NOT NULL,
    volume bigint CONSTRAINT bars_1m_volume_not_null NOT NULL,
    origin character(1) CONSTRAINT bars_1m_origin_not_null NOT NULL,
    CONSTRAINT bars_1m_origin_check CHECK ((origin = ANY (ARRAY['v'::bpchar, 't'::bpchar])))
);

COMMENT ON TABLE bars_1d IS 'The vendor''s daily bars, each a UTC day; too few for chunks';

COMMENT ON COLUMN bars_1d.ts IS 'The start of the minute';

COMMENT ON COLUMN bars_1d.origin IS 'v: the vendor''s own bar; t: built from stored trades. The vendor''s wins';

CREATE TABLE bars_1h (
    instrument_id integer CONSTRAINT bars_1m_instrument_id_not_null NOT NULL,
    ts timestamp with time zone CONSTRAINT bars_1m_ts_not_null NOT NULL,
    publisher_id integer CONSTRAINT bars_1m_publisher_id_not_null NOT NULL,
    open bigint CONSTRAINT bars_1m_open_not_null NOT NULL,
    high bigint CONSTRAINT bars_1m_high_not_null NOT NULL,
    low bigint CONSTRAINT bars_1m_low_not_null NOT NULL,
    close bigint CONSTRAINT bars_1m_close_not_null NOT NULL,
    volume bigint CONSTRAINT bars_1m_volume_not_null NOT NULL,
    origin character(1) CONSTRAINT bars_1m_origin_not_null NOT NULL,
    CONSTRAINT bars_1m_origin_check CHECK ((origin = ANY (ARRAY['v'::bpchar, 't'::bpchar])))
)
PARTITION BY RANGE (ts);

COMMENT ON COLUMN bars_1h.ts IS 'The start of the minute';

COMMENT ON COLUMN bars_1h.origin IS 'v: the vendor''s own bar; t: built from stored trades. The vendor''s wins';

CREATE TABLE bars_1m (
    instrument_id integer NOT NULL,
    ts timestamp with time zone NOT NULL,
    publisher_id integer NOT NULL,
    open bigint NOT NULL,
    high bigint NOT NULL,
    low bigint NOT NULL,
    close bigint NOT NULL,
    volume bigint NOT NULL,
    origin character(1) NOT NULL,
    CONSTRAINT bars_1m_origin_check CHECK ((origin = ANY (ARRAY['v'::bpchar, 't'::bpchar])))
)
PARTITION BY RANGE (ts);

COMMENT ON COLUMN bars_1m.ts IS 'The start of the minute';

COMMENT ON COLUMN bars_1m.origin IS 'v: the vendor''s own bar; t: built from stored trades. The vendor''s wins';

CREATE TABLE collection_cursors (
    dataset text NOT NULL,
    spool_id text NOT NULL,
    connection bigint NOT NULL,
    part integer NOT NULL,
    "position" bigint NOT NULL,
    ended boolean NOT NULL,
    stopped boolean NOT NULL,
    broken boolean NOT NULL,
    repeats bytea NOT NULL,
    moved_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE collection_cursors IS 'How far each spool is stored; moved in the transaction of the rows';

COMMENT ON COLUMN collection_cursors."position" IS 'Bytes of this part of this connection that are stored';

COMMENT ON COLUMN collection_cursors.ended IS 'Everything of this connection is stored, and its end is in the gap ledger';

COMMENT ON COLUMN collection_cursors.stopped IS 'It ended because no more was wanted: what came later is not missing';

COMMENT ON COLUMN collection_cursors.broken IS 'The feed skipped records in this connection: what came later does not move resume_ns';

COMMENT ON COLUMN collection_cursors.repeats IS 'What the counters of equal records knew here';

CREATE TABLE collection_pending_gaps (
    gap_id bigint NOT NULL,
    dataset text NOT NULL,
    schema text NOT NULL
);

COMMENT ON TABLE collection_pending_gaps IS 'Gaps that the feed''s replay, going on or still to come, will close';

CREATE TABLE collection_schemas (
    dataset text NOT NULL,
    schema text NOT NULL,
    resume_ns bigint,
    last_ns bigint,
    records bigint DEFAULT 0 NOT NULL,
    replayed bigint DEFAULT 0 NOT NULL
);

COMMENT ON COLUMN collection_schemas.resume_ns IS 'Index time up to which everything that came is stored: a replay begins here';

COMMENT ON COLUMN collection_schemas.last_ns IS 'The newest index time stored';

COMMENT ON COLUMN collection_schemas.replayed IS 'Records newly stored since the oldest pending gap opened';

CREATE TABLE collection_states (
    dataset text NOT NULL,
    state text NOT NULL,
    since timestamp with time zone NOT NULL,
    reason text,
    hint text,
    attempts integer DEFAULT 0 NOT NULL,
    next_retry_at timestamp with time zone,
    holder text NOT NULL,
    session_id text,
    connections bigint DEFAULT 0 NOT NULL,
    received bigint DEFAULT 0 NOT NULL,
    last_received_at timestamp with time zone,
    spool_bytes bigint DEFAULT 0 NOT NULL,
    store_error text,
    clock_offset_ns bigint DEFAULT 0 NOT NULL,
    reported_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT collection_states_state_check CHECK ((state = ANY (ARRAY['stopped'::text, 'waiting'::text, 'connecting'::text, 'authenticating'::text, 'subscribing'::text, 'replaying'::text, 'streaming'::text, 'mute'::text, 'backing_off'::text, 'failed'::text, 'disk_full'::text])))
);

COMMENT ON TABLE collection_states IS 'As the collector that holds the dataset''s lease last reported it';

COMMENT ON COLUMN collection_states.clock_offset_ns IS 'The feed''s clock less ours: 0, but for a tape';

CREATE TABLE collections (
    dataset text NOT NULL,
    wanted boolean NOT NULL,
    stype_in text NOT NULL,
    symbols text[] NOT NULL,
    schemas text[] NOT NULL,
    notes text[] DEFAULT '{}'::text[] NOT NULL,
    replay_from_ns bigint,
    revision bigint DEFAULT 1 NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT collections_stype_in_check CHECK ((stype_in = ANY (ARRAY['raw_symbol'::text, 'parent'::text])))
);

COMMENT ON TABLE collections IS 'What was asked for last, a row a dataset; it lasts over restarts';

COMMENT ON COLUMN collections.schemas IS 'As subscribed: Databento''s names, definition first';

COMMENT ON COLUMN collections.notes IS 'Where what is subscribed is not what was asked: tbbo became tcbbo';

COMMENT ON COLUMN collections.replay_from_ns IS 'Where a schema that was never collected begins; NULL: now';

COMMENT ON COLUMN collections.revision IS 'Grows with each change, so that the collector sees it';

CREATE TABLE corporate_actions (
    symbol text NOT NULL,
    ex_date date NOT NULL,
    kind text NOT NULL,
    numerator integer,
    denominator integer,
    amount bigint,
    source text NOT NULL,
    stated_by text NOT NULL,
    stated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT corporate_actions_amount_check CHECK ((amount > 0)),
    CONSTRAINT corporate_actions_check CHECK (((kind = 'split'::text) = ((numerator IS NOT NULL) AND (denominator IS NOT NULL)))),
    CONSTRAINT corporate_actions_check1 CHECK (((kind = 'dividend'::text) = (amount IS NOT NULL))),
    CONSTRAINT corporate_actions_denominator_check CHECK ((denominator > 0)),
    CONSTRAINT corporate_actions_kind_check CHECK ((kind = ANY (ARRAY['split'::text, 'dividend'::text]))),
    CONSTRAINT corporate_actions_numerator_check CHECK ((numerator > 0))
);

COMMENT ON COLUMN corporate_actions.ex_date IS 'The first New York session at the new price';

COMMENT ON COLUMN corporate_actions.numerator IS 'New shares for each denominator old ones: 7 and 1 for a 7:1 split';

COMMENT ON COLUMN corporate_actions.amount IS 'Cash a share, 1e-9 dollars';

CREATE TABLE dbn_schemas (
    schema_id smallint NOT NULL,
    name text NOT NULL
);

COMMENT ON TABLE dbn_schemas IS 'Databento''s numbers of its schemas (dbn::enums::Schema)';

CREATE TABLE dead_letters (
    dead_letter_id bigint NOT NULL,
    dataset text NOT NULL,
    schema text NOT NULL,
    reason text NOT NULL,
    origin text NOT NULL,
    records bytea NOT NULL,
    ords integer[],
    number integer NOT NULL,
    whole boolean NOT NULL,
    digest bytea NOT NULL,
    first_at_ns bigint,
    buried_at timestamp with time zone DEFAULT now() NOT NULL,
    seen integer DEFAULT 1 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    tried_at timestamp with time zone,
    stored bigint DEFAULT 0 NOT NULL,
    note text,
    replayed_at timestamp with time zone
);

COMMENT ON TABLE dead_letters IS 'Records that could not be stored, byte for byte, until a replay stores them';

COMMENT ON COLUMN dead_letters.records IS 'DBN records one after the other; emptied once they are stored';

COMMENT ON COLUMN dead_letters.ords IS 'The rank of each record among its equals where it came from (see trades.ord); NULL: to be counted on replay';

COMMENT ON COLUMN dead_letters.whole IS 'False: the bytes are not whole records, and no replay can read them';

COMMENT ON COLUMN dead_letters.seen IS 'How often the same bytes came for the same reason';

ALTER TABLE dead_letters ALTER COLUMN dead_letter_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME dead_letters_dead_letter_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE definitions (
    instrument_id integer NOT NULL,
    ts timestamp with time zone NOT NULL,
    ts_ns smallint NOT NULL,
    digest bigint NOT NULL,
    ord integer NOT NULL,
    vendor_id bigint NOT NULL,
    instrument_class character(1) NOT NULL,
    expiration_at_ns bigint,
    activation_at_ns bigint,
    strike bigint,
    contract_multiplier integer,
    min_price_increment bigint,
    update_action character(1) NOT NULL,
    publisher_id integer NOT NULL,
    recv_at_ns bigint NOT NULL
)
PARTITION BY RANGE (ts);

COMMENT ON TABLE definitions IS 'Every definition record, dated: which contracts existed when';

COMMENT ON COLUMN definitions.ts IS 'When the vendor received it (ts_recv): a definition holds for the day it was delivered';

COMMENT ON COLUMN definitions.contract_multiplier IS 'As delivered; OPRA leaves it undefined, which means 100';

CREATE TABLE gaps (
    gap_id bigint NOT NULL,
    dataset text NOT NULL,
    schema text NOT NULL,
    symbol text,
    starts_ns bigint NOT NULL,
    ends_ns bigint,
    evidence text NOT NULL,
    detail text NOT NULL,
    opened_at timestamp with time zone DEFAULT now() NOT NULL,
    closed_at timestamp with time zone,
    closed_by text,
    found bigint,
    repair_attempts integer DEFAULT 0 NOT NULL,
    repair_after timestamp with time zone,
    repair_job text,
    repair_note text,
    CONSTRAINT gaps_check CHECK ((starts_ns < ends_ns)),
    CONSTRAINT gaps_check1 CHECK ((((closed_at IS NULL) = (closed_by IS NULL)) AND ((closed_at IS NULL) = (found IS NULL)))),
    CONSTRAINT gaps_check2 CHECK (((closed_at IS NULL) OR (ends_ns IS NOT NULL))),
    CONSTRAINT gaps_closed_by_check CHECK ((closed_by = ANY (ARRAY['replay'::text, 'backfill'::text, 'session'::text]))),
    CONSTRAINT gaps_evidence_check CHECK ((evidence = ANY (ARRAY['disconnect'::text, 'skipped'::text, 'mute'::text, 'aged-out'::text, 'heartbeat'::text, 'sequence'::text, 'session'::text, 'restart'::text, 'disk-full'::text]))),
    CONSTRAINT gaps_found_check CHECK ((found >= 0))
);

COMMENT ON TABLE gaps IS 'Intervals [starts_ns, ends_ns) of which records may be missing, each with its evidence, until they are found';

COMMENT ON COLUMN gaps.symbol IS 'A ticker, or a parent such as AAPL.OPT; NULL: everything that is collected of that dataset and schema';

COMMENT ON COLUMN gaps.ends_ns IS 'NULL: not over yet';

COMMENT ON COLUMN gaps.found IS 'Records that the closing brought in; 0: nothing had been missing';

COMMENT ON COLUMN gaps.repair_after IS 'Not to be asked of history again before';

ALTER TABLE gaps ALTER COLUMN gap_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME gaps_gap_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE instrument_revisions (
    revision_id bigint NOT NULL,
    revised_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE instrument_revisions IS 'Statements that changed instruments, or added one that is no option';

ALTER TABLE instrument_revisions ALTER COLUMN revision_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME instrument_revisions_revision_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE instruments (
    instrument_id integer NOT NULL,
    dataset text NOT NULL,
    raw_symbol text NOT NULL,
    underlying text NOT NULL,
    expiration date,
    strike bigint,
    "right" character(1),
    multiplier integer,
    CONSTRAINT instruments_check CHECK ((((expiration IS NULL) = ("right" IS NULL)) AND ((strike IS NULL) = ("right" IS NULL)))),
    CONSTRAINT instruments_right_check CHECK (("right" = ANY (ARRAY['C'::bpchar, 'P'::bpchar])))
);

COMMENT ON TABLE instruments IS 'Our own lasting ids: the vendor''s change daily and are used again';

COMMENT ON COLUMN instruments.underlying IS 'For options the underlying''s symbol; for anything else its own';

COMMENT ON COLUMN instruments.expiration IS 'The date: an option lives until that session''s close';

ALTER TABLE instruments ALTER COLUMN instrument_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME instruments_instrument_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE kept_chunks (
    table_name text NOT NULL,
    starts timestamp with time zone NOT NULL
);

COMMENT ON TABLE kept_chunks IS 'Chunks that retention leaves alone, because something in them was imported';

CREATE TABLE packed_bars (
    instrument_id integer NOT NULL,
    starts timestamp with time zone NOT NULL,
    span text NOT NULL,
    ends timestamp with time zone NOT NULL,
    version bigint NOT NULL,
    layout smallint NOT NULL,
    rows integer NOT NULL,
    moments integer NOT NULL,
    packed bytea NOT NULL,
    CONSTRAINT packed_bars_span_check CHECK ((span = ANY (ARRAY['day'::text, 'month'::text])))
);
ALTER TABLE ONLY packed_bars ALTER COLUMN packed SET STORAGE EXTERNAL;

COMMENT ON TABLE packed_bars IS 'The rows of bars_1m of an instrument and a stretch [starts, ends) as arrays; copies that may be deleted at any time';

COMMENT ON COLUMN packed_bars.version IS 'minutes_version of the stretch when it was read; of another version by now: not to be used';

COMMENT ON COLUMN packed_bars.layout IS 'How packed is to be read: ots_market.packed_bars.LAYOUT';

COMMENT ON COLUMN packed_bars.moments IS 'Minutes that have a bar; fewer than rows where several venues have one';

CREATE TABLE price_latest (
    instrument_id integer NOT NULL,
    ts timestamp with time zone NOT NULL,
    ts_ns smallint NOT NULL,
    sequence bigint NOT NULL,
    price bigint NOT NULL,
    size bigint,
    kind text NOT NULL,
    CONSTRAINT price_latest_kind_check CHECK ((kind = ANY (ARRAY['trade'::text, 'bar'::text])))
);

COMMENT ON TABLE price_latest IS 'The newest stored price of each instrument: a trade, or a bar''s close at the bar''s end';

CREATE TABLE quote_latest (
    instrument_id integer NOT NULL,
    ts timestamp with time zone NOT NULL,
    ts_ns smallint NOT NULL,
    sequence bigint NOT NULL,
    bid bigint,
    ask bigint,
    bid_size bigint,
    ask_size bigint,
    schema_id smallint NOT NULL
);

COMMENT ON TABLE quote_latest IS 'The newest stored quote of each instrument, maintained on the way in';

CREATE TABLE quotes (
    instrument_id integer NOT NULL,
    ts timestamp with time zone NOT NULL,
    ts_ns smallint NOT NULL,
    digest bigint NOT NULL,
    ord integer NOT NULL,
    schema_id smallint NOT NULL,
    sequence bigint NOT NULL,
    bid bigint,
    ask bigint,
    bid_size bigint,
    ask_size bigint,
    bid_detail bigint NOT NULL,
    ask_detail bigint NOT NULL,
    price bigint,
    size bigint,
    side character(1) NOT NULL,
    action character(1) NOT NULL,
    flags smallint NOT NULL,
    depth smallint NOT NULL,
    publisher_id integer NOT NULL,
    event_at_ns bigint,
    recv_at_ns bigint NOT NULL,
    ts_in_delta integer NOT NULL
)
PARTITION BY RANGE (ts);

COMMENT ON COLUMN quotes.ts IS 'The quote''s own time: the end of the interval of a sampled quote (ts_recv), else ts_event';

COMMENT ON COLUMN quotes.bid_detail IS 'Consolidated schemas: the publisher of the best bid; others: the number of orders';

COMMENT ON COLUMN quotes.price IS 'The trade (tbbo, tcbbo, mbp-1 with action T) or the last trade (sampled quotes)';

COMMENT ON COLUMN quotes.event_at_ns IS 'ts_event; sampled quotes: the last trade''s, NULL before the first';

CREATE TABLE rate_curves (
    curve_id bigint NOT NULL,
    curve_date date NOT NULL,
    source text NOT NULL,
    known_at timestamp with time zone NOT NULL,
    stated_by text NOT NULL,
    stated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE rate_curves IS 'Interest rate curves as they were stated; a revision is a row of its own, nothing is overwritten';

COMMENT ON COLUMN rate_curves.known_at IS 'From when on it was public: no earlier as_of may use it';

ALTER TABLE rate_curves ALTER COLUMN curve_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rate_curves_curve_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE rate_points (
    curve_id bigint NOT NULL,
    days integer NOT NULL,
    rate double precision NOT NULL,
    compounding text NOT NULL,
    CONSTRAINT rate_points_compounding_check CHECK ((compounding = ANY (ARRAY['continuous'::text, 'annual'::text, 'semiannual'::text, 'simple'::text, 'simple-360'::text]))),
    CONSTRAINT rate_points_days_check CHECK ((days > 0)),
    CONSTRAINT rate_points_rate_check CHECK (((rate >= ('-0.05'::numeric)::double precision) AND (rate <= (0.5)::double precision)))
);

COMMENT ON COLUMN rate_points.days IS 'Calendar days from the curve''s date';

CREATE TABLE runs (
    run_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    status text DEFAULT 'queued'::text NOT NULL,
    requested_by text NOT NULL,
    spool_file text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    dataset text NOT NULL,
    schema text,
    total bigint NOT NULL,
    batch_records integer NOT NULL,
    records_done bigint DEFAULT 0 NOT NULL,
    stored bigint DEFAULT 0 NOT NULL,
    revised bigint DEFAULT 0 NOT NULL,
    duplicate bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    control bigint DEFAULT 0 NOT NULL,
    reasons jsonb DEFAULT '{}'::jsonb NOT NULL,
    first_at_ns bigint,
    last_at_ns bigint,
    attempts integer DEFAULT 0 NOT NULL,
    error text,
    keep boolean DEFAULT true NOT NULL,
    CONSTRAINT runs_check CHECK ((records_done = ((((stored + revised) + duplicate) + rejected) + control))),
    CONSTRAINT runs_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'failed'::text])))
);

COMMENT ON COLUMN runs.total IS 'Records in the file, counted when it was verified';

COMMENT ON COLUMN runs.batch_records IS 'Where the file is cut into transactions; kept, so that a restart cuts it alike';

COMMENT ON COLUMN runs.records_done IS 'The cursor: the records before it are committed';

COMMENT ON COLUMN runs.keep IS 'Whether its rows are exempt from retention: what a person brought in is, repairs are not';

CREATE TABLE self_check_stretches (
    table_name text NOT NULL,
    starts date NOT NULL,
    changes bigint NOT NULL,
    checked_at timestamp with time zone NOT NULL,
    differences jsonb NOT NULL
);

COMMENT ON TABLE self_check_stretches IS 'What was seen of each stretch when it was last compared: one that has changed since comes first, one that differed again and again';

COMMENT ON COLUMN self_check_stretches.starts IS 'The first day of a chunk of a time table; 1970-01-01 for all of bars_1d';

COMMENT ON COLUMN self_check_stretches.changes IS 'The sum of stored_rows.changes then, or before';

CREATE TABLE self_checks (
    check_id bigint NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    asked_by text NOT NULL,
    stretches integer NOT NULL,
    left_over integer NOT NULL,
    rows bigint NOT NULL,
    missing bigint NOT NULL,
    surplus bigint NOT NULL,
    altered bigint NOT NULL,
    schemas jsonb NOT NULL,
    differences jsonb NOT NULL,
    CONSTRAINT self_checks_check CHECK (((missing >= 0) AND (surplus >= 0) AND (altered >= 0)))
);

COMMENT ON TABLE self_checks IS 'Each comparison of what is stored with what was counted as it was stored';

COMMENT ON COLUMN self_checks.stretches IS 'Days, or longer chunks of a table, that were compared';

COMMENT ON COLUMN self_checks.left_over IS 'Stretches that had changed and were more than one check may read: the next ones take them';

COMMENT ON COLUMN self_checks.altered IS 'Days with the right number of rows and other values in them, and bars that differ from their trades';

COMMENT ON COLUMN self_checks.schemas IS 'A list: dataset, schema, rows compared, missing, surplus, altered';

COMMENT ON COLUMN self_checks.differences IS 'A list, of every stretch whose last comparison differed: table, dataset, schema, day, counted, stored, missing, surplus, altered';

ALTER TABLE self_checks ALTER COLUMN check_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME self_checks_check_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE signal_backtests (
    backtest_id text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    request jsonb NOT NULL,
    state text DEFAULT 'queued'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    error text,
    report text,
    page text,
    CONSTRAINT signal_backtests_check CHECK (((state = 'done'::text) = (report IS NOT NULL))),
    CONSTRAINT signal_backtests_check1 CHECK (((state = ANY (ARRAY['done'::text, 'failed'::text, 'cancelled'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT signal_backtests_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'failed'::text, 'cancelled'::text])))
);

COMMENT ON TABLE signal_backtests IS 'Asked for over HTTP, run one at a time by the worker of signals';

CREATE TABLE signal_cursors (
    underlying text NOT NULL,
    event_ns bigint NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    retry_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    error text,
    moved_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE signal_cursors IS 'How far each underlying is decided; whoever decides holds the row locked, and moves it in the transaction that adds what was decided';

COMMENT ON COLUMN signal_cursors.event_ns IS 'Minute bars that closed up to then are decided';

COMMENT ON COLUMN signal_cursors.attempts IS 'How often the next one was tried in vain';

CREATE TABLE signal_ledger (
    seq bigint NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL,
    body text NOT NULL,
    kind text GENERATED ALWAYS AS (((body)::jsonb ->> 'kind'::text)) STORED NOT NULL,
    id text GENERATED ALWAYS AS (((body)::jsonb ->> 'id'::text)) STORED NOT NULL,
    decided_ns bigint GENERATED ALWAYS AS ((((body)::jsonb ->> 'decided_ns'::text))::bigint) STORED NOT NULL,
    committed_ns bigint GENERATED ALWAYS AS ((((body)::jsonb ->> 'committed_ns'::text))::bigint) STORED NOT NULL,
    strategy text GENERATED ALWAYS AS (((body)::jsonb #>> '{record,strategy}'::text[])) STORED,
    underlying text GENERATED ALWAYS AS (((body)::jsonb #>> '{record,underlying}'::text[])) STORED,
    session text GENERATED ALWAYS AS (((body)::jsonb #>> '{record,session}'::text[])) STORED,
    event_ns bigint GENERATED ALWAYS AS ((((body)::jsonb #>> '{record,event_ns}'::text[]))::bigint) STORED,
    strategy_version text GENERATED ALWAYS AS (((body)::jsonb #>> '{record,strategy_version}'::text[])) STORED,
    mode text GENERATED ALWAYS AS (((body)::jsonb #>> '{record,mode}'::text[])) STORED,
    direction smallint GENERATED ALWAYS AS ((((body)::jsonb #>> '{record,direction}'::text[]))::smallint) STORED,
    why text GENERATED ALWAYS AS (((body)::jsonb #>> '{record,why}'::text[])) STORED,
    days_to_expiration double precision GENERATED ALWAYS AS ((((body)::jsonb #>> '{record,days_to_expiration}'::text[]))::double precision) STORED,
    odds jsonb GENERATED ALWAYS AS (((body)::jsonb #> '{record,odds}'::text[])) STORED,
    signal_id text GENERATED ALWAYS AS (((body)::jsonb #>> '{record,signal_id}'::text[])) STORED,
    revision integer GENERATED ALWAYS AS ((((body)::jsonb #>> '{record,revision}'::text[]))::integer) STORED,
    resolved_of_ns bigint GENERATED ALWAYS AS ((((body)::jsonb #>> '{record,resolved_of_ns}'::text[]))::bigint) STORED,
    barrier text GENERATED ALWAYS AS ((jsonb_path_query_first((body)::jsonb, '$."record"."fills"[*]?(@."model" == "touch")."barrier"'::jsonpath) #>> '{}'::text[])) STORED,
    fills jsonb GENERATED ALWAYS AS (((body)::jsonb #> '{record,fills}'::text[])) STORED,
    baseline jsonb GENERATED ALWAYS AS (NULLIF(((body)::jsonb #> '{record,baseline}'::text[]), 'null'::jsonb)) STORED,
    CONSTRAINT signal_ledger_check CHECK (((((body)::jsonb ->> 'seq'::text))::bigint = seq)),
    CONSTRAINT signal_ledger_check1 CHECK (((kind = 'outcome'::text) OR (ROW(strategy, underlying, session, event_ns, mode, direction) IS NOT NULL))),
    CONSTRAINT signal_ledger_check2 CHECK (((kind <> 'outcome'::text) OR (ROW(signal_id, revision, barrier) IS NOT NULL))),
    CONSTRAINT signal_ledger_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT signal_ledger_kind_check CHECK ((kind = ANY (ARRAY['signal'::text, 'abstention'::text, 'outcome'::text]))),
    CONSTRAINT signal_ledger_previous_hash_check CHECK ((octet_length(previous_hash) = 32)),
    CONSTRAINT signal_ledger_seq_check CHECK ((seq > 0))
);

COMMENT ON TABLE signal_ledger IS 'Signals, abstentions and outcomes in one chain; rows are only ever added, see docs/SIGNALS.md';

COMMENT ON COLUMN signal_ledger.hash IS 'SHA-256 of previous_hash and the bytes of body; the first previous_hash is 32 zero bytes';

COMMENT ON COLUMN signal_ledger.body IS 'Canonical JSON: seq, kind, id, decided_ns, committed_ns, record. Every other column but the hashes is made from it';

COMMENT ON COLUMN signal_ledger.id IS 'A decision''s says strategy, parameters, underlying and event, so that whatever decides again about the same adds nothing; an outcome''s is its signal''s and its revision';

COMMENT ON COLUMN signal_ledger.committed_ns IS 'When the row was put into its transaction, which ends at once';

CREATE TABLE signal_resolutions (
    signal_id text NOT NULL,
    underlying text NOT NULL,
    session date NOT NULL,
    event_ns bigint NOT NULL,
    settles_ns bigint NOT NULL,
    revision integer DEFAULT '-1'::integer NOT NULL,
    data_digest text,
    data_version text,
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    error text
);

COMMENT ON TABLE signal_resolutions IS 'Every signal of the ledger, and how far its outcome is; made anew from the ledger when it is lost';

COMMENT ON COLUMN signal_resolutions.settles_ns IS 'When all has happened that its outcome and its baselines rest on: before, they would depend on when they are asked for';

COMMENT ON COLUMN signal_resolutions.revision IS 'The newest outcome''s; -1: it has none yet';

COMMENT ON COLUMN signal_resolutions.data_version IS 'Of the market''s data when its outcome was last looked at: another one makes it be looked at again';

CREATE TABLE signal_trials (
    trial_id bigint NOT NULL,
    run text NOT NULL,
    strategy text NOT NULL,
    parameters_hash text NOT NULL,
    parameters jsonb NOT NULL,
    signals integer NOT NULL,
    days integer NOT NULL,
    sharpe double precision,
    made_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE signal_trials IS 'Every set of parameters that was ever tried on data: the best of many looks good by chance, so the statistics ask how many there were';

COMMENT ON COLUMN signal_trials.run IS 'A digest of the data and the dates: the same trial again is the same row';

COMMENT ON COLUMN signal_trials.sharpe IS 'Of daily net returns at touch, not made annual; NULL where it cannot be told';

ALTER TABLE signal_trials ALTER COLUMN trial_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME signal_trials_trial_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE statistics (
    instrument_id integer NOT NULL,
    ts timestamp with time zone NOT NULL,
    ts_ns smallint NOT NULL,
    digest bigint NOT NULL,
    ord integer NOT NULL,
    sequence bigint NOT NULL,
    stat_type smallint NOT NULL,
    price bigint,
    quantity bigint,
    ref_at_ns bigint,
    update_action smallint NOT NULL,
    stat_flags smallint NOT NULL,
    channel_id integer NOT NULL,
    publisher_id integer NOT NULL,
    recv_at_ns bigint NOT NULL,
    ts_in_delta integer NOT NULL
)
PARTITION BY RANGE (ts);

COMMENT ON COLUMN statistics.stat_type IS 'Databento''s StatType; 9 is open interest, which every publisher repeats: take one';

CREATE TABLE stored_changes (
    span text NOT NULL,
    starts timestamp with time zone NOT NULL,
    table_name text NOT NULL,
    changed_us bigint NOT NULL,
    CONSTRAINT stored_changes_span_check CHECK ((span = ANY (ARRAY['quarter'::text, 'day'::text, 'month'::text])))
)
WITH (fillfactor='50');

COMMENT ON TABLE stored_changes IS 'When records of a stretch of event time were last stored, replaced or dropped, by table: quarters of an hour, and the days and months that they are in (UTC)';

COMMENT ON COLUMN stored_changes.changed_us IS 'Microseconds since 1970, but always more than before: no two states of a table have the same sum';

CREATE TABLE stored_rows (
    table_name text NOT NULL,
    dataset text NOT NULL,
    schema text NOT NULL,
    day date NOT NULL,
    rows bigint NOT NULL,
    checksum numeric NOT NULL,
    changes bigint DEFAULT 1 NOT NULL,
    dropped_at timestamp with time zone
)
WITH (fillfactor='50');

COMMENT ON TABLE stored_rows IS 'Rows of each UTC day of the rows'' own time, as the transactions that stored them counted; of bars the vendor''s own';

COMMENT ON COLUMN stored_rows.checksum IS 'row_checksum of all their columns, modulo 2^64';

COMMENT ON COLUMN stored_rows.changes IS 'Grows with each transaction that stored some';

COMMENT ON COLUMN stored_rows.dropped_at IS 'When retention last dropped the rows of that day';

CREATE TABLE time_tables (
    table_name text NOT NULL,
    time_column text NOT NULL,
    flavour text NOT NULL,
    chunk interval NOT NULL,
    compress_after interval,
    retain interval,
    CONSTRAINT time_tables_chunk_check CHECK (((chunk = make_interval(days => (EXTRACT(day FROM chunk))::integer)) AND (chunk > '00:00:00'::interval))),
    CONSTRAINT time_tables_flavour_check CHECK ((flavour = ANY (ARRAY['timescale'::text, 'timescale-apache'::text, 'native'::text])))
);

COMMENT ON TABLE time_tables IS 'The catalogue of time tables: how each is divided, and for how long it keeps what was collected';

COMMENT ON COLUMN time_tables.retain IS 'NULL: for ever. Chunks that an import wrote to are exempt';

CREATE TABLE trades (
    instrument_id integer NOT NULL,
    ts timestamp with time zone NOT NULL,
    ts_ns smallint NOT NULL,
    digest bigint NOT NULL,
    ord integer NOT NULL,
    sequence bigint NOT NULL,
    price bigint NOT NULL,
    size bigint NOT NULL,
    side character(1) NOT NULL,
    action character(1) NOT NULL,
    flags smallint NOT NULL,
    depth smallint NOT NULL,
    publisher_id integer NOT NULL,
    recv_at_ns bigint NOT NULL,
    ts_in_delta integer NOT NULL
)
PARTITION BY RANGE (ts);

COMMENT ON COLUMN trades.ts IS 'When the trade happened (ts_event)';

CREATE TABLE vendor_ids (
    dataset text NOT NULL,
    vendor_id bigint NOT NULL,
    starts date NOT NULL,
    ends date NOT NULL,
    instrument_id integer NOT NULL,
    CONSTRAINT vendor_ids_check CHECK ((starts < ends))
);

COMMENT ON TABLE vendor_ids IS 'Which instrument a vendor id meant on the UTC days from starts to before ends';

CREATE TABLE vendor_schemas (
    dataset text NOT NULL,
    schemas text[] NOT NULL,
    fetched_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE vendor_schemas IS 'What the vendor says each dataset has (metadata.list_schemas), so that it need not be asked every time';

CREATE TABLE volatility_contracts (
    underlying text NOT NULL,
    ts timestamp with time zone NOT NULL,
    expiration date NOT NULL,
    instrument_ids integer[] NOT NULL,
    mid real[] NOT NULL,
    implied_volatility real[] NOT NULL,
    delta real[] NOT NULL,
    gamma real[] NOT NULL,
    theta real[] NOT NULL,
    vega real[] NOT NULL,
    reason text[] NOT NULL,
    CONSTRAINT volatility_contracts_check CHECK (((cardinality(instrument_ids) > 0) AND (cardinality(instrument_ids) = ALL (ARRAY[cardinality(mid), cardinality(implied_volatility), cardinality(delta), cardinality(gamma), cardinality(theta), cardinality(vega), cardinality(reason)]))))
)
PARTITION BY RANGE (ts);

COMMENT ON TABLE volatility_contracts IS 'The contracts of a snapshot that were quoted in the session by then, an array element each; by expiration';

COMMENT ON COLUMN volatility_contracts.mid IS 'Dollars a share, of a two-sided quote that is not crossed, though it be stale';

COMMENT ON COLUMN volatility_contracts.implied_volatility IS 'Of the mid, American exercise, a decimal a year; NULL where reason says why';

COMMENT ON COLUMN volatility_contracts.theta IS 'Dollars a share per calendar day that passes';

COMMENT ON COLUMN volatility_contracts.vega IS 'Dollars a share per percentage point of volatility';

COMMENT ON COLUMN volatility_contracts.reason IS 'Why there is no implied volatility; NULL where there is one';

CREATE TABLE volatility_expirations (
    underlying text NOT NULL,
    ts timestamp with time zone NOT NULL,
    expiration date NOT NULL,
    years double precision NOT NULL,
    forward double precision,
    forward_low double precision,
    forward_high double precision,
    rate double precision,
    rate_low double precision,
    rate_high double precision,
    dividend_yield double precision,
    at_the_money double precision,
    call_25_delta double precision,
    put_25_delta double precision,
    shape text,
    reason text,
    contracts_used integer NOT NULL,
    contracts_refused jsonb NOT NULL,
    CONSTRAINT volatility_expirations_at_the_money_check CHECK ((at_the_money > (0)::double precision)),
    CONSTRAINT volatility_expirations_call_25_delta_check CHECK ((call_25_delta > (0)::double precision)),
    CONSTRAINT volatility_expirations_check CHECK (((reason IS NOT NULL) OR ((at_the_money IS NOT NULL) AND (call_25_delta IS NOT NULL) AND (put_25_delta IS NOT NULL)))),
    CONSTRAINT volatility_expirations_contracts_used_check CHECK ((contracts_used >= 0)),
    CONSTRAINT volatility_expirations_put_25_delta_check CHECK ((put_25_delta > (0)::double precision)),
    CONSTRAINT volatility_expirations_shape_check CHECK ((shape = ANY (ARRAY['fitted'::text, 'borrowed'::text, 'flat'::text]))),
    CONSTRAINT volatility_expirations_years_check CHECK ((years > (0)::double precision))
)
PARTITION BY RANGE (ts);

COMMENT ON TABLE volatility_expirations IS 'The expirations of a snapshot';

COMMENT ON COLUMN volatility_expirations.years IS 'To the close of the expiration''s session, of 365 days';

COMMENT ON COLUMN volatility_expirations.forward IS 'Dollars, by put-call parity; forward_low to forward_high: what executable prices do not contradict';

COMMENT ON COLUMN volatility_expirations.rate IS 'Continuously compounded, a decimal a year';

COMMENT ON COLUMN volatility_expirations.dividend_yield IS 'rate - ln(forward / spot) / years: dividends, borrow, and errors of rate and spot';

COMMENT ON COLUMN volatility_expirations.at_the_money IS 'Implied volatility at the forward, a decimal a year';

COMMENT ON COLUMN volatility_expirations.call_25_delta IS 'Implied volatility of the call of forward delta 0.25; NULL beyond the quoted strikes';

COMMENT ON COLUMN volatility_expirations.shape IS 'fitted, or of a neighbour''s smile scaled (borrowed), or one volatility (flat)';

CREATE TABLE volatility_snapshots (
    underlying text NOT NULL,
    ts timestamp with time zone NOT NULL,
    session_date date NOT NULL,
    closing boolean NOT NULL,
    spot bigint,
    spot_at_ns bigint,
    spot_kind text,
    rate_kind text,
    rate_detail text NOT NULL,
    volatility_30d double precision,
    volatility_30d_reason text,
    contracts_used integer NOT NULL,
    contracts_refused jsonb NOT NULL,
    newest_at_ns bigint NOT NULL,
    method text NOT NULL,
    data_version bytea NOT NULL,
    computed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT volatility_snapshots_check CHECK ((((spot IS NULL) = (spot_at_ns IS NULL)) AND ((spot IS NULL) = (spot_kind IS NULL)))),
    CONSTRAINT volatility_snapshots_check1 CHECK (((volatility_30d IS NULL) = (volatility_30d_reason IS NOT NULL))),
    CONSTRAINT volatility_snapshots_contracts_used_check CHECK ((contracts_used >= 0)),
    CONSTRAINT volatility_snapshots_rate_kind_check CHECK ((rate_kind = ANY (ARRAY['curve'::text, 'parity'::text]))),
    CONSTRAINT volatility_snapshots_spot_kind_check CHECK ((spot_kind = ANY (ARRAY['quote'::text, 'trade'::text, 'bar'::text]))),
    CONSTRAINT volatility_snapshots_volatility_30d_check CHECK ((volatility_30d > (0)::double precision))
)
PARTITION BY RANGE (ts);

COMMENT ON TABLE volatility_snapshots IS 'One row an underlying and moment; only what had happened by ts is in it';

COMMENT ON COLUMN volatility_snapshots.closing IS 'ts is the session''s close: the day''s value';

COMMENT ON COLUMN volatility_snapshots.spot IS '1e-9 dollars';

COMMENT ON COLUMN volatility_snapshots.rate_kind IS 'curve: a stated one; parity: pooled from the chains of that moment; NULL: none, rate_detail says why';

COMMENT ON COLUMN volatility_snapshots.volatility_30d IS 'At the forward, 30 calendar days on, interpolated in total variance; a decimal a year';

COMMENT ON COLUMN volatility_snapshots.contracts_refused IS 'Contracts without a part in the volatilities, by reason';

COMMENT ON COLUMN volatility_snapshots.newest_at_ns IS 'Time of the newest quote or price used';

COMMENT ON COLUMN volatility_snapshots.data_version IS 'Digest of the inputs and the method';

ALTER TABLE ONLY applied_migrations
    ADD CONSTRAINT applied_migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY backfill_parts
    ADD CONSTRAINT backfill_parts_backfill_id_rank_key UNIQUE (backfill_id, rank);

ALTER TABLE ONLY backfill_parts
    ADD CONSTRAINT backfill_parts_pkey PRIMARY KEY (part_id);

ALTER TABLE ONLY backfills
    ADD CONSTRAINT backfills_fingerprint_key UNIQUE (fingerprint);

ALTER TABLE ONLY backfills
    ADD CONSTRAINT backfills_pkey PRIMARY KEY (backfill_id);

ALTER TABLE ONLY bars_1d
    ADD CONSTRAINT bars_1d_pkey PRIMARY KEY (instrument_id, ts, publisher_id);

ALTER TABLE ONLY bars_1h
    ADD CONSTRAINT bars_1h_pkey PRIMARY KEY (instrument_id, ts, publisher_id);

ALTER TABLE ONLY bars_1m
    ADD CONSTRAINT bars_1m_pkey PRIMARY KEY (instrument_id, ts, publisher_id);

ALTER TABLE ONLY collection_cursors
    ADD CONSTRAINT collection_cursors_pkey PRIMARY KEY (dataset, spool_id);

ALTER TABLE ONLY collection_pending_gaps
    ADD CONSTRAINT collection_pending_gaps_pkey PRIMARY KEY (gap_id);

ALTER TABLE ONLY collection_schemas
    ADD CONSTRAINT collection_schemas_pkey PRIMARY KEY (dataset, schema);

ALTER TABLE ONLY collection_states
    ADD CONSTRAINT collection_states_pkey PRIMARY KEY (dataset);

ALTER TABLE ONLY collections
    ADD CONSTRAINT collections_pkey PRIMARY KEY (dataset);

ALTER TABLE ONLY corporate_actions
    ADD CONSTRAINT corporate_actions_pkey PRIMARY KEY (symbol, ex_date, kind);

ALTER TABLE ONLY dbn_schemas
    ADD CONSTRAINT dbn_schemas_name_key UNIQUE (name);

ALTER TABLE ONLY dbn_schemas
    ADD CONSTRAINT dbn_schemas_pkey PRIMARY KEY (schema_id);

ALTER TABLE ONLY dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (dead_letter_id);

ALTER TABLE ONLY definitions
    ADD CONSTRAINT definitions_pkey PRIMARY KEY (instrument_id, ts, digest, ord);

ALTER TABLE ONLY gaps
    ADD CONSTRAINT gaps_pkey PRIMARY KEY (gap_id);

ALTER TABLE ONLY instrument_revisions
    ADD CONSTRAINT instrument_revisions_pkey PRIMARY KEY (revision_id);

ALTER TABLE ONLY instruments
    ADD CONSTRAINT instruments_dataset_raw_symbol_key UNIQUE (dataset, raw_symbol);

ALTER TABLE ONLY instruments
    ADD CONSTRAINT instruments_pkey PRIMARY KEY (instrument_id);

ALTER TABLE ONLY kept_chunks
    ADD CONSTRAINT kept_chunks_pkey PRIMARY KEY (table_name, starts);

ALTER TABLE ONLY packed_bars
    ADD CONSTRAINT packed_bars_pkey PRIMARY KEY (instrument_id, starts, span);

ALTER TABLE ONLY price_latest
    ADD CONSTRAINT price_latest_pkey PRIMARY KEY (instrument_id);

ALTER TABLE ONLY quote_latest
    ADD CONSTRAINT quote_latest_pkey PRIMARY KEY (instrument_id);

ALTER TABLE ONLY quotes
    ADD CONSTRAINT quotes_pkey PRIMARY KEY (instrument_id, ts, digest, ord);

ALTER TABLE ONLY rate_curves
    ADD CONSTRAINT rate_curves_pkey PRIMARY KEY (curve_id);

ALTER TABLE ONLY rate_points
    ADD CONSTRAINT rate_points_pkey PRIMARY KEY (curve_id, days);

ALTER TABLE ONLY runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY self_check_stretches
    ADD CONSTRAINT self_check_stretches_pkey PRIMARY KEY (table_name, starts);

ALTER TABLE ONLY self_checks
    ADD CONSTRAINT self_checks_pkey PRIMARY KEY (check_id);

ALTER TABLE ONLY signal_backtests
    ADD CONSTRAINT signal_backtests_pkey PRIMARY KEY (backtest_id);

ALTER TABLE ONLY signal_cursors
    ADD CONSTRAINT signal_cursors_pkey PRIMARY KEY (underlying);

ALTER TABLE ONLY signal_ledger
    ADD CONSTRAINT signal_ledger_id_key UNIQUE (id);

ALTER TABLE ONLY signal_ledger
    ADD CONSTRAINT signal_ledger_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY signal_resolutions
    ADD CONSTRAINT signal_resolutions_pkey PRIMARY KEY (signal_id);

ALTER TABLE ONLY signal_trials
    ADD CONSTRAINT signal_trials_pkey PRIMARY KEY (trial_id);

ALTER TABLE ONLY signal_trials
    ADD CONSTRAINT signal_trials_run_strategy_parameters_hash_key UNIQUE (run, strategy, parameters_hash);

ALTER TABLE ONLY statistics
    ADD CONSTRAINT statistics_pkey PRIMARY KEY (instrument_id, ts, digest, ord);

ALTER TABLE ONLY stored_changes
    ADD CONSTRAINT stored_changes_pkey PRIMARY KEY (span, starts, table_name);

ALTER TABLE ONLY stored_rows
    ADD CONSTRAINT stored_rows_pkey PRIMARY KEY (table_name, dataset, schema, day);

ALTER TABLE ONLY time_tables
    ADD CONSTRAINT time_tables_pkey PRIMARY KEY (table_name);

ALTER TABLE ONLY trades
    ADD CONSTRAINT trades_pkey PRIMARY KEY (instrument_id, ts, digest, ord);

ALTER TABLE ONLY vendor_ids
    ADD CONSTRAINT vendor_ids_pkey PRIMARY KEY (dataset, vendor_id, starts);

ALTER TABLE ONLY vendor_schemas
    ADD CONSTRAINT vendor_schemas_pkey PRIMARY KEY (dataset);

ALTER TABLE ONLY volatility_contracts
    ADD CONSTRAINT volatility_contracts_pkey PRIMARY KEY (underlying, ts, expiration);

ALTER TABLE ONLY volatility_expirations
    ADD CONSTRAINT volatility_expirations_pkey PRIMARY KEY (underlying, ts, expiration);

ALTER TABLE ONLY volatility_snapshots
    ADD CONSTRAINT volatility_snapshots_pkey PRIMARY KEY (underlying, ts);

CREATE INDEX backfill_parts_done ON backfill_parts USING btree (dataset, schema, starts_ns) WHERE (status = 'done'::text);

CREATE INDEX backfill_parts_open ON backfill_parts USING btree (backfill_id, rank) WHERE (status = ANY (ARRAY['waiting'::text, 'downloading'::text, 'storing'::text]));

CREATE INDEX backfills_newest ON backfills USING btree (created_at DESC, backfill_id DESC);

CREATE UNIQUE INDEX dead_letters_waiting ON dead_letters USING btree (dataset, schema, reason, digest) WHERE (replayed_at IS NULL);

CREATE UNIQUE INDEX gaps_open ON gaps USING btree (dataset, schema, COALESCE(symbol, ''::text), evidence, starts_ns) WHERE (closed_at IS NULL);

CREATE INDEX gaps_when ON gaps USING btree (starts_ns, gap_id);

CREATE INDEX instruments_chain ON instruments USING btree (underlying, expiration, strike, "right");

CREATE INDEX instruments_symbol ON instruments USING btree (raw_symbol);

CREATE INDEX rate_curves_known ON rate_curves USING btree (curve_date DESC, known_at DESC, curve_id DESC);

CREATE INDEX runs_files ON runs USING btree (spool_file);

CREATE INDEX runs_newest ON runs USING btree (created_at DESC, run_id DESC);

CREATE INDEX runs_waiting ON runs USING btree (created_at, run_id) WHERE (status = ANY (ARRAY['queued'::text, 'running'::text]));

CREATE INDEX signal_backtests_when ON signal_backtests USING btree (requested_at, backtest_id);

CREATE INDEX signal_ledger_events ON signal_ledger USING btree (event_ns, seq) WHERE (kind <> 'outcome'::text);

CREATE INDEX signal_ledger_of_underlying ON signal_ledger USING btree (underlying, seq) WHERE (kind <> 'outcome'::text);

CREATE UNIQUE INDEX signal_ledger_outcomes ON signal_ledger USING btree (signal_id, revision) WHERE (kind = 'outcome'::text);

CREATE INDEX signal_resolutions_open ON signal_resolutions USING btree (settles_ns) WHERE (revision < 0);

CREATE INDEX signal_resolutions_session ON signal_resolutions USING btree (session);

CREATE TRIGGER added AFTER INSERT ON instruments REFERENCING NEW TABLE AS revised FOR EACH STATEMENT EXECUTE FUNCTION note_revised_instruments();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON signal_ledger FOR EACH STATEMENT EXECUTE FUNCTION signal_ledger_is_append_only();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON signal_trials FOR EACH STATEMENT EXECUTE FUNCTION signal_ledger_is_append_only();

CREATE TRIGGER extend BEFORE INSERT ON signal_ledger FOR EACH ROW EXECUTE FUNCTION extend_signal_ledger();

CREATE TRIGGER noted AFTER INSERT OR UPDATE ON volatility_snapshots FOR EACH ROW EXECUTE FUNCTION note_snapshot();

CREATE TRIGGER revised AFTER UPDATE ON instruments REFERENCING NEW TABLE AS revised FOR EACH STATEMENT EXECUTE FUNCTION note_revised_instruments();

ALTER TABLE ONLY backfill_parts
    ADD CONSTRAINT backfill_parts_backfill_id_fkey FOREIGN KEY (backfill_id) REFERENCES backfills(backfill_id) ON DELETE CASCADE;

ALTER TABLE ONLY backfill_parts
    ADD CONSTRAINT backfill_parts_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs(run_id);

ALTER TABLE ONLY backfills
    ADD CONSTRAINT backfills_gap_id_fkey FOREIGN KEY (gap_id) REFERENCES gaps(gap_id);

ALTER TABLE ONLY collection_states
    ADD CONSTRAINT collection_states_dataset_fkey FOREIGN KEY (dataset) REFERENCES collections(dataset);

ALTER TABLE ONLY kept_chunks
    ADD CONSTRAINT kept_chunks_table_name_fkey FOREIGN KEY (table_name) REFERENCES time_tables(table_name) ON DELETE CASCADE;

ALTER TABLE ONLY price_latest
    ADD CONSTRAINT price_latest_instrument_id_fkey FOREIGN KEY (instrument_id) REFERENCES instruments(instrument_id);

ALTER TABLE ONLY quote_latest
    ADD CONSTRAINT quote_latest_instrument_id_fkey FOREIGN KEY (instrument_id) REFERENCES instruments(instrument_id);

ALTER TABLE ONLY rate_points
    ADD CONSTRAINT rate_points_curve_id_fkey FOREIGN KEY (curve_id) REFERENCES rate_curves(curve_id) ON DELETE CASCADE;

ALTER TABLE ONLY vendor_ids
    ADD CONSTRAINT vendor_ids_instrument_id_fkey FOREIGN KEY (instrument_id) REFERENCES instruments(instrument_id);
