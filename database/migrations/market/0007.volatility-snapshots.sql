-- Implied volatility as it stood at a moment, made of stored quotes only. A snapshot and its expirations are one transaction; the
-- same inputs give the same data_version, and a snapshot is replaced only by one of other inputs.

CREATE TABLE volatility_snapshots (
    underlying           text NOT NULL,
    ts                   timestamptz NOT NULL,
    session_date         date NOT NULL,
    closing              boolean NOT NULL,
    spot                 bigint,
    spot_at_ns           bigint,
    spot_kind            text CHECK (spot_kind IN ('quote', 'trade', 'bar')),
    rate_kind            text CHECK (rate_kind IN ('curve', 'parity')),
    rate_detail          text NOT NULL,
    volatility_30d       double precision CHECK (volatility_30d > 0),
    volatility_30d_reason text,
    contracts_used       integer NOT NULL CHECK (contracts_used >= 0),
    contracts_refused    jsonb NOT NULL,
    newest_at_ns         bigint NOT NULL,
    method               text NOT NULL,
    data_version         bytea NOT NULL,
    computed_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (underlying, ts),
    CHECK ((spot IS NULL) = (spot_at_ns IS NULL) AND (spot IS NULL) = (spot_kind IS NULL)),
    CHECK ((volatility_30d IS NULL) = (volatility_30d_reason IS NOT NULL))
);
COMMENT ON TABLE volatility_snapshots IS 'One row an underlying and moment; only what had happened by ts is in it';
COMMENT ON COLUMN volatility_snapshots.closing IS 'ts is the session''s close: the day''s value';
COMMENT ON COLUMN volatility_snapshots.spot IS '1e-9 dollars';
COMMENT ON COLUMN volatility_snapshots.rate_kind IS 'curve: a stated one; parity: pooled from the chains of that moment; NULL: none, rate_detail says why';
COMMENT ON COLUMN volatility_snapshots.volatility_30d IS 'At the forward, 30 calendar days on, interpolated in total variance; a decimal a year';
COMMENT ON COLUMN volatility_snapshots.contracts_refused IS 'Contracts without a part in the volatilities, by reason';
COMMENT ON COLUMN volatility_snapshots.newest_at_ns IS 'Time of the newest quote or price used';
COMMENT ON COLUMN volatility_snapshots.data_version IS 'Digest of the inputs and the method';
SELECT make_time_table('volatility_snapshots', 'ts', interval '7 days', 'underlying', 'ts', interval '14 days', NULL);

CREATE TABLE volatility_expirations (
    underlying         text NOT NULL,
    ts                 timestamptz NOT NULL,
    expiration         date NOT NULL,
    years              double precision NOT NULL CHECK (years > 0),
    forward            double precision,
    forward_low        double precision,
    forward_high       double precision,
    rate               double precision,
    rate_low           double precision,
    rate_high          double precision,
    dividend_yield     double precision,
    at_the_money       double precision CHECK (at_the_money > 0),
    call_25_delta      double precision CHECK (call_25_delta > 0),
    put_25_delta       double precision CHECK (put_25_delta > 0),
    shape              text CHECK (shape IN ('fitted', 'borrowed', 'flat')),
    reason             text,
    contracts_used     integer NOT NULL CHECK (contracts_used >= 0),
    contracts_refused  jsonb NOT NULL,
    PRIMARY KEY (underlying, ts, expiration),
    CHECK (reason IS NOT NULL OR (at_the_money IS NOT NULL AND call_25_delta IS NOT NULL AND put_25_delta IS NOT NULL))
);
COMMENT ON TABLE volatility_expirations IS 'The expirations of a snapshot';
COMMENT ON COLUMN volatility_expirations.years IS 'To the close of the expiration''s session, of 365 days';
COMMENT ON COLUMN volatility_expirations.forward IS 'Dollars, by put-call parity; forward_low to forward_high: what executable prices do not contradict';
COMMENT ON COLUMN volatility_expirations.rate IS 'Continuously compounded, a decimal a year';
COMMENT ON COLUMN volatility_expirations.dividend_yield IS 'rate - ln(forward / spot) / years: dividends, borrow, and errors of rate and spot';
COMMENT ON COLUMN volatility_expirations.at_the_money IS 'Implied volatility at the forward, a decimal a year';
COMMENT ON COLUMN volatility_expirations.call_25_delta IS 'Implied volatility of the call of forward delta 0.25; NULL beyond the quoted strikes';
COMMENT ON COLUMN volatility_expirations.shape IS 'fitted, or of a neighbour''s smile scaled (borrowed), or one volatility (flat)';
SELECT make_time_table('volatility_expirations', 'ts', interval '7 days', 'underlying', 'ts, expiration', interval '14 days', NULL);

-- Whoever writes snapshots may not make tables, which is how partitions come to be: this makes those of one moment, and no others.
CREATE FUNCTION open_volatility_chunks(p_moment timestamptz) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM open_chunks('volatility_snapshots', ARRAY[p_moment]);
    PERFORM open_chunks('volatility_expirations', ARRAY[p_moment]);
END
$$;
REVOKE ALL ON FUNCTION open_volatility_chunks FROM PUBLIC;
