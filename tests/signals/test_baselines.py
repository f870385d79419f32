"""What the same barriers do without the signal: in a market of known quotes, and in one where nobody has an edge."""

from dataclasses import replace

import numpy as np
import pytest

from ots_market.timeframes import MINUTE_NS
from ots_signals.baselines import Baselines, net_at_touch
from ots_signals.decisions import Leg
from ots_signals.fair_market import FairMarket, FairSettings
from ots_signals.market_view import Pool, Tape
from ots_signals.outcomes import Barrier
from ots_signals.resolver import resolve, span
from resolved_signals_support import CLOSE_NS, DOLLAR, EVENT_NS, OPEN_NS, SESSIONS, leg, signal

MINUTES = (CLOSE_NS - OPEN_NS) // MINUTE_NS
BEFORE = int(np.searchsorted(SESSIONS.opens, OPEN_NS)) - 1  # the session before the signal's


class QuotedMarket:
    """Two sessions in which every contract is quoted 1.90 to 2.00, and 2.50 bid from a stated minute of each on."""

    def __init__(self, rises_at: int = 200, gaps: tuple[int, ...] = (), candidates=None) -> None:
        self.rises_at, self.gaps = rises_at, gaps
        self.candidates = candidates or [(m, "C", 16.2 / 365, 0.5) for m in range(5, 390, 5)]
        self.asked: list[tuple[str, ...]] = []

    def pool(self, underlying, at_ns):
        rows = [
            (opened + m * MINUTE_NS, m, leg(1, 1, right=right).symbol, 1.0 if right == "C" else -1.0, years, delta)
            for opened in (int(SESSIONS.opens[BEFORE]), OPEN_NS)
            for m, right, years, delta in self.candidates
        ]
        at, minute, symbol, right, years, delta = (np.array(column) for column in zip(*rows, strict=True))
        quotes = (np.full(len(rows), round(x * DOLLAR)) for x in (1.9, 2.0))
        return Pool(at, minute, symbol, right, years, delta, *quotes)

    def tape(self, underlying, symbols, start_ns, end_ns):
        self.asked.append(tuple(symbols))
        ends = np.concatenate(
            [o + MINUTE_NS * np.arange(1, MINUTES + 1) for o in (int(SESSIONS.opens[BEFORE]), OPEN_NS)]
        )
        minute = np.tile(np.arange(1, MINUTES + 1), 2)
        inside = (ends > start_ns) & (ends <= end_ns)
        bid = np.where(minute >= self.rises_at, 2.5, 1.9)[inside] * np.ones((len(symbols), 1))
        bid, ask = (np.rint(x * DOLLAR).astype(np.int64) for x in (bid, bid + 0.1))
        gap = np.isin(minute[inside], self.gaps)
        return Tape(
            underlying, np.array(symbols), ends[inside], bid, ask, bid, bid, ask, ask, np.zeros_like(bid),
            np.full(inside.sum(), 100.0), gap, True,
        )  # fmt: skip


def baseline(market, one):
    minutes = market.tape("XYZ", [x.symbol for x in one.legs], *span(one))
    return Baselines(market, SESSIONS).of(one, resolve(one, minutes, SESSIONS), minutes)


def test_matches_are_held_to_the_signals_barriers_from_their_own_moments():
    """Of the matches within an hour of minute 60, those after minute 90 see the rise at 120 within their 30 minutes."""
    moments = range(4, 390, 2)
    market = QuotedMarket(rises_at=120, candidates=[(m, "C", 16.2 / 365, 0.5) for m in moments])
    found = baseline(market, signal(minutes=30))
    before = [m for m in moments if abs(m - 60) <= 60]
    # a match after the rise pays 2.00 as the pool says and is offered 2.50: all at once a target
    hits = [m for m in before if m + 30 >= 120]
    own = [m for m in moments if 90 <= m <= 120]  # of the signal's session: after it is over
    hits += own
    assert found.n == len(before) + len(own)
    assert found.hit_rate == pytest.approx(len(hits) / found.n)
    assert found.mean_net == pytest.approx((0.1 * len(hits) - 0.05 * (found.n - len(hits))) / found.n)
    assert found.median_net == pytest.approx(-0.05)
    assert found.percentile == pytest.approx(0.5 * (found.n - len(hits)) / found.n)  # a tie with most of them


