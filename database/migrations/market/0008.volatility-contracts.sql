-- Implied volatility and Greeks of each contract of a snapshot, written in the snapshot's own transaction. A row an expiration with an
-- array a figure: 37 bytes a contract and moment (measured, index included), where a row a contract takes 118, and one contract's
-- history reads the rows of its own expiration only.

CREATE TABLE volatility_contracts (
    underlying          text NOT NULL,
    ts                  timestamptz NOT NULL,
    expiration          date NOT NULL,
    instrument_ids      integer[] NOT NULL,
    mid                 real[] NOT NULL,
    implied_volatility  real[] NOT NULL,
    delta               real[] NOT NULL,
    gamma               real[] NOT NULL,
    theta               real[] NOT NULL,
    vega                real[] NOT NULL,
    reason              text[] NOT NULL,
    PRIMARY KEY (underlying, ts, expiration),
    CHECK (cardinality(instrument_ids) > 0
           AND cardinality(instrument_ids) = ALL (ARRAY[
               cardinality(mid), cardinality(implied_volatility), cardinality(delta), cardinality(gamma), cardinality(theta),
               cardinality(vega), cardinality(reason)]))
);
COMMENT ON TABLE volatility_contracts IS 'The contracts of a snapshot that were quoted in the session by then, an array element each; by expiration';
COMMENT ON COLUMN volatility_contracts.mid IS 'Dollars a share, of a two-sided quote that is not crossed, though it be stale';
COMMENT ON COLUMN volatility_contracts.implied_volatility IS 'Of the mid, American exercise, a decimal a year; NULL where reason says why';
COMMENT ON COLUMN volatility_contracts.theta IS 'Dollars a share per calendar day that passes';
COMMENT ON COLUMN volatility_contracts.vega IS 'Dollars a share per percentage point of volatility';
COMMENT ON COLUMN volatility_contracts.reason IS 'Why there is no implied volatility; NULL where there is one';
SELECT make_time_table('volatility_contracts', 'ts', interval '7 days', 'underlying', 'expiration, ts', interval '14 days', NULL);

CREATE OR REPLACE FUNCTION open_volatility_chunks(p_moment timestamptz) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM open_chunks('volatility_snapshots', ARRAY[p_moment]);
    PERFORM open_chunks('volatility_expirations', ARRAY[p_moment]);
    PERFORM open_chunks('volatility_contracts', ARRAY[p_moment]);
END
$$;
