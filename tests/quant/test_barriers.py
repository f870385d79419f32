"""Odds of a position's first barrier: against closed forms, the passage of a moving level, and simulated paths."""

import numpy as np
import pytest

from ots_quant import european
from ots_quant.barriers import FirstBarrier, HeldLegs, Terms, first_barrier, on_clock
from ots_quant.density.option_touch import option_bracket
from ots_quant.density.touching import touch, touch_either

HOUR = 60 / (252 * 390)  # of trading time


def held(*legs):
    """One position of (right, strike, years, volatility, quantity, half-spread share), spot 100, no rates."""
    rows = []
    for right, strike, years, volatility, quantity, share in legs:
        mid = float(european.price(right, 100.0, strike, years, 0.0, 0.0, volatility))
        rows.append((right, strike, years, volatility, quantity, mid, share * mid))
    return HeldLegs(*(np.array([[row[i] for row in rows]]) for i in range(7)))


def terms(target, stop, horizon):
    return Terms(np.array([target]), np.array([stop]), np.array([horizon]))


def leaving(legs):
    return float(np.sum(legs.quantity * legs.mid - np.abs(legs.quantity) * legs.half_spread))


@pytest.mark.parametrize("level", [101.0, 99.2, 102.5])
@pytest.mark.parametrize("drift", [0.0, 3.0])
def test_a_position_that_moves_as_the_spot_touches_as_the_spot_does(level, drift):
    legs = held((1, 20.0, 0.2, 0.25, 1.0, 0.0))  # worth the spot less 20
    ends = (level - 20.0, 0.0) if level > 100.0 else (200.0, level - 20.0)
    found = first_barrier(legs, terms(*ends, 4 * HOUR), 100.0, 0.25, drift=drift)
    expected = touch(100.0, level, 4 * HOUR, drift, 0.0, 0.25).probability
    assert (found.target if level > 100.0 else found.stop)[0] == pytest.approx(float(expected), abs=0.005)


def test_two_levels_of_the_spot_as_in_the_closed_form():
    legs = held((1, 20.0, 0.2, 0.25, 1.0, 0.0))
    found = first_barrier(legs, terms(80.8, 79.5, 2 * HOUR), 100.0, 0.25)
    expected = touch_either(100.0, 99.5, 100.8, 2 * HOUR, 0.0, 0.0, 0.25)
    assert found.target[0] == pytest.approx(float(expected.upper_first), abs=0.005)
    assert found.stop[0] == pytest.approx(float(expected.lower_first), abs=0.005)
    assert found.timeout[0] == pytest.approx(float(expected.neither), abs=0.005)


@pytest.mark.parametrize(
    ("right", "strike", "days", "volatility", "hours", "target", "stop"),
    [
        (1, 100.0, 21, 0.25, 1.0, 0.075, -0.3),
        (1, 104.0, 5, 0.25, 5.5, 0.1, -0.5),
        (-1, 97.0, 3, 0.4, 2.0, 0.1, -0.3),
        (1, 95.0, 60, 0.25, 5.5, 0.05, -0.05),
        (-1, 100.0, 1, 0.5, 3.0, 0.1, -0.3),
    ],
)
def test_one_leg_as_the_passage_of_a_moving_level(right, strike, days, volatility, hours, target, stop):
    years, horizon, share = days / 252, hours * HOUR, 0.01
    legs = held((right, strike, years, volatility, 1.0, share))
    paid = float(legs.mid[0, 0] + legs.half_spread[0, 0])
    above, below = paid * (1.0 + target), paid * (1.0 + stop)
    found = first_barrier(legs, terms(above, below, horizon), 100.0, volatility)
    expected = option_bracket(
        right, 100.0, strike, years, 0.0, 0.0, volatility, above / (1 - share), below / (1 - share), horizon
    )
    assert found.target[0] == pytest.approx(float(expected.target_first), abs=0.005)
    assert found.stop[0] == pytest.approx(float(expected.stop_first), abs=0.005)
    assert found.at_target[0] == pytest.approx(above)
    assert found.at_stop[0] == pytest.approx(below)


@pytest.mark.parametrize(
    "legs",
    [
        held((1, 100.0, 0.05, 0.25, 1.0, 0.01)),
        held((1, 100.0, 0.05, 0.25, 1.0, 0.01), (-1, 100.0, 0.05, 0.25, 1.0, 0.02)),
        held((1, 102.0, 0.05, 0.25, -1.0, 0.02), (1, 104.0, 0.05, 0.25, 1.0, 0.03)),
    ],
    ids=["call", "straddle", "credit spread"],
)
def test_in_a_fair_market_no_stop_and_no_target_earns_or_costs_anything_but_the_spread(legs):
    """Optional stopping: what is expected is what leaving brings at once, whatever the odds."""
    start, worth = leaving(legs), abs(leaving(legs))
    for target, stop in ((0.075, -0.3), (0.3, -0.075), (0.2, -0.2)):
        found = first_barrier(legs, terms(start + target * worth, start + stop * worth, 3 * HOUR), 100.0, 0.25)
        assert found.expected[0] == pytest.approx(start, abs=0.003 * worth)
        assert found.target + found.stop + found.timeout == pytest.approx(1.0)
        parts = zip(found[:3], found[3:6], strict=True)
        total = sum(float(chance[0]) * float(np.nan_to_num(mean[0])) for chance, mean in parts)
        assert total == pytest.approx(found.expected[0], rel=1e-9)