def test_what_differs_is_no_match():
    same = ("C", 16.2 / 365, 0.5)
    others = [("P", 16.2 / 365, -0.5), ("C", 60 / 365, 0.5), ("C", 16.2 / 365, 0.8)]
    for other in others:
        market = QuotedMarket(candidates=[(m, *(same if m % 2 else other)) for m in range(30, 90)])
        assert baseline(market, signal(minutes=10)).n == 30 + 10
    market = QuotedMarket(candidates=[(m, *same) for m in range(300, 390)])
    assert baseline(market, signal(minutes=10)).n == 0


def test_matches_in_a_gap_are_not_counted():
    every = baseline(QuotedMarket(), signal(minutes=10)).n
    assert baseline(QuotedMarket(gaps=(40,)), signal(minutes=10)).n == every - 2


def test_at_shuffled_moments_the_same_contracts():
    """Minutes 210 to 225: after the signal, which is held until 210, and early enough to be left before all is flat."""
    found = baseline(QuotedMarket(rises_at=220), signal(minutes=150))
    assert found.shuffled_n == 16
    assert found.shuffled_hit_rate == pytest.approx(10 / 16)  # those from 220 on pay the risen price
    assert baseline(QuotedMarket(), signal(minutes=280)).shuffled_n == 0


def test_what_came_before_in_the_signals_session_is_no_match():
    """Whoever buys after a rise would else be compared with those who bought before it."""
    market = QuotedMarket(candidates=[(m, "C", 16.2 / 365, 0.5) for m in range(1, 60)])
    assert baseline(market, signal(minutes=10)).n == 59


def test_a_stock_position_of_the_same_delta():
    one = signal(minutes=10)
    minutes = QuotedMarket().tape("XYZ", [one.legs[0].symbol], *span(one))
    risen = replace(minutes, spot=np.full(len(minutes.ends), 101.0))
    found = Baselines(QuotedMarket(), SESSIONS).of(one, resolve(one, risen, SESSIONS), risen)
    assert found.stock_return == pytest.approx(0.5 * 1.0 / 2.0)


def test_what_could_not_be_left_is_lost_and_what_was_not_entered_is_nothing():
    one = signal(minutes=10)
    minutes = QuotedMarket().tape("XYZ", [one.legs[0].symbol], *span(one))
    silent = replace(minutes, bid=minutes.bid * 0, ask=minutes.ask * 0, bid_low=minutes.bid * 0)
    outcome = resolve(one, silent, SESSIONS)
    assert outcome.fills[0].barrier is Barrier.NOT_FILLED
    assert net_at_touch(outcome) == -1.0
    assert net_at_touch(resolve(signal(leg(2.1, 2.0)), minutes, SESSIONS)) is None
    assert Baselines(QuotedMarket(), SESSIONS).of(one, outcome, silent).percentile == 0.0


# ---- a market in which nobody has an edge


@pytest.fixture(scope="module")
def fair():
    return FairMarket(11, FairSettings(underlyings=("FRA",), sessions=20))


def chosen(market, day, minute, kind):
    at = int(market.opens[day]) + minute * MINUTE_NS
    chain = market.chain("FRA", at)
    near = np.flatnonzero((chain.years * 365 > 3) & (chain.right > 0))
    call = int(near[np.abs(chain.delta[near] - 0.5).argmin()])
    rows, quantities = {
        "call": ([call], [1]),
        "straddle": ([call, call + 1], [1, 1]),
        "credit spread": ([call, call + 4], [-1, 1]),
    }[kind]
    legs = tuple(
        Leg(
            str(chain.symbol[r]), "C" if chain.right[r] > 0 else "P", round(chain.strike[r] * DOLLAR),
            str(chain.expiration[r]), q, int(chain.bid[r]), int(chain.ask[r]), 1, 1, 0,
            float(chain.implied_volatility[r]), float(chain.delta[r]), 0.0, 0.0, 0.0,
        )
        for r, q in zip(rows, quantities, strict=True)
    )  # fmt: skip
    touch = sum(x.quantity * (x.ask if x.quantity > 0 else x.bid) for x in legs)
    capital = None if touch > 0 else (touch + legs[1].strike - legs[0].strike) / DOLLAR
    one = signal(*legs, target=0.2, stop=-0.2, minutes=60, at_ns=at, capital=capital, id=f"{kind} {day} {minute}",
                 underlying="FRA", underlying_price=chain.spot)  # fmt: skip
    return replace(one, barriers=replace(one.barriers, flat_ns=int(market.closes[day]) - 10 * MINUTE_NS))


