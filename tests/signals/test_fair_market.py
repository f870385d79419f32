"""Nobody has an edge in a fair market: mids are martingales, and what is paid is the spread."""

from datetime import date

import numpy as np
import pytest

from ots_market.symbols import parse_option_symbol
from ots_market.timeframes import DAY_NS, MINUTE_NS, Timeframe
from ots_quant import european
from ots_signals.decisions import Mode
from ots_signals.engine import Draft, Run, drafts, finish, session_index
from ots_signals.fair_market import Contracts, FairMarket, FairSettings
from ots_signals.fair_outcomes import CODES, Positions, matched, positions_of, resolve_positions
from ots_signals.odds import TrackRecords
from ots_signals.planting import calibrate, plant
from ots_signals.resolver import resolve_many
from ots_signals.strategies import registered
from ots_signals.strategies.momentum import OpeningRange
from ots_signals.strategies.oscillators import RsiReversal

SMALL = FairSettings(underlyings=("FRA", "FRB", "FRC"), sessions=8)
RUN = Run(Mode.BACKTEST, "test", "test")


@pytest.fixture(scope="module")
def market():
    return FairMarket(11, SMALL)


def moment(market, session, minute):
    k = session_index(market.sessions, session)
    return int(market.sessions.opens[k]) + minute * MINUTE_NS


def test_the_same_seed_is_the_same_market_and_another_is_not(market):
    again, other = FairMarket(11, SMALL), FairMarket(12, SMALL)
    at = moment(market, market.trading_dates[3], 100)
    one, two, three = (m.chain("FRB", at) for m in (market, again, other))
    for name in ("bid", "ask", "symbol", "volume", "open_interest", "quoted_at", "bid_size"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert one.digest == two.digest != three.digest
    assert one.spot != three.spot
    assert one.source == "fair:11"


def test_mids_are_martingales():
    """The mean return of a bought option is 0, over an hour and over a night: of calls, of puts, and of straddles."""
    found = {(name, what): [] for name in ("hour", "night") for what in ("call", "put", "straddle")}
    for seed in range(8):
        market = FairMarket(1000 + seed, FairSettings(sessions=60))
        names, days = np.arange(len(market.underlyings)), np.arange(market.settings.warm_up, market.count - 1)
        u, day = (a.ravel() for a in np.meshgrid(names, days[market.lengths[days] > 330], indexing="ij"))
        expiration = np.array([market.expirations(d + 2)[0] for d in day.tolist()])
        strike = market.spot.close[u, day, 119]
        values = {}
        for right, what in ((1.0, "call"), (-1.0, "put")):
            contracts = Contracts(expiration, np.full(len(day), right), strike)
            now, hour, close = market.mids(u, day, np.broadcast_to([120, 180, 10_000], (len(day), 3)), contracts).T
            morning = market.mids(u, day + 1, np.zeros((len(day), 1), np.int64), contracts)[:, 0]
            values[what] = np.stack([now, hour, close, morning])
        values["straddle"] = values["call"] + values["put"]
        for what, (now, hour, close, morning) in values.items():
            found["hour", what].append(by_day(hour / now - 1, day))
            found["night", what].append(by_day(morning / close - 1, day))
    for (name, what), parts in found.items():
        values = np.concatenate(parts)  # days: underlyings of one day share a factor
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean()) < 3 * error, (name, what)
        assert error < (0.004 if what == "straddle" else 0.02), (name, what)


def by_day(values, day):
    """Means of each day."""
    _, at = np.unique(day, return_inverse=True)
    return np.bincount(at, values) / np.bincount(at)


