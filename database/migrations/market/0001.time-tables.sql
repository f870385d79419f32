-- Time tables: tables that grow with time, in one of two flavours chosen when a table is made.
--   timescale         hypertable with columnstore compression (TimescaleDB under its full licence)
--   timescale-apache  hypertable without compression (TimescaleDB's Apache part)
--   native            RANGE partitions, made ahead and dropped by our own maintenance (any PostgreSQL, RDS and Aurora too)
-- make_time_table is the only place that knows the difference; queries and writers see the same table in each.

CREATE TABLE time_tables (
    table_name     text PRIMARY KEY,
    time_column    text NOT NULL,
    flavour        text NOT NULL CHECK (flavour IN ('timescale', 'timescale-apache', 'native')),
    -- whole days: partitions are named by their first, and months have no fixed length
    chunk          interval NOT NULL CHECK (chunk = make_interval(days => extract(day FROM chunk)::integer) AND chunk > interval '0'),
    compress_after interval,
    retain         interval
);
COMMENT ON TABLE time_tables IS 'The catalogue of time tables: how each is divided, and for how long it keeps what was collected';
COMMENT ON COLUMN time_tables.retain IS 'NULL: for ever. Chunks that an import wrote to are exempt';

CREATE TABLE kept_chunks (
    table_name text NOT NULL REFERENCES time_tables ON DELETE CASCADE,
    starts     timestamptz NOT NULL,
    PRIMARY KEY (table_name, starts)
);
COMMENT ON TABLE kept_chunks IS 'Chunks that retention leaves alone, because something in them was imported';

-- What this server offers. The setting ots.time_table_flavour = 'native' forces partitions (tests of one server in both flavours).
CREATE FUNCTION time_table_flavour() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN current_setting('ots.time_table_flavour', true) = 'native' THEN 'native'
        WHEN NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN 'native'
        WHEN current_setting('timescaledb.license', true) = 'timescale' THEN 'timescale'
        ELSE 'timescale-apache'
    END
$$;

-- The start of the chunk that holds a moment. Monday, so that a week of market data is one chunk.
CREATE FUNCTION chunk_start(p_chunk interval, p_at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT date_bin(p_chunk, p_at, timestamptz '1970-01-05 00:00:00+00')
$$;

CREATE FUNCTION make_time_table(
    p_table text, p_time_column text, p_chunk interval, p_segment_by text, p_order_by text,
    p_compress_after interval, p_retain interval
) RETURNS text LANGUAGE plpgsql AS $$
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
COMMENT ON FUNCTION make_time_table IS 'Turn the empty plain table just made into a time table in this server''s flavour';

-- The chunks of a time table, oldest first, in each flavour; a chunk ends before its end. (A day is 24 hours in UTC only.)
CREATE FUNCTION list_chunks(p_table text)
RETURNS TABLE (chunk_name text, starts timestamptz, ends timestamptz, compressed boolean) LANGUAGE plpgsql STABLE
SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
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

-- Called before rows are written: makes the partitions that hold these moments (native) or decompresses their chunks
-- (timescale), and exempts them from retention where asked. Returns the number of partitions made.
CREATE FUNCTION open_chunks(p_table text, p_moments timestamptz[], p_keep boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
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

-- Chunks and the stretches that kept_chunks names begin on other days of the week under TimescaleDB: what they share counts.
CREATE FUNCTION is_kept(p_table text, p_starts timestamptz, p_ends timestamptz) RETURNS boolean LANGUAGE sql STABLE
SET timezone = 'UTC' AS $$
    SELECT EXISTS (SELECT FROM kept_chunks k JOIN time_tables t USING (table_name)
                   WHERE table_name = p_table AND k.starts < p_ends AND k.starts + t.chunk > p_starts)
$$;

CREATE FUNCTION drop_chunk(p_table text, p_chunk text, p_starts timestamptz, p_ends timestamptz) RETURNS void LANGUAGE plpgsql AS $$
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
END
$$;

-- What upkeep is due, in the order it is to be done: what locks others out comes last.
CREATE FUNCTION due_upkeep(p_now timestamptz, p_ahead interval)
RETURNS TABLE (table_name text, action text, detail text, command text) LANGUAGE sql STABLE
SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
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

-- The upkeep of all time tables in one call, daily or oftener: partitions ahead, compression, retention. Says what it did.
-- It waits for nobody longer than the lock_timeout below, which is shorter than deadlock_timeout (1 s): what is in use is
-- postponed to the next call, and no import is ever the victim.
CREATE FUNCTION maintain_time_tables(p_now timestamptz DEFAULT now(), p_ahead interval DEFAULT interval '3 days')
RETURNS TABLE (table_name text, action text, detail text) LANGUAGE plpgsql SET timezone = 'UTC' SET lock_timeout = '500ms' AS $$
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