@pytest.mark.parametrize("kind", ["call", "straddle", "credit spread"])
def test_where_nobody_has_an_edge_matches_and_signals_lose_the_spread(fair, kind):
    baselines, rows = Baselines(fair, fair.sessions), []
    for day in range(30, 45):
        for minute in (45, 150, 270):
            one = chosen(fair, day, minute, kind)
            minutes = fair.tape("FRA", [x.symbol for x in one.legs], *span(one))
            outcome = resolve(one, minutes, fair.sessions)
            found = baselines.of(one, outcome, minutes)
            rows.append((outcome.fills[0].net_return, found.mean_net, one.entry.spread_pct, found.n, found.percentile))
    own, matched, cost, n, percentile = np.array(rows).T
    assert n.min() > 0
    assert n.mean() > 20
    error = own.std() / np.sqrt(len(own))
    assert abs((own - matched).mean()) < 4 * error
    assert matched.mean() == pytest.approx(-cost.mean(), abs=4 * error)
    assert 0.3 < percentile.mean() < 0.7


def test_what_is_drawn_follows_from_the_id_and_from_nothing_else(fair):
    one = chosen(fair, 40, 150, "call")
    minutes = fair.tape("FRA", [x.symbol for x in one.legs], *span(one))
    outcome = resolve(one, minutes, fair.sessions)
    fresh, used = Baselines(fair, fair.sessions), Baselines(fair, fair.sessions)
    for day in (30, 38, 42):
        other = chosen(fair, day, 100, "call")
        used.of(other, resolve(other, m := fair.tape("FRA", [other.legs[0].symbol], *span(other)), fair.sessions), m)
    first = fresh.of(one, outcome, minutes)
    assert first == used.of(one, outcome, minutes)
    assert first.n > 100
    assert fresh.of(replace(one, id="another"), outcome, minutes) != first


def test_nothing_after_the_forced_flat_matters(fair):
    """The same market with other prices after the forced flat: its matches are the same."""
    one = chosen(fair, 40, 150, "call")
    after = fair.spot.close.copy()
    after[:, 40, 381:] *= 1.05
    after[:, 41:] *= 1.05
    other = fair.with_spot(replace(fair.spot, close=after))
    minutes = fair.tape("FRA", [one.legs[0].symbol], *span(one))
    outcome = resolve(one, minutes, fair.sessions)
    assert Baselines(fair, fair.sessions).of(one, outcome, minutes) == Baselines(other, fair.sessions).of(
        one, outcome, minutes
    )


@pytest.mark.parametrize("kind", ["call", "straddle"])
def test_a_pool_may_come_in_any_order(fair, kind):
    class Shuffled:
        def pool(self, underlying, at_ns):
            whole = fair.pool(underlying, at_ns)
            order = np.random.default_rng(1).permutation(len(whole.at_ns))
            return Pool(*(getattr(whole, name)[order] for name in Pool.__dataclass_fields__))

        tape = staticmethod(fair.tape)

    one = chosen(fair, 40, 150, kind)
    minutes = fair.tape("FRA", [x.symbol for x in one.legs], *span(one))
    outcome = resolve(one, minutes, fair.sessions)
    first = Baselines(fair, fair.sessions).of(one, outcome, minutes)
    other = Baselines(Shuffled(), fair.sessions).of(one, outcome, minutes)
    assert other.n == first.n > 20
    assert other.mean_net == pytest.approx(first.mean_net, abs=0.03)


def test_what_is_remembered_has_a_bound_and_changes_nothing(fair, monkeypatch):
    wanted = [(day, minute, kind) for day in (36, 37, 38) for minute in (60, 200) for kind in ("call", "straddle")]
    signals = [chosen(fair, *each) for each in wanted]
    tapes = [fair.tape("FRA", [x.symbol for x in one.legs], *span(one)) for one in signals]
    outcomes = [resolve(one, tape, fair.sessions) for one, tape in zip(signals, tapes, strict=True)]
    roomy = Baselines(fair, fair.sessions)
    expected = [roomy.of(*each) for each in zip(signals, outcomes, tapes, strict=True)]
    monkeypatch.setattr("ots_signals.baselines._BYTES_KEPT", 1)
    narrow = Baselines(fair, fair.sessions)
    assert [narrow.of(*each) for each in zip(signals, outcomes, tapes, strict=True)] == expected


def test_event_is_where_the_support_says():
    assert EVENT_NS == OPEN_NS + 60 * MINUTE_NS
