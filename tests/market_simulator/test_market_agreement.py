"""All that the seeded market says about a moment agrees: bars with trades, trades with quotes, options with stocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ots_market.symbols import parse_option_symbol
from ots_market.timeframes import DAY_NS
from ots_simulator.records import UNDEF_PRICE, UNDEF_TIMESTAMP
from seeded_market import CENT, DAY, EQUITIES, HOUR, MINUTE, OPTIONS, SECOND, TODAY, ask, shared_market, vendor_id

OPEN = TODAY * DAY
UNDEFINED = np.uint64(UNDEF_TIMESTAMP)


def bars_of(trades: np.ndarray, length: int, by: tuple[str, ...] = ("instrument_id",)) -> set[tuple[int, ...]]:
    """Bars made from trades the plain way, one trade after the other."""
    found: dict[tuple[int, ...], list[int]] = {}
    names = [*by, "ts_event", "price", "size"]
    for *who, at, price, size in zip(*(trades[name].tolist() for name in names), strict=True):
        key = (*who, at // length * length)
        if key not in found:
            found[key] = [price, price, price, price, 0]
        bar = found[key]
        bar[1], bar[2], bar[3], bar[4] = max(bar[1], price), min(bar[2], price), price, bar[4] + size
    return {(*key, *bar) for key, bar in found.items()}


def as_bars(records: np.ndarray, by: tuple[str, ...] = ("instrument_id",)) -> set[tuple[int, ...]]:
    names = [*by, "ts_event", "open", "high", "low", "close", "volume"]
    rows = list(zip(*(records[name].tolist() for name in names), strict=True))
    assert len(rows) == len(set(rows))
    return set(rows)


class TestBars:
    @pytest.mark.parametrize("seed", [7, 8, 9])
    def test_stocks_bars_are_their_trades(self, seed: int):
        market = shared_market(seed=seed)
        trades = ask(market, EQUITIES, "trades", OPEN, OPEN + DAY, ["META", "SPY"])
        for schema, length in (("ohlcv-1m", MINUTE), ("ohlcv-1h", HOUR), ("ohlcv-1d", DAY)):
            bars = ask(market, EQUITIES, schema, OPEN, OPEN + DAY, ["META", "SPY"])
            assert as_bars(bars) == bars_of(trades, length)
            assert len(bars) == 2 * DAY // length

    def test_options_bars_are_their_trades_by_venue(self):
        market = shared_market()
        who = {one.raw_symbol for one in market.resolve(OPTIONS, ["SPY.OPT", "TSLA.OPT"], "parent", TODAY, TODAY + 1)}
        trades = ask(market, OPTIONS, "trades", OPEN, OPEN + DAY, who)
        by = ("instrument_id", "publisher_id")
        for schema, length in (("ohlcv-1m", MINUTE), ("ohlcv-1h", HOUR), ("ohlcv-1d", DAY)):
            bars = ask(market, OPTIONS, schema, OPEN, OPEN + DAY, who)
            assert as_bars(bars, by) == bars_of(trades, length, by)
        assert len(trades) > 20_000

    def test_minutes_with_few_trades_are_right_too(self):
        # the quietest symbol at its quietest: single trades, pairs, three
        market = shared_market()
        minutes = [market.bars.minutes("META", day) for day in range(TODAY - 40, TODAY)]
        assert min(int(m.trades.min()) for m in minutes) >= 0
        for m in minutes:
            one, two = m.trades == 1, m.trades == 2
            assert np.all(m.open[one] == m.close[one])
            assert np.all(m.high[one | two] == np.maximum(m.open, m.close)[one | two])
            assert np.all(m.low[one | two] == np.minimum(m.open, m.close)[one | two])
            assert np.all((m.low <= m.open) & (m.open <= m.high) & (m.low <= m.close) & (m.close <= m.high))
            assert np.all(m.volume >= m.trades)


class TestStocks:
    def test_tbbo_is_the_trade_and_its_quote(self):
        market = shared_market()
        window = OPEN + 5 * HOUR, OPEN + 7 * HOUR
        trades, tbbo = (ask(market, EQUITIES, schema, *window) for schema in ("trades", "tbbo"))
        for name in set(trades.dtype.names) - {"length", "rtype"}:
            assert np.array_equal(trades[name], tbbo[name]), name
        price, bid, ask_ = tbbo["price"], tbbo["bid_px_00"], tbbo["ask_px_00"]
        assert np.all(bid < ask_)
        assert np.all(price[tbbo["side"] == b"B"] == ask_[tbbo["side"] == b"B"])
        assert np.all(price[tbbo["side"] == b"A"] == bid[tbbo["side"] == b"A"])
        assert np.all((bid <= price) & (price <= ask_))
        assert np.all((price % CENT == 0) & (bid % CENT == 0) & (ask_ % CENT == 0))
        for code in (b"A", b"B", b"N"):
            assert (tbbo["side"] == code).mean() > 0.02

    def test_a_second_ends_with_the_quote_of_its_last_trade_and_names_it(self):
        market = shared_market()
        window = OPEN + 3 * HOUR - 300 * SECOND, OPEN + 3 * HOUR + 300 * SECOND
        who = ["NVDA"]
        tbbo = ask(market, EQUITIES, "tbbo", *window, who)
        quotes = ask(market, EQUITIES, "bbo-1s", window[0] + 60 * SECOND, window[1] + 1, who)
        compared = 0
        for quote in quotes:
            last = np.flatnonzero(tbbo["ts_recv"] < quote["ts_recv"])[-1]
            assert quote["ts_event"] == tbbo["ts_event"][last]
            assert quote["price"] == tbbo["price"][last]
            assert quote["size"] == tbbo["size"][last]
            assert quote["sequence"] == tbbo["sequence"][last]
            if tbbo["ts_recv"][last] >= quote["ts_recv"] - SECOND:
                compared += 1
                for name in ("bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00"):
                    assert quote[name] == tbbo[name][last], name
        assert compared > 200
        # every second in which a trade happened has its record
        ends = np.unique(tbbo["ts_recv"] // SECOND + 1)
        assert np.isin(ends[ends > window[0] // SECOND + 60], quotes["ts_recv"] // SECOND).all()

    def test_the_minutes_quote_is_the_last_seconds(self):
        market = shared_market()
        window = OPEN + 2 * HOUR, OPEN + 4 * HOUR
        minutes, seconds = (ask(market, EQUITIES, schema, *window, ["SPY"]) for schema in ("bbo-1m", "bbo-1s"))
        assert len(minutes) == 120
        for minute in minutes:
            at = np.flatnonzero(seconds["ts_recv"] <= minute["ts_recv"])[-1]
            for name in ("bid_px_00", "ask_px_00", "bid_sz_00", "price", "ts_event"):
                assert minute[name] == seconds[name][at], name

    def test_before_the_first_trade_of_the_day_there_is_no_last_price(self):
        market = shared_market()
        begins = [(TODAY - back) * DAY for back in range(30)]
        parts = [ask(market, EQUITIES, "bbo-1s", begin, begin + 4 * SECOND, ["META"]) for begin in begins]
        quotes = np.concatenate(parts)
        first = quotes["ts_event"] == UNDEFINED
        assert 0 < first.sum() < len(quotes)
        assert np.all(quotes["price"][first] == UNDEF_PRICE)
        assert np.all(quotes["size"][first] == 0)
        # yesterday's last trade is nobody's last trade today
        assert np.all(quotes["ts_event"][~first] // DAY == quotes["ts_recv"][~first] // DAY)

    def test_the_mid_is_the_true_price_within_the_spread(self):
        market = shared_market()
        quotes = ask(market, EQUITIES, "bbo-1m", OPEN, OPEN + DAY, ["AAPL"])
        both = (quotes["bid_px_00"] != UNDEF_PRICE) & (quotes["ask_px_00"] != UNDEF_PRICE)
        quotes = quotes[both][::20]
        for quote in quotes:
            at = -(-int(quote["ts_recv"]) // SECOND) * SECOND
            at = min(at, OPEN + DAY)
            truth = market.true.spot("AAPL", at)
            mid = (quote["bid_px_00"] + quote["ask_px_00"]) / 2e9
            spread = abs(quote["ask_px_00"] - quote["bid_px_00"]) / 1e9
            # a last trade at the edge of the minute's range moves the quote a little
            assert abs(mid - truth) <= spread + 0.05

    def test_sequences_rise_and_some_trades_are_told_twice_in_every_byte(self):
        trades = ask(shared_market(), EQUITIES, "trades", OPEN, OPEN + DAY, ["AAPL", "NVDA"])
        doubles = 0
        for one in np.unique(trades["instrument_id"]):
            mine = trades[trades["instrument_id"] == one]
            steps = np.diff(mine["sequence"].astype(np.int64))
            assert np.all(steps >= 0)
            same = np.array([a.tobytes() == b.tobytes() for a, b in pairwise(mine)])
            # one sequence number is one message: what shares it shares everything
            assert np.array_equal(same, steps == 0)
            doubles += int(same.sum())
            assert np.mean(np.diff(mine["ts_event"].astype(np.int64)) == 0) > 0.01
        assert 2 <= doubles < 1e-3 * len(trades)


class TestOptions:
    def chain(self, symbol: str):
        market = shared_market()
        return market, market.resolve(OPTIONS, [f"{symbol}.OPT"], "parent", TODAY, TODAY + 1)

    def test_tcbbo_is_the_trade_and_its_quote(self):
        market, _ = self.chain("QQQ")
        trades, tcbbo = (ask(market, OPTIONS, s, OPEN + HOUR, OPEN + 3 * HOUR) for s in ("trades", "tcbbo"))
        for name in ("instrument_id", "ts_event", "ts_recv", "price", "size"):
            assert np.array_equal(trades[name], tcbbo[name])
        assert np.all(tcbbo["publisher_id"] == 30)
        assert set(trades["publisher_id"].tolist()) <= set(range(20, 38)) - {30}
        assert np.all(trades["side"] == b"N")
        assert np.all(trades["flags"] == 194)
        two = tcbbo["bid_px_00"] != UNDEF_PRICE
        assert np.all(tcbbo["price"] <= tcbbo["ask_px_00"])
        assert np.all(tcbbo["price"][two] >= tcbbo["bid_px_00"][two])

    def test_the_minutes_quotes_are_the_last_seconds(self):
        market, _ = self.chain("AAPL")
        end = OPEN + 14 * HOUR
        minute = ask(market, OPTIONS, "cbbo-1m", end, end + 1)
        seconds = ask(market, OPTIONS, "cbbo-1s", end - MINUTE + 1, end + 1)
        _, last = np.unique(seconds["instrument_id"][::-1], return_index=True)
        latest = seconds[::-1][last]
        minute = minute[np.argsort(minute["instrument_id"])]
        assert len(minute) > 2_000
        for name in ("instrument_id", "bid_px_00", "ask_px_00", "price", "ts_event", "bid_sz_00"):
            assert np.array_equal(minute[name], latest[name]), name

    def test_a_trades_quote_is_its_seconds(self):
        market, _ = self.chain("SPY")
        start = OPEN + 9 * HOUR
        tcbbo = ask(market, OPTIONS, "tcbbo", start, start + 3 * MINUTE)
        seconds = ask(market, OPTIONS, "cbbo-1s", start + 1, start + 3 * MINUTE + 1)
        where = {(int(q["instrument_id"]), int(q["ts_recv"])): q for q in seconds}
        equal = 0
        for trade in tcbbo:
            # a trade in a second is a change, so the second has a record
            quote = where[int(trade["instrument_id"]), (int(trade["ts_recv"]) // SECOND + 1) * SECOND]
            assert quote["ts_event"] >= trade["ts_event"]
            equal += quote["bid_px_00"] == trade["bid_px_00"] and quote["ask_px_00"] == trade["ask_px_00"]
        assert len(tcbbo) > 100
        assert equal >= 0.97 * len(tcbbo)  # but for the few that are crossed or one-sided on purpose

    def test_the_last_trade_of_a_quote_is_the_contracts_last(self):
        market, _ = self.chain("TSLA")
        at = OPEN + 17 * HOUR
        trades = ask(market, OPTIONS, "trades", OPEN, at)
        quotes = ask(market, OPTIONS, "cbbo-1m", at, at + 1)
        last = {int(t["instrument_id"]): t for t in trades}
        traded = 0
        for quote in quotes:
            mine = last.get(int(quote["instrument_id"]))
            if mine is None:
                assert quote["ts_event"] == UNDEFINED
                assert quote["price"] == UNDEF_PRICE
            else:
                traded += 1
                assert (quote["ts_event"], quote["price"], quote["size"]) == (
                    mine["ts_event"],
                    mine["price"],
                    mine["size"],
                )
        assert traded > 1_000

    def test_mids_are_the_true_values_within_the_spread(self):
        market, chain = self.chain("MSFT")
        at = OPEN + 15 * HOUR
        quotes = ask(market, OPTIONS, "cbbo-1m", at, at + 1)
        by_id = {int(q["instrument_id"]): q for q in quotes}
        off = 0
        for one in chain:
            truth, quote = market.true.contract(one.raw_symbol, at), by_id[one.vendor_id]
            bid = 0 if quote["bid_px_00"] == UNDEF_PRICE else quote["bid_px_00"]
            off += (
                not min(bid, quote["ask_px_00"]) / 1e9 - 0.03
                <= truth.value
                <= max(bid, quote["ask_px_00"]) / 1e9 + 0.03
            )
        assert off <= 0.01 * len(chain)

    def test_put_call_parity_holds_within_the_spreads(self):
        market, chain = self.chain("AMZN")  # pays no dividend: calls are European, puts worth more than that
        at = OPEN + 15 * HOUR
        by_id = {int(q["instrument_id"]): q for q in ask(market, OPTIONS, "cbbo-1m", at, at + 1)}
        spot, rate = market.true.spot("AMZN", at), market.true.rate(at)
        mids: dict[tuple[object, int], dict[str, float]] = {}
        for one in chain:
            quote, option = by_id[one.vendor_id], parse_option_symbol(one.raw_symbol)
            if 0 < quote["bid_px_00"] < quote["ask_px_00"] < UNDEF_PRICE:
                mids.setdefault((option.expiration, option.strike), {})[option.right] = (
                    quote["bid_px_00"] + quote["ask_px_00"]
                ) / 2e9
        compared = 0
        for (expiration, strike), pair in mids.items():
            if len(pair) == 2:
                days = (np.datetime64(expiration) - np.datetime64(TODAY, "D")).astype(int)
                strike /= 1e9
                forward = pair["C"] - pair["P"]
                slack = 0.06
                assert spot - strike - slack <= forward <= spot - strike * np.exp(-rate * (days + 1) / 365) + slack
                compared += 1
        assert compared > 50

    def test_an_option_lives_until_its_sessions_close(self):
        market, chain = self.chain("SPY")
        expiring = {one.raw_symbol for one in chain if one.raw_symbol[6:12] == "260311"}
        assert expiring
        closing = ask(market, OPTIONS, "cbbo-1m", OPEN + DAY - MINUTE + 1, OPEN + DAY, expiring)
        assert len(closing) == len(expiring)
        spot = market.true.spot("SPY", OPEN + DAY)
        for one in chain:
            if one.raw_symbol in expiring:
                option = parse_option_symbol(one.raw_symbol)
                sign = 1 if option.right == "C" else -1
                quote = closing[closing["instrument_id"] == one.vendor_id][0]
                worth = max(0.0, sign * (spot - option.strike / 1e9))
                if quote["bid_px_00"] != UNDEF_PRICE:
                    assert abs((quote["bid_px_00"] + quote["ask_px_00"]) / 2e9 - worth) < 0.05
                else:
                    assert worth < 0.1
        tomorrow = market.chains.chain("SPY", TODAY + 1).raw_symbols
        assert not expiring & set(tomorrow)


def test_ids_of_records_are_those_of_the_day():
    market = shared_market()
    for dataset, schema, symbol in [(EQUITIES, "trades", "TSLA"), (EQUITIES, "ohlcv-1d", "TSLA")]:
        for day in (TODAY - 1, TODAY):
            records = ask(market, dataset, schema, day * DAY_NS, (day + 1) * DAY_NS, [symbol])
            assert set(records["instrument_id"].tolist()) == {vendor_id(market, dataset, symbol, day)}
