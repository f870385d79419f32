"""Each strategy begins where its declaration says, is silent next to it, looks at nothing later, keeps its bounds."""

from dataclasses import replace
from datetime import date

import annotated_types
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ots_market.sessions import xnys
from ots_market.timeframes import Timeframe
from ots_signals import contract_choice, lookahead
from ots_signals.contract_choice import NoChoice
from ots_signals.decisions import Why
from ots_signals.engine import session_index
from ots_signals.fair_market import FairMarket, FairSettings
from ots_signals.lookahead import check_session, prefix_check
from ots_signals.market_view import DailyVolatility, UnderlyingBars
from ots_signals.strategies import registered
from ots_signals.strategies.activity import GammaPin, UnusualVolume
from ots_signals.strategies.base import Moment, Plan, Refusal, Strategy, Study, register
from ots_signals.strategies.levels import GapFill, LevelBounce
from ots_signals.strategies.momentum import BreakoutVolume, MacdVolume, OpeningRange
from ots_signals.strategies.oscillators import BollingerReversion, RsiReversal
from ots_signals.strategies.volatility import CheapImplied, DearImplied, VolatilitySqueeze

SESSIONS = xnys()
FIRST = session_index(SESSIONS, date(2025, 3, 3))
NOTHING_DAILY = DailyVolatility(np.empty(0, "datetime64[D]"), np.empty(0), np.empty(0))
BARS = 78
FLAT = 100 + 0.01 * (np.arange(BARS) % 2)


def made(*sessions, spread=0.02, volume=None, opens=None):
    """Five-minute bars of consecutive sessions from their closes; a bar opens at the close before it."""
    closes = np.concatenate(sessions).astype(float)
    n = len(closes)
    day = np.repeat(np.arange(len(sessions)), [len(one) for one in sessions])
    place = np.concatenate([np.arange(len(one)) for one in sessions])
    open_ = np.concatenate([closes[:1], closes[:-1]])
    for k, value in (opens or {}).items():
        open_[np.flatnonzero(day == k)[0]] = value
    starts = SESSIONS.opens[FIRST + day] + place * Timeframe.M5.nanoseconds
    return UnderlyingBars(
        underlying="XYZ",
        timeframe=Timeframe.M5,
        starts=starts,
        known_at=starts + Timeframe.M5.nanoseconds,
        open=open_,
        high=np.maximum(open_, closes) + spread,
        low=np.minimum(open_, closes) - spread,
        close=closes,
        volume=np.full(n, 1000.0) if volume is None else volume,
        session=FIRST + day,
    )


def mirrored(bars):
    """Up is down."""
    return replace(bars, open=200 - bars.open, high=200 - bars.low, low=200 - bars.high, close=200 - bars.close)


def begun(strategy, bars):
    """(bar of its session, direction) of all events in the last session."""
    found = strategy.triggers(bars, NOTHING_DAILY, SESSIONS)
    first = int(np.flatnonzero(bars.session == bars.session[-1])[0])
    return [(i - first, int(found[i])) for i in np.flatnonzero(found).tolist() if i >= first]


def after(level, *moves):
    """The flat session up to a bar, then other closes, then the last of them."""
    return np.concatenate([FLAT[:level], np.asarray(moves, float), np.full(BARS, moves[-1])])[:BARS]


def fall_and_rise():
    return after(30, *np.linspace(99.8, 96, 20), *np.linspace(96.3, 98, 6))


