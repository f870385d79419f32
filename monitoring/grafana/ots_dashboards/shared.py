"""Panels that every dashboard begins with."""

from __future__ import annotations

from ots_dashboards.model import BLUE, GREEN, ORANGE, RED, Look, Prometheus, Stat

SERVICES = "gateway|cache|ingestion|analytics|signals"
"""Jobs that answer HTTP requests of ours."""
_MARKET = (
    'label_replace(label_replace(max by (market_source) (ots_build_info{market_source=~".+"}),'
    ' "market", "Databento", "market_source", "databento"), "market", "SIMULATED", "market_source", "simulated")'
)
NOT_SCRAPED = "Prometheus has nothing of this yet: is the service up?"


def market_source(width: int = 4) -> Stat:
    """Whether what is shown is of the real market."""
    return Stat(
        "Market",
        "Where the market's data come from, as the services say (`ots_build_info`). **SIMULATED**: every price, quote"
        " and trade is invented, and nothing here says anything about a real market.",
        [Prometheus(_MARKET, "{{market}}", instant=True)],
        "string",
        no_data="No service says its market",
        width=width,
        height=4,
        show="name",
        looks=[Look("SIMULATED", color=ORANGE)],
        thresholds=[(None, BLUE)],
    )


def alerts_firing(width: int = 4) -> Stat:
    """How many alerts fire."""
    return Stat(
        "Alerts firing",
        "Alerts of Prometheus that fire now, pages and tickets. Each has a section in the operations manual.",
        [Prometheus('count(ALERTS{alertstate="firing"}) or vector(0)', "firing", instant=True)],
        "none",
        no_data="Prometheus does not answer",
        width=width,
        height=4,
        decimals=0,
        thresholds=[(None, GREEN), (1, RED)],
        more="ots-system",
    )
