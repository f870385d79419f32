-- Market data as Databento delivers it. Prices are bigint, 1e-9 dollars (DBN's own scale); undefined prices are NULL.
-- timestamptz keeps microseconds: ts_ns (0-999) holds the nanoseconds below them. *_at_ns are nanoseconds since 1970.
--
-- A record's identity is its own content: digest is a 64-bit digest of all its fields but the vendor's daily instrument id,
-- and ord counts records that are equal in every field within one stretch of equal index time. So the same record
-- again (replay, a second import, an overlapping file) finds its row there, and two genuine equal trades are two rows.

CREATE TABLE dbn_schemas (
    schema_id smallint PRIMARY KEY,
    name      text NOT NULL UNIQUE
);
COMMENT ON TABLE dbn_schemas IS 'Databento''s numbers of its schemas (dbn::enums::Schema)';
INSERT INTO dbn_schemas VALUES (1, 'mbp-1'), (3, 'tbbo'), (4, 'trades'), (6, 'ohlcv-1m'), (7, 'ohlcv-1h'), (8, 'ohlcv-1d'),
    (9, 'definition'), (10, 'statistics'), (14, 'cmbp-1'), (15, 'cbbo-1s'), (16, 'cbbo-1m'), (17, 'tcbbo'), (18, 'bbo-1s'), (19, 'bbo-1m');

CREATE TABLE instruments (
    instrument_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset       text NOT NULL,
    raw_symbol    text NOT NULL,
    underlying    text NOT NULL,
    expiration    date,
    strike        bigint,
    "right"       char(1) CHECK ("right" IN ('C', 'P')),
    multiplier    integer,
    UNIQUE (dataset, raw_symbol),
    CHECK ((expiration IS NULL) = ("right" IS NULL) AND (strike IS NULL) = ("right" IS NULL))
);
COMMENT ON TABLE instruments IS 'Our own lasting ids: the vendor''s change daily and are used again';
COMMENT ON COLUMN instruments.underlying IS 'For options the underlying''s symbol; for anything else its own';
COMMENT ON COLUMN instruments.expiration IS 'The date: an option lives until that session''s close';
CREATE INDEX instruments_chain ON instruments (underlying, expiration, strike, "right");
CREATE INDEX instruments_symbol ON instruments (raw_symbol);

CREATE TABLE vendor_ids (
    dataset       text NOT NULL,
    vendor_id     bigint NOT NULL,
    starts        date NOT NULL,
    ends          date NOT NULL,
    instrument_id integer NOT NULL REFERENCES instruments,
    PRIMARY KEY (dataset, vendor_id, starts),
    CHECK (starts < ends)
);
COMMENT ON TABLE vendor_ids IS 'Which instrument a vendor id meant on the UTC days from starts to before ends';

CREATE TABLE trades (
    instrument_id integer NOT NULL,
    ts            timestamptz NOT NULL,
    ts_ns         smallint NOT NULL,
    digest        bigint NOT NULL,
    ord           integer NOT NULL,
    sequence      bigint NOT NULL,
    price         bigint NOT NULL,
    size          bigint NOT NULL,
    side          char(1) NOT NULL,
    action        char(1) NOT NULL,
    flags         smallint NOT NULL,
    depth         smallint NOT NULL,
    publisher_id  integer NOT NULL,
    recv_at_ns    bigint NOT NULL,
    ts_in_delta   integer NOT NULL,
    PRIMARY KEY (instrument_id, ts, digest, ord)
);
COMMENT ON COLUMN trades.ts IS 'When the trade happened (ts_event)';
SELECT make_time_table('trades', 'ts', interval '1 day', '', 'instrument_id, ts, ts_ns, sequence', interval '7 days', NULL);

CREATE TABLE quotes (
    instrument_id integer NOT NULL,
    ts            timestamptz NOT NULL,
    ts_ns         smallint NOT NULL,
    digest        bigint NOT NULL,
    ord           integer NOT NULL,
    schema_id     smallint NOT NULL,
    sequence      bigint NOT NULL,
    bid           bigint,
    ask           bigint,
    bid_size      bigint,
    ask_size      bigint,
    bid_detail    bigint NOT NULL,
    ask_detail    bigint NOT NULL,
    price         bigint,
    size          bigint,
    side          char(1) NOT NULL,
    action        char(1) NOT NULL,
    flags         smallint NOT NULL,
    depth         smallint NOT NULL,
    publisher_id  integer NOT NULL,
    event_at_ns   bigint,
    recv_at_ns    bigint NOT NULL,
    ts_in_delta   integer NOT NULL,
    PRIMARY KEY (instrument_id, ts, digest, ord)
);
COMMENT ON COLUMN quotes.ts IS 'The quote''s own time: the end of the interval of a sampled quote (ts_recv), else ts_event';
COMMENT ON COLUMN quotes.bid_detail IS 'Consolidated schemas: the publisher of the best bid; others: the number of orders';
COMMENT ON COLUMN quotes.price IS 'The trade (tbbo, tcbbo, mbp-1 with action T) or the last trade (sampled quotes)';
COMMENT ON COLUMN quotes.event_at_ns IS 'ts_event; sampled quotes: the last trade''s, NULL before the first';
SELECT make_time_table('quotes', 'ts', interval '1 day', '', 'instrument_id, ts, ts_ns, sequence', interval '7 days', NULL);

CREATE TABLE statistics (
    instrument_id integer NOT NULL,
    ts            timestamptz NOT NULL,
    ts_ns         smallint NOT NULL,
    digest        bigint NOT NULL,
    ord           integer NOT NULL,
    sequence      bigint NOT NULL,
    stat_type     smallint NOT NULL,
    price         bigint,
    quantity      bigint,
    ref_at_ns     bigint,
    update_action smallint NOT NULL,
    stat_flags    smallint NOT NULL,
    channel_id    integer NOT NULL,
    publisher_id  integer NOT NULL,
    recv_at_ns    bigint NOT NULL,
    ts_in_delta   integer NOT NULL,
    PRIMARY KEY (instrument_id, ts, digest, ord)
);
COMMENT ON COLUMN statistics.stat_type IS 'Databento''s StatType; 9 is open interest, which every publisher repeats: take one';
SELECT make_time_table('statistics', 'ts', interval '28 days', '', 'instrument_id, ts', interval '28 days', NULL);

CREATE TABLE definitions (
    instrument_id       integer NOT NULL,
    ts                  timestamptz NOT NULL,
    ts_ns               smallint NOT NULL,
    digest              bigint NOT NULL,
    ord                 integer NOT NULL,
    vendor_id           bigint NOT NULL,
    instrument_class    char(1) NOT NULL,
    expiration_at_ns    bigint,
    activation_at_ns    bigint,
    strike              bigint,
    contract_multiplier integer,
    min_price_increment bigint,
    update_action       char(1) NOT NULL,
    publisher_id        integer NOT NULL,
    recv_at_ns          bigint NOT NULL,
    PRIMARY KEY (instrument_id, ts, digest, ord)
);
COMMENT ON TABLE definitions IS 'Every definition record, dated: which contracts existed when';
COMMENT ON COLUMN definitions.ts IS 'When the vendor received it (ts_recv): a definition holds for the day it was delivered';
COMMENT ON COLUMN definitions.contract_multiplier IS 'As delivered; OPRA leaves it undefined, which means 100';
SELECT make_time_table('definitions', 'ts', interval '28 days', '', 'instrument_id, ts', interval '28 days', NULL);

CREATE TABLE bars_1m (
    instrument_id integer NOT NULL,
    ts            timestamptz NOT NULL,
    publisher_id  integer NOT NULL,
    open          bigint NOT NULL,
    high          bigint NOT NULL,
    low           bigint NOT NULL,
    close         bigint NOT NULL,
    volume        bigint NOT NULL,
    origin        char(1) NOT NULL CHECK (origin IN ('v', 't')),
    PRIMARY KEY (instrument_id, ts, publisher_id)
);
COMMENT ON COLUMN bars_1m.ts IS 'The start of the minute';
COMMENT ON COLUMN bars_1m.origin IS 'v: the vendor''s own bar; t: built from stored trades. The vendor''s wins';
CREATE TABLE bars_1h (LIKE bars_1m INCLUDING ALL);
CREATE TABLE bars_1d (LIKE bars_1m INCLUDING ALL);
COMMENT ON TABLE bars_1d IS 'The vendor''s daily bars, each a UTC day; too few for chunks';
SELECT make_time_table('bars_1m', 'ts', interval '7 days', '', 'instrument_id, ts', interval '28 days', NULL);
SELECT make_time_table('bars_1h', 'ts', interval '364 days', '', 'instrument_id, ts', interval '364 days', NULL);

CREATE TABLE quote_latest (
    instrument_id integer PRIMARY KEY REFERENCES instruments,
    ts            timestamptz NOT NULL,
    ts_ns         smallint NOT NULL,
    sequence      bigint NOT NULL,
    bid           bigint,
    ask           bigint,
    bid_size      bigint,
    ask_size      bigint,
    schema_id     smallint NOT NULL
);
COMMENT ON TABLE quote_latest IS 'The newest stored quote of each instrument, maintained on the way in';

CREATE TABLE price_latest (
    instrument_id integer PRIMARY KEY REFERENCES instruments,
    ts            timestamptz NOT NULL,
    ts_ns         smallint NOT NULL,
    sequence      bigint NOT NULL,
    price         bigint NOT NULL,
    size          bigint,
    kind          text NOT NULL CHECK (kind IN ('trade', 'bar'))
);
COMMENT ON TABLE price_latest IS 'The newest stored price of each instrument: a trade, or a bar''s close at the bar''s end';