class TestWhereTheyBegin:
    def test_rsi_reversal_buys_the_way_back_and_not_the_fall(self):
        strategy = RsiReversal()
        bars = made(FLAT, FLAT, fall_and_rise())
        events = begun(strategy, bars)
        assert [direction for _, direction in events] == [1]
        assert 50 <= events[0][0] <= 53
        assert begun(strategy, mirrored(bars)) == [(events[0][0], -1)]
        assert begun(strategy, made(FLAT, FLAT, FLAT)) == []
        still_falling = made(FLAT, FLAT, after(30, *np.linspace(99.8, 90, 48)))
        assert begun(strategy, still_falling) == []

    def test_bollinger_reversion_at_the_first_close_back_inside(self):
        bars = made(FLAT, FLAT, after(40, 98.0, 99.9))
        assert begun(BollingerReversion(), bars) == [(41, 1)]
        assert begun(BollingerReversion(), mirrored(bars)) == [(41, -1)]
        assert begun(BollingerReversion(), made(FLAT, FLAT, FLAT)) == []

    def test_a_breakout_takes_volume(self):
        days = [FLAT] * 5 + [after(40, 100.6)]
        volume = np.full(6 * BARS, 1000.0)
        assert begun(BreakoutVolume(), made(*days, volume=volume)) == []
        volume[5 * BARS + 40] = 2000.0
        loud = made(*days, volume=volume)
        assert begun(BreakoutVolume(), loud) == [(40, 1)]
        assert begun(BreakoutVolume(), mirrored(loud)) == [(40, -1)]

    def test_macd_takes_volume(self):
        days = [FLAT] * 5 + [fall_and_rise()]
        volume = np.full(6 * BARS, 1000.0)
        volume[5 * BARS :] = 400.0
        assert begun(MacdVolume(), made(*days, volume=volume)) == []
        volume[5 * BARS + 48 :] = 1000.0
        events = begun(MacdVolume(), made(*days, volume=volume))
        assert [direction for _, direction in events] == [1]
        assert 50 <= events[0][0] <= 55

    def test_a_gap_must_begin_to_fill_and_still_be_open(self):
        strategy = GapFill()
        below = np.concatenate([[98.9, 98.8, 98.7, 98.8, 98.95, 99.1, 99.2], np.full(BARS - 7, 99.2)])
        bars = made(FLAT, below, opens={1: 99.0})
        assert begun(strategy, bars) == [(5, 1)]
        assert begun(strategy, mirrored(bars)) == [(5, -1)]
        filled = below.copy()
        filled[2] = 100.2
        assert begun(strategy, made(FLAT, filled, opens={1: 99.0})) == []
        small = 100.01 + (below - 99.0) / 100
        assert begun(strategy, made(FLAT, small, opens={1: 99.99})) == []
        assert begun(strategy, made(FLAT, np.full(BARS, 98.5), opens={1: 99.0})) == []

    def test_a_level_is_touched_and_left(self):
        before = np.concatenate([np.full(30, 100.0), np.linspace(100, 103, 24), np.linspace(103, 100, 24)])
        pivot = (103.02 + 99.98 + 100.0) / 3
        touch = after(0, *np.full(20, pivot + 0.6), pivot, pivot + 0.6)
        bars = made(before, touch, opens={1: pivot + 0.6}, spread=0.02)
        low = bars.low.copy()
        low[BARS + 20] = pivot  # touched by the bar that closes near, left by the next
        low[BARS + 21] = pivot
        bars = replace(bars, low=low)
        strategy = LevelBounce.with_values(tolerance=0.3)
        assert begun(strategy, bars) == []  # it did not come from above: the close before was at the level
        close, low = bars.close.copy(), bars.low.copy()
        close[BARS + 20], low[BARS + 20], low[BARS + 21] = pivot + 0.65, pivot + 0.01, pivot + 0.55
        open_ = bars.open.copy()
        open_[BARS + 20] = pivot + 0.6
        bounced = replace(bars, open=open_, close=close, low=low, high=np.maximum(bars.high, close + 0.02))
        assert begun(strategy, bounced) == [(20, 1)]

    def test_a_squeeze_that_ends(self):
        bars = made(FLAT, FLAT, after(40, 101.5), spread=0.3)
        events = begun(VolatilitySqueeze(), bars)
        assert [direction for _, direction in events] == [1]
        assert 40 <= events[0][0] <= 43  # the bands widen within some bars of the jump
        assert begun(VolatilitySqueeze(), mirrored(bars)) == [(events[0][0], -1)]
        assert begun(VolatilitySqueeze(), made(FLAT, FLAT, FLAT, spread=0.3)) == []
        steady = np.linspace(100, 130, 3 * BARS)  # a trend is wide, never squeezed
        assert begun(VolatilitySqueeze(), made(*np.split(steady, 3))) == []

    def test_the_opening_range_and_no_later_than_it_says(self):
        bars = made(FLAT, after(20, 100.5))
        assert begun(OpeningRange(), bars) == [(20, 1)]
        assert begun(OpeningRange(), mirrored(bars)) == [(20, -1)]
        assert begun(OpeningRange(), made(FLAT, after(60, 100.5))) == []
        inside_the_first_minutes = made(FLAT, after(3, 100.5))
        assert begun(OpeningRange(), inside_the_first_minutes) == []

    def test_no_more_than_so_many_and_not_too_soon(self):
        zigzag = np.concatenate([FLAT[:6], np.tile([100.5, 100.0], 36)])
        bars = made(FLAT, zigzag)
        assert len(begun(OpeningRange(), bars)) == 1
        often = OpeningRange.with_values(most_a_session=4, cooldown_minutes=0, most_minutes=390)
        assert [i for i, _ in begun(often, bars)] == [6, 8, 10, 12]
        seldom = OpeningRange.with_values(most_a_session=4, cooldown_minutes=60, most_minutes=390)
        assert [i for i, _ in begun(seldom, bars)] == [6, 18, 30, 42]


