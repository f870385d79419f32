"""What is decided: the same at a moment and over a session, from what was known, with its cost, odds and reasons."""

import uuid
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_market.sessions import around_the_clock, xnys
from ots_market.timeframes import DAY_NS, MINUTE_NS
from ots_signals.canonical import canonical, digest
from ots_signals.contract_choice import entry
from ots_signals.decisions import Abstention, Leg, Mode, Signal, Why, decision_id
from ots_signals.engine import FLAT_BEFORE_CLOSE_NS, Run, decide, decide_session, drafts, session_index
from ots_signals.fair_market import FairMarket, FairSettings
from ots_signals.odds import PRIOR, TrackRecords, fair_odds
from ots_signals.outcomes import Barrier
from ots_signals.session_clock import IN_HOURS, minute_years, session_years
from ots_signals.strategies import registered
from ots_signals.strategies.momentum import OpeningRange
from ots_signals.strategies.volatility import DearImplied

RUN = Run(Mode.BACKTEST, "0" * 40, "a test")


@pytest.fixture(scope="module")
def market():
    return FairMarket(31, FairSettings(underlyings=("FRA", "FRB", "FRC"), sessions=6))


@pytest.fixture(scope="module")
def strategies():
    return [cls() for cls in registered().values()]


class _Until:
    """A market that is asked at one moment, and refuses to tell of anything later."""

    def __init__(self, market, at_ns):
        self._market, self._at = market, at_ns
        self.source, self.sessions = market.source, market.sessions
        self.chains = 0

    def bars(self, underlying, timeframe, session, history_sessions, at_ns):
        assert at_ns <= self._at
        return self._market.bars(underlying, timeframe, session, history_sessions, at_ns)

    def chain(self, underlying, at_ns):
        assert at_ns <= self._at
        self.chains += 1
        return self._market.chain(underlying, at_ns)

    def daily_volatility(self, underlying, at_ns):
        assert at_ns <= self._at
        return self._market.daily_volatility(underlying, at_ns)


class _Changed:
    """A market whose chains, or bars, are not what they were."""

    def __init__(self, market, chain=None, bars=None):
        self._market, self._chain, self._bars = market, chain, bars
        self.source, self.sessions = market.source, market.sessions
        self.daily_volatility = market.daily_volatility

    def bars(self, *asked):
        found = self._market.bars(*asked)
        return self._bars(found) if self._bars else found

    def chain(self, *asked):
        found = self._market.chain(*asked)
        return self._chain(found) if self._chain else found


def test_minute_by_minute_is_the_session_at_once(market, strategies):
    session = market.trading_dates[3]
    k = session_index(market.sessions, session)
    opened, closed = int(market.sessions.opens[k]), int(market.sessions.closes[k])
    records, live = TrackRecords(), []
    for at in range(opened + MINUTE_NS, closed + 1, MINUTE_NS):
        view = _Until(market, at)
        live += decide(view, strategies, "FRA", session, at, records, RUN)
        assert view.chains <= 1
    whole = decide_session(market, strategies, "FRA", session, records, RUN)
    assert len(whole) >= 12
    assert [canonical(one) for one in live] == [canonical(one) for one in whole]
    assert len({one.id for one in whole}) == len(whole)


def test_a_quiet_minute_asks_for_no_chain(market, strategies):
    session = market.trading_dates[3]
    k = session_index(market.sessions, session)
    at = int(market.sessions.opens[k]) + 7 * MINUTE_NS
    view = _Until(market, at)
    assert decide(view, strategies, "FRA", session, at, TrackRecords(), RUN) == []
    assert view.chains == 0


@pytest.fixture(scope="module")
def decided(market, strategies):
    found = []
    for underlying in market.underlyings:
        for session in market.trading_dates:
            found += decide_session(market, strategies, underlying, session, TrackRecords(), RUN)
    return found


