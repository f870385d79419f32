-- Minute bars of a month or a day that is over, all of an instrument in one row: a year is read in thirteen rows where it has
-- 98,000. What is here was made of bars_1m and can be made again: readers take a row only while its version is that of the
-- stretch, and read bars_1m itself otherwise. See ots_market.packed_bars and docs/adr/0014.

-- What changes whenever minute bars of a stretch may have: they are stored, or built from trades, or dropped. Each part only
-- ever grows, so no two states of the stretch have the same sum.
CREATE FUNCTION minutes_version(p_span text, p_starts timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(changed_us), 0)::bigint FROM stored_changes
    WHERE span = p_span AND starts = p_starts AND table_name IN ('bars_1m', 'trades')
$$;

CREATE TABLE packed_bars (
    instrument_id integer     NOT NULL,
    starts        timestamptz NOT NULL,
    span          text        NOT NULL CHECK (span IN ('day', 'month')),
    ends          timestamptz NOT NULL,
    version       bigint      NOT NULL,
    layout        smallint    NOT NULL,
    rows          integer     NOT NULL,
    moments       integer     NOT NULL,
    packed        bytea       NOT NULL,
    PRIMARY KEY (instrument_id, starts, span)
);
-- the arrays are small already: what reads them must not wait for their decompression
ALTER TABLE packed_bars ALTER packed SET STORAGE EXTERNAL;
COMMENT ON TABLE packed_bars IS 'The rows of bars_1m of an instrument and a stretch [starts, ends) as arrays; copies that may be deleted at any time';
COMMENT ON COLUMN packed_bars.version IS 'minutes_version of the stretch when it was read; of another version by now: not to be used';
COMMENT ON COLUMN packed_bars.layout IS 'How packed is to be read: ots_market.packed_bars.LAYOUT';
COMMENT ON COLUMN packed_bars.moments IS 'Minutes that have a bar; fewer than rows where several venues have one';
