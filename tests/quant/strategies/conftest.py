"""Quoted contracts at fair mids with a spread, for tests of positions."""

from __future__ import annotations

import pytest

from ots_quant import european
from ots_quant.strategies import Leg, Style


@pytest.fixture(scope="session")
def quoted():
    """A contract quoted around its European value at a spot of 100, volatility 0.3, rate 0.02."""

    def quote(right, strike, years=0.25, spread=0.10, style=Style.EUROPEAN, volatility=0.3):
        fair = float(european.price(right, 100.0, strike, years, 0.02, 0.0, volatility))
        return Leg(right, strike, years, fair - spread / 2, fair + spread / 2, style=style)

    return quote