def test_a_signal_is_whole(market, decided):
    signals = [one for one in decided if isinstance(one, Signal)]
    assert {one.strategy for one in signals} == set(registered())
    for one in signals:
        k = session_index(market.sessions, date.fromisoformat(one.session))
        assert one.barriers.flat_ns == market.sessions.closes[k] - FLAT_BEFORE_CLOSE_NS
        assert one.event_ns < one.barriers.time_ns <= one.barriers.flat_ns
        assert uuid.UUID(one.id).version == 7
        assert uuid.UUID(one.id).int >> 80 == one.event_ns // 1_000_000
        assert one.features_hash == digest(one.features)
        assert one.parameters_hash == digest(one.parameters)
        odds = one.odds
        assert odds.p_target + odds.p_stop + odds.p_timeout == pytest.approx(1, abs=1e-12)
        assert odds.p_null + odds.p_null_stop + odds.p_null_timeout == pytest.approx(1, abs=1e-12)
        assert odds.expected_value_low <= odds.expected_value_pct <= odds.expected_value_high
        assert odds.fair_value_pct < 0  # nobody has an edge here, and something is paid
        assert one.entry.capital > 0
        assert one.entry.mid < one.entry.partial < one.entry.touch
        assert one.entry.partial == pytest.approx(one.entry.mid + 0.75 * (one.entry.touch - one.entry.mid), abs=1)
        assert 0 < one.entry.spread_pct < one.entry.break_even_pct
        assert one.reasons
        assert one.invalidation
        assert one.quality["chain_digest"]
    for one in decided:
        assert canonical(one)


def test_no_two_strategies_see_the_same_moment_as_one(decided):
    assert len({one.id for one in decided}) == len(decided)


def test_what_is_bought_fits_the_direction(decided):
    for one in decided:
        if isinstance(one, Signal) and len(one.legs) == 1:
            assert one.legs[0].right == ("C" if one.direction == 1 else "P")
            assert one.legs[0].quantity == 1
            assert one.entry.touch == one.entry.capital == one.legs[0].ask


def test_fair_odds_are_about_what_comes_of_it():
    """Of many signals in fair markets as often as p_null says the target is touched first, within its error."""
    from ots_signals.engine import Draft
    from ots_signals.fair_outcomes import positions_of, resolve_positions
    from ots_signals.odds import Position

    told, came = [], []
    strategies = [cls() for cls in registered().values() if not cls.needs_chain_to_trigger]
    for seed in range(3):
        market = FairMarket(500 + seed, FairSettings(underlyings=("FRA", "FRB"), sessions=14))
        found = [
            one
            for underlying in market.underlyings
            for session in market.trading_dates[::2]
            for one in drafts(market, strategies, underlying, session, RUN)
            if isinstance(one, Draft)
        ]
        asked = [
            Position(d.decision.event_ns, d.spot, d.rate, d.dividend_yield, d.legs, d.years, d.entry, d.barriers)
            for d in found
        ]
        told += fair_odds(asked, market.sessions).target.tolist()
        came += (resolve_positions(market, positions_of(market, found)).code == 0).tolist()
    assert len(told) > 400
    # two underlyings and days share factors: four times the variance of independent signals is assumed
    error = 2 * np.std(came) / np.sqrt(len(came))
    assert abs(np.mean(told) - np.mean(came)) < 3 * error


