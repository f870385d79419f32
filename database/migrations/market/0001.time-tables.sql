-- Time tables: tables that grow with time, in one of two flavours chosen when a table is made.
--   timescale         hypertable with columnstore compression (TimescaleDB under its full licence)
--   timescale-apache  hypertable without compression (TimescaleDB's Apache part)
--   native            RANGE partitions, made ahead and dropped by our own maintenance (any PostgreSQL, RDS and Aurora too)
-- make_time_table is the only place that knows the difference; queries and writers see the same table in each.

CREATE TABLE time_tables (
    table_name     text PRIMARY KEY,
    time_column    text NOT NULL,
    flavour        text NOT NULL CHECK (flavour IN ('timescale', 'timescale-apache', 'native')),
    chunk          interval NOT NULL,
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
BEGIN
    INSERT INTO time_tables VALUES (p_table, p_time_column, v_flavour, p_chunk, p_compress_after, p_retain);
    IF v_flavour = 'native' THEN
        -- a plain table cannot become partitioned: make the partitioned one in its shape, and take its place
        EXECUTE format('ALTER TABLE %I RENAME TO %I', p_table, p_table || '__shape');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) PARTITION BY RANGE (%I)', p_table, p_table || '__shape', p_time_column);
        EXECUTE format('DROP TABLE %I', p_table || '__shape');
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

-- Called before rows are written: makes the partitions that hold these moments (native), and exempts their chunks from
-- retention where asked. Returns the number of partitions made.
CREATE FUNCTION open_chunks(p_table text, p_moments timestamptz[], p_keep boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql AS $$
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
        v_part := format('%s_p%s', p_table, to_char(v_start AT TIME ZONE 'UTC', 'YYYYMMDD'));
        CONTINUE WHEN to_regclass(quote_ident(v_part)) IS NOT NULL;
        -- one maker of partitions at a time; whoever waited looks again, in pg_class itself: to_regclass would answer from
        -- this session's cache, which waiting for an advisory lock does not refresh
        PERFORM pg_advisory_xact_lock(hashtext('open_chunks'));
        CONTINUE WHEN EXISTS (SELECT FROM pg_class WHERE relname = v_part AND relnamespace = current_schema()::regnamespace);
        -- made apart and attached: that locks the parent less than CREATE ... PARTITION OF, so readers go on
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', v_part, p_table);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', p_table, v_part, v_start, v_start + v_entry.chunk);
        v_made := v_made + 1;
    END LOOP;
    RETURN v_made;
END
$$;

-- The upkeep of all time tables in one call, daily or oftener: partitions ahead, retention, compression. Says what it did.
CREATE FUNCTION maintain_time_tables(p_now timestamptz DEFAULT now(), p_ahead interval DEFAULT interval '3 days')
RETURNS TABLE (table_name text, action text, detail text) LANGUAGE plpgsql AS $$
DECLARE
    v_entry time_tables%ROWTYPE;
    v_name  text;
    v_from  timestamptz;
    v_made  integer;
BEGIN
    FOR v_entry IN SELECT * FROM time_tables t ORDER BY t.table_name LOOP
        table_name := v_entry.table_name;
        IF v_entry.flavour = 'native' THEN
            v_made := open_chunks(v_entry.table_name,
                                  ARRAY(SELECT generate_series(p_now, p_now + p_ahead + v_entry.chunk, v_entry.chunk)));
            IF v_made > 0 THEN
                action := 'made'; detail := v_made || ' partitions ahead'; RETURN NEXT;
            END IF;
        END IF;
        IF v_entry.retain IS NOT NULL THEN
            FOR v_name, v_from IN SELECT c.chunk_name, c.starts FROM list_chunks(v_entry.table_name) c
                                  WHERE c.starts + v_entry.chunk <= p_now - v_entry.retain
                                    AND NOT EXISTS (SELECT FROM kept_chunks k
                                                    WHERE k.table_name = v_entry.table_name
                                                      AND k.starts >= c.starts AND k.starts < c.starts + v_entry.chunk) LOOP
                IF v_entry.flavour = 'native' THEN
                    EXECUTE format('DROP TABLE %s', v_name);
                ELSE
                    EXECUTE format('SELECT drop_chunks(%L, older_than => %L::timestamptz, newer_than => %L::timestamptz)',
                                   v_entry.table_name, v_from + v_entry.chunk, v_from);
                END IF;
                action := 'dropped'; detail := v_name; RETURN NEXT;
            END LOOP;
        END IF;
        IF v_entry.flavour = 'timescale' AND v_entry.compress_after IS NOT NULL THEN
            FOR v_name IN EXECUTE format(
                    'SELECT format(''%%I.%%I'', chunk_schema, chunk_name) FROM timescaledb_information.chunks
                     WHERE hypertable_name = %L AND NOT is_compressed AND range_end <= %L::timestamptz',
                    v_entry.table_name, p_now - v_entry.compress_after) LOOP
                EXECUTE format('SELECT compress_chunk(%L)', v_name);
                action := 'compressed'; detail := v_name; RETURN NEXT;
            END LOOP;
        END IF;
    END LOOP;
END
$$;

-- The chunks of a time table, oldest first, in either flavour.
CREATE FUNCTION list_chunks(p_table text) RETURNS TABLE (chunk_name text, starts timestamptz) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT flavour FROM time_tables t WHERE t.table_name = p_table) = 'native' THEN
        RETURN QUERY
            SELECT c.oid::regclass::text,
                   (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS lower_bound
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = to_regclass(quote_ident(p_table)) ORDER BY lower_bound;
    ELSE
        RETURN QUERY EXECUTE format(
            'SELECT format(''%%I.%%I'', chunk_schema, chunk_name), range_start FROM timescaledb_information.chunks
             WHERE hypertable_name = %L ORDER BY range_start', p_table);
    END IF;
END
$$;
