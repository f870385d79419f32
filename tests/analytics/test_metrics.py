"""What analytics counts of a chain and of its stages, and that no underlying makes a series but the nine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flask import Flask
from prometheus_client import REGISTRY

from ots_analytics.metrics import count_chain
from ots_analytics.stages import stage, state_stages
from ots_analytics.volatility import take_snapshot
from ots_chains.chains import Chain, Spot
from ots_quant.surface.certificate import Violations
from priced_chain_support import AGE, AT, MINUTE, NO_RATE, PARITY, SPOT, changed, made_contracts, priced, without


class Moved:
    """What has grown since it was made, by the values of the labels; those that stand still are left out."""

    def __init__(self):
        self.before = self._values()

    def _values(self):
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in REGISTRY.collect()
            if family.name.startswith("ots_analytics")
            for sample in family.samples
        }

    def __call__(self, name):
        return {
            "/".join(key[1]): value - self.before.get(key, 0)
            for key, value in self._values().items()
            if key[0] == f"ots_analytics_{name}" and value != self.before.get(key, 0)
        }


@pytest.fixture
def moved():
    return Moved()


@pytest.fixture(scope="module")
def contracts():
    return made_contracts()


def test_a_priced_chain_its_contracts_and_its_surface(moved, contracts):
    left_out = changed(contracts, slice(0, 3), quoted_at=AT - AGE - 1)
    chain = replace(priced(left_out), underlying="AAPL")
    count_chain(chain)
    assert moved("chains_total") == {"AAPL/priced": 1}
    found = moved("contracts_total")
    assert found["AAPL/stale"] == 3
    assert found["AAPL/priced"] == chain.quality["with_volatility"] > 100
    assert sum(found.values()) == len(chain)
    assert moved("surface_fits_total") == {"clean": 1}
    assert moved("surface_violations_total") == {}


def test_a_surface_that_admits_arbitrage(moved, contracts):
    chain = replace(priced(contracts), underlying="SPY")
    planted = chain.surface.certificate._replace(
        butterfly_inside=Violations(3, 100, 0.1),
        calendar_inside=Violations(2, 50, 0.1),
        between_outside=Violations(9, 50, 0.1),
    )
    count_chain(replace(chain, surface=replace(chain.surface, certificate=planted)))
    assert moved("surface_fits_total") == {"violating": 1}
    assert moved("surface_violations_total") == {"SPY/butterfly": 3, "SPY/calendar": 2}


def test_a_surface_far_from_its_quotes(moved, contracts):
    """Each expiration shows the prices of another: the fit stays without arbitrage, and leaves most quotes aside."""
    days = np.unique(contracts.expiration)
    source = np.arange(contracts.strike.size)
    for day, other in zip(days, days[::-1], strict=True):
        source[contracts.expiration == day] = np.flatnonzero(contracts.expiration == other)
    assert (contracts.strike[source] == contracts.strike).all()
    chain = replace(priced(replace(contracts, bid=contracts.bid[source], ask=contracts.ask[source])), underlying="SPY")
    count_chain(chain)
    assert chain.surface.certificate.arbitrage_free_inside
    assert moved("surface_fits_total") == {"far": 1}


@pytest.mark.parametrize(("why", "more"), [("no_spot", {"spot": None}), ("no_rate", {"rate": NO_RATE})])
def test_a_chain_that_cannot_be_priced(moved, contracts, why, more):
    chain = priced(contracts, **more)
    count_chain(chain)
    assert moved("chains_total") == {f"other/{why}": 1}
    assert moved("contracts_total")[f"other/{why}"] == chain.quality["without_volatility"][why]
    assert moved("surface_fits_total") == {}


def test_a_chain_without_contracts(moved, contracts):
    count_chain(priced(without(contracts, contracts.strike > 0)))
    assert moved("chains_total") == {"other/empty": 1}
    assert moved("contracts_total") == {}


def test_a_chain_of_a_snapshot_counts_too(moved, contracts):
    moment = priced(contracts).moment
    terms = (contracts.expiration, contracts.right, contracts.strike, contracts.years, contracts.bid, contracts.ask)
    spot = Spot(round(SPOT * 1e9), AT - MINUTE, "bar")
    chain = Chain("QQQ", moment, spot, *terms, contracts.quoted_at, contracts.instrument_id)
    take_snapshot(chain, PARITY, AGE, b"version")
    assert moved("chains_total") == {"QQQ/priced": 1}


def test_any_number_of_underlyings_is_one_other(moved, contracts):
    chain = priced(without(contracts, contracts.strike != 200))
    for i in range(50):
        count_chain(replace(chain, underlying=f"ZQX{i}"))
    assert moved("chains_total") == {"other/priced": 50}
    assert "ZQX" not in str(moved._values())


def test_stages_are_measured_for_the_answer_and_for_the_metrics(moved):
    with Flask("x").test_request_context():
        for name in ("sql", "sql", "encoding", "unheard_of"):
            with stage(name):
                pass
        answer = state_stages(Flask.response_class())
    assert [one.partition(";")[0] for one in answer.headers.getlist("Server-Timing")] == [
        "sql", "encoding", "unheard_of"
    ]  # fmt: skip
    assert moved("stage_seconds_count") == {"sql": 2, "encoding": 1, "other": 1}
    with pytest.raises(ZeroDivisionError), stage("scan"):
        raise ZeroDivisionError
    assert moved("stage_seconds_count")["scan"] == 1