@pytest.fixture(scope="module")
def market():
    return FairMarket(3, FairSettings(underlyings=("FRA", "FRB"), sessions=6))


@pytest.fixture(scope="module")
def noon(market):
    """A chain at noon of a session whose options of the day are still alive."""
    day = next(day for day in market.trading_dates if day.weekday() == 2)
    k = session_index(market.sessions, day)
    return market.chain("FRA", int(market.sessions.opens[k]) + 240 * 60 * 10**9)


def moment(chain, **features):
    bars = made(FLAT)
    return Moment(2, replace(bars, known_at=bars.known_at), 0, features, SESSIONS)


class TestWhatTheChainMustShow:
    def test_cheap_and_dear_are_opposites(self, noon):
        cheap, dear = CheapImplied(), DearImplied()
        low, high = moment(noon, realised_volatility=0.05), moment(noon, realised_volatility=2.0)
        bought = cheap.plan(high, noon, NOTHING_DAILY)
        assert isinstance(bought, Plan)
        assert bought.quantities == (1, 1)
        assert set(noon.right[list(bought.rows)]) == {1.0, -1.0}
        assert len(set(noon.strike[list(bought.rows)])) == 1
        assert cheap.plan(low, noon, NOTHING_DAILY) is None
        sold = dear.plan(low, noon, NOTHING_DAILY)
        assert isinstance(sold, Plan)
        long_put, short_put, short_call, long_call = noon.strike[list(sold.rows)]
        assert long_put < short_put < noon.spot < short_call < long_call
        assert dear.plan(high, noon, NOTHING_DAILY) is None
        unknown = moment(noon, realised_volatility=None)
        assert cheap.plan(unknown, noon, NOTHING_DAILY) is None

    def test_implied_is_compared_by_the_clock_of_sessions(self, market):
        """The schedule of a fair market is by that clock: nothing of a weekend is left in the ratio."""
        calm = FairMarket(3, FairSettings(underlyings=("FRA",), sessions=6, wander=1e-9))
        strategy = CheapImplied.with_values(most_ratio=1.2)
        ratios = []
        for day in calm.trading_dates:
            k = session_index(calm.sessions, day)
            chain = calm.chain("FRA", int(calm.sessions.opens[k]) + 60 * 60 * 10**9)
            plan = strategy.plan(moment(chain, realised_volatility=1.0), chain, NOTHING_DAILY)
            ratios.append(plan.features["implied_volatility"])
        assert max(ratios) / min(ratios) < 1.06

    def test_a_pin_needs_the_strike_to_be_near(self, noon):
        spot = noon.spot
        strikes = np.unique(noon.strike)
        near, far = strikes[np.abs(strikes - spot).argmin()], strikes[0]
        at = {k: replace(noon, open_interest=np.where(noon.strike == k, 1_000_000, 10)) for k in (near, far)}
        strategy = GammaPin.with_values(nearness=2.0)
        plan = strategy.plan(moment(noon), at[near], NOTHING_DAILY)
        assert isinstance(plan, Plan)
        rows = list(plan.rows)
        assert list(noon.strike[rows])[1:3] == [near, near]
        assert noon.years[rows].max() == noon.years.min()
        closer = GammaPin.with_values(nearness=0.05)
        assert closer.plan(moment(noon), replace(at[near], spot=(near + strikes[-1]) / 2), NOTHING_DAILY) is None

    def test_unusual_volume_takes_that_contract(self, noon):
        quiet = replace(noon, volume=np.full(len(noon), 5))
        assert UnusualVolume().plan(moment(noon), quiet, NOTHING_DAILY) is None
        row = int(np.flatnonzero((np.abs(noon.delta + 0.5) < 0.1) & (noon.years > 2.5 / 365))[0])
        volume = quiet.volume.copy()
        volume[row] = 3 * noon.open_interest[row] + 500
        plan = UnusualVolume().plan(moment(noon), replace(quiet, volume=volume), NOTHING_DAILY)
        assert isinstance(plan, Plan)
        assert (plan.rows, plan.direction) == ((row,), -1)


