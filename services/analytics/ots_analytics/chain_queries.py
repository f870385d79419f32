"""What the routes of option chains share: the parameters that all take, and the heading that all answer with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from ots_common.schemas import RequestModel, TableModel
from ots_common.times import Moment, rfc3339
from ots_market.prices import dollars
from ots_market.symbols import Symbol

if TYPE_CHECKING:
    from ots_analytics.settings import AnalyticsSettings
    from ots_chains.priced_chains import PricedChain


class UnderlyingPath(RequestModel):
    """The ticker of an underlying."""

    underlying: Symbol = Field(json_schema_extra={"example": "AAPL"})


class AsOfQuery(RequestModel):
    """The moment that is asked about."""

    as_of: Moment | None = Field(
        None,
        description="Only what had happened by then; outside of sessions the close of the last one before. Default"
        " now.",
    )


class SpotModel(BaseModel):
    """The underlying's price."""

    price: float = Field(description="dollars")
    time: str = Field(description="of the quote, the trade or the end of the bar")
    kind: str = Field(description="`quote` (its middle), `trade` or `bar` (a minute bar's close)")


class RateModel(BaseModel):
    """Where the interest rate comes from; the rates themselves are per expiration."""

    kind: str | None = Field(description="`curve`: a stated one; `parity`: implied by option prices; null: none")
    detail: str = Field(description="which curve, how it was found, or why there is none")


class ChainQualityModel(BaseModel):
    """What the answer rests on."""

    contracts: int = Field(description="live ones")
    with_volatility: int
    without_volatility: dict[str, int] = Field(description="counts of the others by `reason`")
    crossed: int = Field(description="quotes whose bid is above the ask: not used")
    stale: bool = Field(description="true when no contract has a quote that is fresh at `as_of`")
    stale_quotes: int = Field(description="quotes older than `max_quote_age_s`: not used")
    max_quote_age_s: int
    newest_quote: str | None = Field(description="time of the newest option quote")
    no_spot: str | None = Field(description="why `spot` is null")
    other_deliverables: int = Field(description="contracts of adjusted deliverables (GOOG1), which are left out")
    gaps: int = Field(description="intervals in which quotes may be missing, within `max_quote_age_s` of `as_of`")


class ChainHeadingModel(TableModel):
    """What every answer about one underlying's chain begins with. Answers inherit it."""

    underlying: str
    as_of: str = Field(description="the moment that is answered for")
    newest_input: str | None = Field(description="time of the newest quote or price in the answer")
    session: str = Field(description="the date of that moment's session")
    source: str
    spot: SpotModel | None = Field(description="null where `quality.no_spot` says why")
    rate: RateModel
    quality: ChainQualityModel


def chain_heading(chain: PricedChain, settings: AnalyticsSettings) -> dict[str, Any]:
    """The fields of `ChainHeadingModel`."""
    spot = chain.spot
    return {
        "underlying": chain.underlying,
        "as_of": rfc3339(chain.moment.at_ns),
        "newest_input": rfc3339(chain.newest_ns) if chain.newest_ns else None,
        "session": chain.moment.session.isoformat(),
        "source": settings.market_source,
        "spot": {"price": dollars(spot.price), "time": rfc3339(spot.at_ns), "kind": spot.kind} if spot else None,
        "rate": {"kind": chain.rate.kind, "detail": chain.rate.detail},
        "quality": chain.quality,
    }