def test_variance_that_is_priced_is_the_variance_that_comes():
    """Squared moves over the variance of the schedule that options are priced by: their mean is 1."""
    minutes, nights = [], []
    for seed in range(6):
        market = FairMarket(seed, FairSettings(sessions=60))
        spot, n = market.spot, market.count
        full = market.lengths[:n] == 390
        moves = np.diff(np.log(spot.close[:, full]), axis=2) ** 2 / np.diff(spot.variance[:, full], axis=2)
        minutes.append(moves.mean(axis=(0, 2)))  # of a day: underlyings share a factor
        last = spot.close[:, np.arange(n), market.lengths[:n] - 1]
        jumps = np.log(spot.open[:, 1:] / last[:, :-1]) ** 2 / (spot.opening[:, 1:] - spot.closing[:, : n - 1])
        nights.append(jumps.mean(axis=0))
    for parts, most in ((minutes, 0.003), (nights, 0.06)):
        values = np.concatenate(parts)
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - 1) < 3 * error
        assert error < most


def test_the_chain_is_priced_by_what_is_quoted_beside_it(market):
    at = moment(market, market.trading_dates[2], 200)
    chain = market.chain("FRA", at)
    k, u = market.session_index(market.trading_dates[2]), market.underlying_index("FRA")
    expiration = np.searchsorted(market.dates, chain.expiration)
    left = market.spot.closing[u, expiration] - market.spot.variance[u, k, 199]
    assert chain.implied_volatility**2 * chain.years == pytest.approx(left, rel=1e-9)
    value = european.price(
        chain.right, chain.spot, chain.strike, chain.years, chain.rate, chain.dividend_yield, chain.implied_volatility
    )
    assert value == pytest.approx(chain.theoretical, rel=1e-12)
    assert (chain.bid + chain.ask) / 2e9 == pytest.approx(value, abs=2e-9)
    closes = [market.sessions.closes[session_index(market.sessions, d.astype(object))] for d in chain.expiration]
    assert chain.years == pytest.approx((np.array(closes) - at) / (365 * DAY_NS))
    for row in (0, len(chain) - 1):
        parsed = parse_option_symbol(str(chain.symbol[row]))
        assert parsed.strike == round(chain.strike[row] * 1e9)
        assert parsed.expiration == chain.expiration[row].astype(object)
    order = np.lexsort((-chain.right, chain.strike, chain.expiration))
    assert np.array_equal(order, np.arange(len(chain)))


def test_the_spread_is_what_the_model_says(market):
    mid = np.array([0.005, 0.02, 1.0, 4.0, 100.0])
    bid, ask = market.quotes(mid)
    assert (bid > 0).all()
    assert (ask - bid).tolist() == pytest.approx([8e6, 2e7, 2e7, 6e7, 1.5e9], abs=2)
    assert (bid + ask).tolist() == pytest.approx((2e9 * mid).tolist(), abs=2)


def test_a_tape_shows_what_the_chain_shows_then(market):
    session = market.trading_dates[4]
    at = moment(market, session, 30)
    chain = market.chain("FRC", at)
    rows = [5, 60, 61, 200]
    tape = market.tape("FRC", chain.symbol[rows].tolist(), at, at + 90 * MINUTE_NS)
    assert tape.ends[0] == at + MINUTE_NS
    assert tape.bid.shape == (4, 90)
    assert tape.complete
    later = market.chain("FRC", at + 60 * MINUTE_NS)
    assert np.array_equal(tape.bid[:, 59], later.bid[rows])
    assert np.array_equal(tape.ask[:, 59], later.ask[rows])
    assert tape.spot[59] == later.spot


def test_bars_are_what_had_closed(market):
    session = market.trading_dates[5]
    k = session_index(market.sessions, session)
    at = moment(market, session, 63)
    one = market.bars("FRA", Timeframe.M1, session, 1, at)
    five = market.bars("FRA", Timeframe.M5, session, 1, at)
    assert one.known_at[-1] == at
    assert five.known_at[-1] == at - 3 * MINUTE_NS
    assert set(one.session) == {k - 1, k}
    today = one.session == k
    assert five.high[-1] == one.high[today][55:60].max()
    assert five.volume[-1] == pytest.approx(one.volume[today][55:60].sum())
    assert five.close[-1] == one.close[today][59]
    for bars in (one, five):
        assert (bars.high >= np.maximum(bars.open, bars.close)).all()
        assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert market.chain("FRA", at).spot == one.close[-1]