class TestChoice:
    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"quoted_at": lambda c: c.quoted_at - 3600 * 10**9}, Why.STALE_QUOTES),
            ({"bid": lambda c: c.bid * 0}, Why.STALE_QUOTES),
            ({"bid": lambda c: c.ask // 2}, Why.SPREAD_TOO_WIDE),
            ({"delta": lambda c: c.delta * np.nan}, Why.NO_VOLATILITY),
            ({"open_interest": lambda c: c.open_interest * 0}, Why.NO_CONTRACT),
            ({"ask_size": lambda c: c.ask_size * 0}, Why.NO_CONTRACT),
            ({"years": lambda c: c.years + 1}, Why.NO_CONTRACT),
            ({"delta": lambda c: c.delta * 0.1}, Why.NO_CONTRACT),
        ],
    )
    def test_says_why_there_is_nothing(self, noon, change, why):
        spoilt = replace(noon, **{name: make(noon) for name, make in change.items()})
        plan = OpeningRange().plan(Moment(1, made(FLAT), 0, {}, SESSIONS), spoilt, NOTHING_DAILY)
        assert isinstance(plan, Refusal)
        assert plan.why is why
        assert plan.detail

    def test_takes_the_delta_wanted_and_unknown_sizes_pass(self, noon):
        open_ = replace(
            noon, bid_size=np.full(len(noon), -1), ask_size=np.full(len(noon), -1), open_interest=np.full(len(noon), -1)
        )
        for right in (1, -1):
            row = contract_choice.single(open_, OpeningRange().parameters, right)
            assert noon.right[row] == right
            assert abs(abs(noon.delta[row]) - 0.5) < 0.1
        with pytest.raises(NoChoice):
            contract_choice.single(replace(noon, bid=noon.ask), OpeningRange().parameters, 1)


@pytest.mark.parametrize("name", sorted(registered()))
def test_nothing_later_changes_what_was_said(market, name):
    strategy = registered()[name]()
    for underlying, day in (("FRA", market.trading_dates[3]), ("FRB", market.trading_dates[5])):
        assert check_session(market, strategy, underlying, day) is None


class _Peeking(Strategy):
    """Begins at a bar before the price rises: it looks at the next."""

    id, version, title, family = "peeking", "1", "peeks", "test"
    sources = invalidation = ""
    history_sessions = 1

    def study(self, bars, daily, sessions):
        rises = np.zeros(len(bars), np.int8)
        rises[:-1] = bars.close[1:] > bars.close[:-1] * 1.001
        return Study(rises, {})

    def plan(self, moment, chain, daily):
        return None