def test_a_straddle_looked_at_each_minute_as_in_simulated_paths():
    """Two barriers of the spot for each barrier of the value, looks a minute apart, a drift, legs of two rights."""
    minutes, volatility, drift = 300, 0.3, 1.5
    legs = held((1, 100.0, 2 / 252, volatility, 1.0, 0.01), (-1, 100.0, 2 / 252, volatility, 1.0, 0.01))
    paid = float(np.sum(legs.mid + legs.half_spread))
    above, below = paid * 1.15, paid * 0.91
    found = first_barrier(legs, terms(above, below, 5 * HOUR), 100.0, volatility, drift=drift, interval=HOUR / 60)
    rng = np.random.default_rng(7)
    paths, step = 20_000, HOUR / 60
    moves = (drift - 0.5 * volatility**2) * step + volatility * np.sqrt(step) * rng.standard_normal((minutes, paths))
    spot = 100.0 * np.exp(np.cumsum(moves, axis=0))
    left = 2 / 252 - step * np.arange(1, minutes + 1)
    value = sum(0.99 * european.price(right, spot, 100.0, left[:, None], 0.0, 0.0, volatility) for right in (1.0, -1.0))
    hit, stopped = (
        np.where(touched.any(axis=0), touched.argmax(axis=0), minutes) for touched in (value >= above, value <= below)
    )
    wins, losses = hit < stopped, stopped < hit
    at_stop = value[stopped[losses], np.flatnonzero(losses)].mean()
    error = 4 * 0.5 / np.sqrt(paths)
    assert found.target[0] == pytest.approx(wins.mean(), abs=error + 0.004)
    assert found.stop[0] == pytest.approx(losses.mean(), abs=error + 0.004)
    assert found.at_stop[0] == pytest.approx(at_stop, rel=0.002)
    assert found.at_timeout[0] == pytest.approx(value[-1, ~wins & ~losses].mean(), rel=0.01)
    continuous = first_barrier(legs, terms(above, below, 5 * HOUR), 100.0, volatility, drift=drift)
    assert abs(continuous.target[0] - wins.mean()) > 0.01  # so that the correction for looks is seen to matter


def test_many_positions_are_as_each_alone():
    one, two = (
        held((1, 100.0, 0.05, 0.25, 1.0, 0.01)),
        held((1, 100.0, 0.05, 0.3, 1.0, 0.01), (-1, 99.0, 0.05, 0.3, 1.0, 0.01)),
    )
    padded = HeldLegs(*(np.hstack((x, np.zeros((1, 1)))) for x in one))
    both = HeldLegs(*(np.vstack((x, y)) for x, y in zip(padded, two, strict=True)))
    starts = [leaving(one), leaving(two)]
    together = first_barrier(
        both, Terms(*(np.array([f * s for s in starts]) for f in (1.1, 0.7)), np.full(2, HOUR)), 100.0, [0.25, 0.3]
    )
    for i, (legs, sigma) in enumerate(((one, 0.25), (two, 0.3))):
        alone = first_barrier(legs, terms(1.1 * starts[i], 0.7 * starts[i], HOUR), 100.0, sigma)
        for name in FirstBarrier._fields:
            assert getattr(together, name)[i] == pytest.approx(getattr(alone, name)[0], rel=1e-9, nan_ok=True)


def test_what_cannot_be_answered_is_nan_and_what_does_not_fit_is_refused():
    legs = held((1, 100.0, 0.05, 0.25, 1.0, 0.01))
    start = leaving(legs)
    for ends in (
        terms(0.7 * start, 1.1 * start, HOUR),
        terms(1.1 * start, 0.7 * start, 0.06),
        terms(np.nan, 0.0, HOUR),
    ):
        assert np.isnan(np.stack(first_barrier(legs, ends, 100.0, 0.25))).all()
    assert np.isnan(first_barrier(legs._replace(mid=legs.mid * 0.0), terms(1.0, 0.5, HOUR), 100.0, 0.25).target[0])
    with pytest.raises(ValueError, match="spot has shape"):
        first_barrier(legs, terms(1.1 * start, 0.7 * start, HOUR), [100.0, 101.0], 0.25)


def test_a_position_beyond_its_barrier_has_touched_it():
    legs = held((1, 100.0, 0.05, 0.25, 1.0, 0.01))
    start = leaving(legs)
    assert first_barrier(legs, terms(0.9 * start, 0.5 * start, HOUR), 100.0, 0.25).target[0] == 1.0
    gone = first_barrier(legs, terms(1.5 * start, 1.1 * start, HOUR), 100.0, 0.25)
    assert gone.stop[0] == 1.0
    assert gone.at_stop[0] == pytest.approx(start)


def test_another_clock_keeps_the_variance_to_expiration():
    assert on_clock(0.2, 0.08, 0.02) == pytest.approx(0.4)