class TestAbstains:
    session = 3

    def only(self, market, view, strategy=None):
        day = market.trading_dates[self.session]
        found = [
            decide_session(view, [strategy or OpeningRange()], underlying, day, TrackRecords(), RUN)
            for underlying in market.underlyings
        ]
        return [one for part in found for one in part]

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda c: replace(c, gaps=2), Why.GAP),
            (lambda c: replace(c, quoted_at=c.quoted_at - 10**12), Why.STALE_QUOTES),
            (lambda c: replace(c, bid=c.ask // 2), Why.SPREAD_TOO_WIDE),
            (lambda c: replace(c, delta=np.full(len(c), np.nan)), Why.NO_VOLATILITY),
            (lambda c: replace(c, years=c.years + 1), Why.NO_CONTRACT),
            (lambda c: replace(c, spot=float("nan")), Why.NO_VOLATILITY),
        ],
    )
    def test_with_its_reason(self, market, change, why):
        usual = self.only(market, market)
        assert usual
        assert all(isinstance(one, Signal) for one in usual)
        found = self.only(market, _Changed(market, chain=change))
        assert [(type(one), one.why) for one in found] == [(Abstention, why.value)] * len(usual)
        assert [one.event_ns for one in found] == [one.event_ns for one in usual]
        assert all(one.detail for one in found)

    def test_where_nothing_is_quoted(self, market):
        def empty(chain):
            return replace(
                chain,
                **{
                    name: value[:0]
                    for name in chain.__dataclass_fields__
                    if isinstance(value := getattr(chain, name), np.ndarray)
                },
            )

        found = self.only(market, _Changed(market, chain=empty))
        assert {one.why for one in found} == {Why.NO_CHAIN.value}

    def test_where_quotes_contradict_each_other(self, market):
        """A condor that pays more than it can lose is no gift, but a chain with an error."""

        def generous(chain):
            near = np.abs(np.abs(chain.delta) - 0.3) < 0.12
            return replace(chain, bid=np.where(near, 50 * 10**9, chain.bid), ask=np.where(near, 51 * 10**9, chain.ask))

        found = self.only(market, _Changed(market, chain=generous), DearImplied.with_values(least_ratio=0.8))
        assert found
        assert Why.NO_CONTRACT.value in {one.why for one in found}

    def test_late_in_the_session_without_asking_for_a_chain(self, market):
        strategy = OpeningRange.with_values(least_minutes_left=375)

        def never(chain):
            raise AssertionError("a chain was asked for")

        found = self.only(market, _Changed(market, chain=never), strategy)
        assert found
        assert {one.why for one in found} == {Why.TOO_LATE_IN_SESSION.value}

    def test_where_bars_are_missing(self, market):
        def holes(bars):
            kept = (np.arange(len(bars)) % 2 == 0) | (bars.session < bars.session[-1])
            names = ("starts", "known_at", "open", "high", "low", "close", "volume", "session")
            return replace(bars, **{name: getattr(bars, name)[kept] for name in names})

        found = self.only(market, _Changed(market, bars=holes))
        assert found
        assert {one.why for one in found} == {Why.TOO_FEW_BARS.value}

    def test_where_it_is_known_to_have_no_edge_if_it_is_told_to(self, market):
        records = TrackRecords()
        for number in range(400):
            records.add("opening_range", number, Barrier.STOP, -0.3)
        day = market.trading_dates[self.session]
        for told, kind in ((False, Signal), (True, Abstention)):
            strategy = OpeningRange.with_values(abstain_without_edge=told)
            (one,) = decide_session(market, [strategy], "FRA", day, records, RUN)
            assert isinstance(one, kind)
        assert one.why == Why.NO_EDGE.value


class TestBelief:
    def test_outcomes_move_it_and_the_fair_odds_stay(self, market):
        day = market.trading_dates[3]
        opened = int(market.sessions.opens[session_index(market.sessions, day)])

        def odds(records):
            (one,) = decide_session(market, [OpeningRange()], "FRA", day, records, RUN)
            return one.odds

        nothing = odds(TrackRecords())
        assert nothing.p_target == pytest.approx(nothing.p_null)
        assert nothing.expected_value_pct == pytest.approx(nothing.fair_value_pct, abs=1e-9)
        won = TrackRecords()
        for number in range(150):
            won.add("opening_range", opened - 1 - number, Barrier.TARGET, 0.072)
        better = odds(won)
        assert better.resolved == 150
        assert better.p_null == nothing.p_null
        assert better.p_target == pytest.approx((PRIOR * nothing.p_null + 150) / (PRIOR + 150))
        assert better.expected_value_pct > nothing.expected_value_pct
        width = better.expected_value_high - better.expected_value_low
        assert width < nothing.expected_value_high - nothing.expected_value_low

    def test_knows_nothing_of_its_own_session_or_of_others(self, market):
        day = market.trading_dates[3]
        opened = int(market.sessions.opens[session_index(market.sessions, day)])
        records = TrackRecords()
        records.add("opening_range", opened, Barrier.TARGET, 0.07)
        records.add("gap_fill", opened - 5, Barrier.TARGET, 0.07)
        records.add("opening_range", opened - 5, Barrier.INDETERMINATE, 0.07)
        records.add("opening_range", opened - 5, Barrier.NOT_FILLED, float("nan"))
        (one,) = decide_session(market, [OpeningRange()], "FRA", day, records, RUN)
        assert one.odds.resolved == 0