class _Whole(_Peeking):
    """Reads the level of the whole day."""

    id = "whole_day"

    def study(self, bars, daily, sessions):
        return Study(np.zeros(len(bars), np.int8), {"place": bars.close / bars.close.max()})


@pytest.mark.parametrize("cheat", [_Peeking, _Whole])
def test_one_that_looks_ahead_is_caught(market, cheat):
    found = check_session(market, cheat(), "FRA", market.trading_dates[3])
    assert found is not None
    assert "looks ahead" in str(found)


def test_the_command_checks_by_name(capsys):
    assert lookahead.main(["gap_fill", "cheap_implied", "--sessions", "1"]) == 0
    assert capsys.readouterr().out.count("nothing that came later") == 2
    with pytest.raises(SystemExit):
        lookahead.main(["nobody"])


def bounds(field):
    """Least and most of a number, as declared."""
    least = next((m.ge for m in field.metadata if isinstance(m, annotated_types.Ge)), None)
    most = next((m.le for m in field.metadata if isinstance(m, annotated_types.Le)), None)
    return least, most


@pytest.mark.parametrize("name", sorted(registered()))
def test_every_parameter_has_bounds_and_keeps_them(name):
    model = registered()[name].Parameters
    for field, info in model.model_fields.items():
        assert info.description, field
        if info.annotation is bool:
            continue
        least, most = bounds(info)
        assert least is not None, field
        assert most is not None, field
        assert least <= info.default <= most, field
        for bad in (least - 1, most + 1, float("nan")):
            with pytest.raises(ValidationError):
                model(**{field: bad})
    with pytest.raises(ValidationError):
        model(unheard_of=1)


@st.composite
def parameters_of(draw, model):
    values = {}
    for field, info in model.model_fields.items():
        if info.annotation is bool or not draw(st.booleans()):
            continue
        least, most = bounds(info)
        step = next((m.multiple_of for m in info.metadata if isinstance(m, annotated_types.MultipleOf)), 1)
        if info.annotation is int:
            values[field] = step * draw(st.integers(-(-least // step), most // step))
        else:
            values[field] = draw(st.floats(least, most))
    return values


@pytest.mark.parametrize("name", sorted(registered()))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_parameters_within_their_bounds_work(market, name, data):
    cls = registered()[name]
    values = data.draw(parameters_of(cls.Parameters))
    try:
        strategy = cls.with_values(**values)
    except ValidationError as error:
        assert "must not be above" in str(error)  # noqa: PT017
        return
    day = market.trading_dates[4]
    k = session_index(market.sessions, day)
    close = int(market.sessions.closes[k])
    bars = market.bars("FRA", strategy.timeframe, day, strategy.history_sessions, close)
    daily = market.daily_volatility("FRA", int(market.sessions.opens[k]))
    study = strategy.study(bars, daily, market.sessions)
    assert study.directions.dtype == np.int8
    assert set(np.unique(study.directions)) <= {-1, 0, 1, 2}
    assert all(len(values) == len(bars) for values in study.readings.values())
    assert prefix_check(strategy, bars, daily, market.sessions, at=[len(bars) // 2, len(bars) - 2]) is None
    chain = market.chain("FRA", int(bars.known_at[-10]))
    for direction in (1, -1) if not strategy.needs_chain_to_trigger else (2,):
        i = len(bars) - 10
        plan = strategy.plan(Moment(direction, bars, i, study.features(i), market.sessions), chain, daily)
        assert plan is None or isinstance(plan, Plan | Refusal)


def test_no_two_strategies_have_one_name():
    assert len(registered()) == 12
    taken = type("Taken", (_Peeking,), {"id": "gap_fill"})
    with pytest.raises(ValueError, match="gap_fill"):
        register(taken)


@pytest.mark.parametrize("name", sorted(registered()))
def test_declares_what_it_is(name):
    strategy = registered()[name]()
    for text in (strategy.title, strategy.sources, strategy.invalidation, strategy.horizon, strategy.family):
        assert text
    assert strategy.__doc__