def test_a_half_day_ends_early_and_expires_then():
    market = FairMarket(4, FairSettings(underlyings=("FRA",), first_session=date(2025, 11, 24), sessions=6))
    day = date(2025, 11, 28)
    k = session_index(market.sessions, day)
    close = int(market.sessions.closes[k])
    assert (close - int(market.sessions.opens[k])) // MINUTE_NS == 210
    bars = market.bars("FRA", Timeframe.M5, day, 0, close)
    assert len(bars) == 42
    assert not np.isnan(bars.close).any()
    chain = market.chain("FRA", close - MINUTE_NS)
    assert chain.years[0] == pytest.approx(1 / (365 * 1440))
    assert len(market.tape("FRA", [chain.symbol[0]], close - 5 * MINUTE_NS, close + MINUTE_NS).ends) == 5
    assert (market.chain("FRA", close).years > 0).all()


def test_says_what_it_does_not_have(market):
    at = moment(market, market.trading_dates[0], 1)
    with pytest.raises(KeyError, match="NOPE"):
        market.chain("NOPE", at)
    with pytest.raises(KeyError, match="session"):
        market.bars("FRA", Timeframe.M5, date(2025, 1, 4), 0, at)
    with pytest.raises(KeyError, match="reach"):
        market.chain("FRA", at + 400 * DAY_NS)
    with pytest.raises(ValueError, match="calendar"):
        FairMarket(1, FairSettings(first_session=date(1990, 1, 5)))


def test_the_pool_ends_with_the_session(market):
    session = market.trading_dates[6]
    at = moment(market, session, 100)
    pool = market.pool("FRA", at)
    k = session_index(market.sessions, session)
    assert pool.at_ns.max() < market.sessions.closes[k]
    assert (np.diff(pool.at_ns) >= 0).all()
    at_one = market.chain("FRA", int(pool.at_ns[0]))
    row = int(np.flatnonzero(at_one.symbol == pool.symbol[0])[0])
    assert (pool.bid[0], pool.ask[0]) == (at_one.bid[row], at_one.ask[row])
    assert pool.delta[0] == pytest.approx(at_one.delta[row])


@pytest.fixture(scope="module")
def decided(market):
    """Drafts of all strategies, and what the resolver makes of them one by one."""
    strategies = [cls() for cls in registered().values()]
    found, outcomes = [], []
    for underlying, session in (("FRA", market.trading_dates[2]), ("FRB", market.trading_dates[7])):
        k = session_index(market.sessions, session)
        mine = [one for one in drafts(market, strategies, underlying, session, RUN) if isinstance(one, Draft)]
        signals = finish(mine, market.sessions, TrackRecords())
        symbols = sorted({leg.symbol for one in signals for leg in one.legs})
        opened, closed = int(market.sessions.opens[k]), int(market.sessions.closes[k])
        outcomes += resolve_many(signals, market.tape(underlying, symbols, opened, closed), market.sessions)
        found += mine
    return found, outcomes


@pytest.mark.parametrize(("fill", "share"), [(0, 1.0), (1, 0.75), (2, 0.0)])
def test_outcomes_at_once_are_those_of_the_resolver(market, decided, fill, share):
    found, outcomes = decided
    assert len({one.decision.strategy for one in found}) >= 10
    results = resolve_positions(market, positions_of(market, found), share)
    told = [one.fills[fill] for one in outcomes]
    assert [CODES[code] for code in results.code.tolist()] == [one.barrier.value for one in told]
    assert results.net.tolist() == pytest.approx([one.net_return for one in told], abs=1e-8)
    assert results.best.tolist() == pytest.approx([one.best_return for one in told], abs=1e-8)
    assert results.worst.tolist() == pytest.approx([one.worst_return for one in told], abs=1e-8)