def leg(right, strike, quantity, bid, ask):
    return Leg(
        "X", right, strike * 10**9, "2026-01-16", quantity, round(bid * 1e9), round(ask * 1e9), 1, 1, 0,
        0.3, 0.5, 0.1, -1.0, 9.0,
    )  # fmt: skip


class TestEntry:
    def test_of_a_bought_call(self):
        made = entry((leg("C", 100, 1, 1.9, 2.0),), 0.65)
        assert (made.touch, made.capital, made.fees) == (2_000_000_000, 2_000_000_000, 13_000_000)
        assert made.mid == 1_950_000_000
        assert made.partial == 1_987_500_000
        assert made.spread_pct == pytest.approx(0.05)
        assert made.break_even_pct == pytest.approx(0.0565)

    def test_of_a_condor_is_the_most_that_can_be_lost(self):
        legs = (
            leg("P", 90, 1, 0.4, 0.5), leg("P", 95, -1, 1.4, 1.5),
            leg("C", 105, -1, 1.4, 1.5), leg("C", 112, 1, 0.4, 0.5),
        )  # fmt: skip
        made = entry(legs, 0.0)
        assert made.touch == -1_800_000_000
        assert made.capital == 7_000_000_000 - 1_800_000_000
        assert made.spread_pct == pytest.approx(0.4 / 5.2)

    def test_refuses_what_can_lose_without_bound(self):
        with pytest.raises(ValueError, match="bound"):
            entry((leg("C", 100, -1, 1.9, 2.0),), 0.65)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from("CP"), st.integers(80, 120), st.sampled_from([1, -1, 2])), max_size=4, min_size=1
        )
    )
    def test_capital_is_never_less_than_what_an_expiration_costs(self, told):
        legs = tuple(leg(right, strike, quantity, 1.0, 1.1) for right, strike, quantity in told)
        try:
            made = entry(legs, 0.0)
        except ValueError:
            return
        for price in range(60, 160):
            back = sum(
                one.quantity * max((price * 10**9 - one.strike) * (1 if one.right == "C" else -1), 0) for one in legs
            )
            assert made.capital >= made.touch - back


class TestIds:
    def test_live_and_replay_share_theirs_and_a_backtest_does_not(self):
        told = ("opening_range", "1", "abc", "AAPL", 1_790_000_000_123_456_789)
        live, replay = decision_id(*told, Mode.LIVE), decision_id(*told, Mode.REPLAY)
        backtests = {decision_id(*told, Mode.BACKTEST, name) for name in ("one", "two")}
        assert live == replay
        assert len(backtests | {live}) == 3

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**62), st.text("abc_", max_size=8))
    def test_are_of_version_7_and_in_order_of_time(self, event_ns, name):
        one = uuid.UUID(decision_id(name, "1", "h", "X", event_ns, Mode.LIVE))
        assert (one.version, one.variant) == (7, uuid.RFC_4122)
        later = uuid.UUID(decision_id(name, "1", "h", "X", event_ns + 10**6, Mode.LIVE))
        assert one < later


class TestClock:
    def test_a_weekend_is_a_night(self):
        sessions = xnys()
        friday, monday, tuesday = (session_index(sessions, date(2025, 3, day)) for day in (7, 10, 11))
        over_weekend = session_years(sessions, int(sessions.closes[friday]), int(sessions.closes[monday]))
        over_night = session_years(sessions, int(sessions.closes[monday]), int(sessions.closes[tuesday]))
        assert over_weekend == pytest.approx(over_night) == pytest.approx(1 / 252)
        opened = int(sessions.opens[monday])
        assert session_years(sessions, opened, int(sessions.closes[monday])) == pytest.approx(IN_HOURS / 252)
        assert session_years(sessions, opened, opened + MINUTE_NS) == pytest.approx(minute_years(sessions))
        assert session_years(sessions, opened, opened) == 0

    def test_where_nothing_closes_it_is_the_calendar(self):
        sessions = around_the_clock()
        start = int(sessions.opens[12_000]) + 5 * MINUTE_NS
        assert session_years(sessions, start, start + 30 * DAY_NS) == pytest.approx(30 / 365)


def test_says_which_session_the_calendar_does_not_have(market):
    with pytest.raises(KeyError, match="2025-01-04"):
        decide_session(market, [OpeningRange()], "FRA", date(2025, 1, 4), TrackRecords(), RUN)