def test_matches_are_like_what_they_match_and_earlier(market, decided):
    found, _ = decided
    positions = positions_of(market, found)
    others = matched(market, positions, 20, np.random.default_rng(1))
    again = np.repeat(np.arange(len(positions)), 20)
    assert (others.day < positions.day[again]).all()
    near = np.abs(others.minute - positions.minute[again]) <= 60
    assert near.mean() > 0.8  # the rest had to begin earlier to be held as long
    assert np.array_equal(others.right, positions.right[again])
    assert np.array_equal(others.quantity, positions.quantity[again])

    def standardised(p):
        spot = market.spot.close[p.underlying, p.day, p.minute - 1]
        left = market.spot.closing[p.underlying, p.expiration[:, 0]]
        left = left - market.spot.variance[p.underlying, p.day, p.minute - 1]
        return np.log(p.strike[:, 0] / spot) / np.sqrt(left)

    off = np.abs(standardised(others) - standardised(positions)[again])
    assert np.median(off) < 0.3  # half a strike's distance


def test_a_position_left_at_once_costs_its_spread(market):
    """One minute without a barrier: the mean over many is the spread and the fees, nothing else."""
    n = 4000
    random = np.random.default_rng(5)
    day = random.integers(market.settings.warm_up, market.count, n)
    u, minute = random.integers(0, 3, n), random.integers(10, 200, n)
    spacing = market.spacing[u]
    strike = np.rint(market.spot.close[u, day, minute - 1] / spacing) * spacing
    expiration = np.array([market.expirations(d)[-1] for d in day.tolist()])
    positions = Positions(
        u, day, minute, expiration[:, None], random.choice([1.0, -1.0], (n, 1)), strike[:, None],
        np.ones((n, 1), np.int64), np.full(n, 9.0), np.full(n, -1.0), np.ones(n, np.int64), np.full(n, 13e6),
    )  # fmt: skip
    touch = resolve_positions(market, positions)
    free = resolve_positions(market, positions, 0.0)
    error = free.net.std() / np.sqrt(n / 4)  # minutes of one day share a factor
    mid = touch.worst  # of the one minute
    assert mid == pytest.approx(touch.best)
    fees_alone = free.net - free.best
    assert abs((free.net - fees_alone).mean()) < 3 * error
    assert (touch.net - free.net).mean() == pytest.approx(-0.0149, abs=0.0015)


class TestPlanting:
    def test_moves_its_way_after_its_events_and_not_before(self):
        strategy = OpeningRange.with_values(time_stop_minutes=60)
        fair = FairMarket(21, SMALL)
        planted = plant(fair, strategy, 2.0)
        gained = {True: [], False: []}
        for underlying in fair.underlyings:
            for session in fair.trading_dates:
                for market in (fair, planted):
                    for one in drafts(market, [strategy], underlying, session, RUN):
                        if isinstance(one, Draft):
                            d = market.session_index(session)
                            at = (one.decision.event_ns - int(market.opens[d])) // MINUTE_NS
                            path = market.spot.close[market.underlying_index(underlying), d]
                            move = path[at + 59] / path[at - 1] - 1
                            gained[market is planted].append(one.decision.direction * move)
        assert len(gained[True]) == len(gained[False]) >= 15
        assert np.mean(gained[True]) > np.mean(gained[False]) + 0.004
        d = fair.settings.warm_up
        first = fair.spot.close[:, :d]
        assert np.array_equal(first, planted.spot.close[:, :d], equal_nan=True)

    def test_refuses_a_strategy_whose_events_it_would_move(self):
        with pytest.raises(ValueError, match="rsi_reversal"):
            plant(FairMarket(1, SMALL), RsiReversal(), 1.0)

    def test_calibration_finds_the_drift_of_a_known_answer(self):
        found = calibrate(lambda drift: [(0.1 * drift**1.5 - 0.02, 100), (0.1 * drift**1.5 - 0.02, 100)], 0.04)
        assert found.drift == pytest.approx(0.6 ** (1 / 1.5), rel=0.02)
        assert found.mean_net == pytest.approx(0.04, abs=0.0005)
        with pytest.raises(ValueError, match="no drift"):
            calibrate(lambda drift: [(0.0, 10), (0.0, 10)], 0.04)
