"""Where chains are priced once and shared: by moment, underlying and the version of the data behind them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

from flask import Response

from ots_analytics.answers import Answers, version_in_use
from ots_analytics.metrics import count_chain
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.stages import stage
from ots_chains.chain_rates import Rate
from ots_chains.chains import Moment, underlyings_of
from ots_chains.priced_chains import PricedChain, price_chain, rate_of_all, read_inputs
from ots_common.database import Database
from ots_common.memory import Memory
from ots_common.problems import Problem, invalid
from ots_common.shared_cache import SharedCache
from ots_common.times import NS_PER_S, rfc3339
from ots_market.instruments import nothing_stored
from ots_market.sessions import sessions_of

_RATES = 64
NOW_STEP_NS = NS_PER_S
"""Questions without a moment are answered for the last whole second, so that they share an answer."""


class Desk:
    """Priced chains for the routes that need them."""

    def __init__(self, settings: AnalyticsSettings, database: Database, cache: SharedCache) -> None:
        self.sessions = sessions_of(settings.market_calendar)
        self._settings = settings
        self._database = database
        self.answers = Answers(settings, database, cache)
        self._max_age_ns = settings.snapshot_quote_age_s * NS_PER_S
        self._memory = Memory[PricedChain](settings.chain_memory_contracts)
        self._rates = Memory[list[Rate]](_RATES)

    def moment(self, as_of_ns: int | None) -> Moment:
        """The moment of a session that ``as_of`` means: outside of sessions the close of the last one before it.

        None, and what is yet to come, is now. Raises a 422 problem before the first session.
        """
        now_ns = time.time_ns() // NOW_STEP_NS * NOW_STEP_NS
        at_ns = now_ns if as_of_ns is None else min(as_of_ns, now_ns)
        try:
            return Moment.at(self.sessions, at_ns)
        except ValueError as error:
            first = rfc3339(int(self.sessions.opens[0]))
            raise invalid("#/query/as_of", f"the calendar's first session opened at {first}") from error

    def chain(self, underlying: str, moment: Moment) -> PricedChain:
        """The priced chain, which others may share. Raises a 404 problem that says what there is."""
        chain = self._chain(underlying, moment)
        if not len(chain):
            raise self._no_chain(underlying, moment)
        return chain

    def chains(self, moment: Moment) -> list[PricedChain]:
        """The priced chains of all underlyings that have live contracts, in order of name."""
        found = (self._chain(name, moment) for name in underlyings_of(self._database, moment))
        return [chain for chain in found if len(chain)]

    def answer(
        self, moment: Moment, made: Callable[[], Response], *, tags: Sequence[str] = (), explicit: bool
    ) -> Response:
        """The answer that ``made`` makes, shared with whoever asks the same; ``tags`` name the symbols in it.

        ``explicit``: the request names its moment. After a close the moment is the same for everybody, named or not.
        """
        return self.answers.of(moment.at_ns, made, explicit=explicit or moment.closing, tags=tags)

    def _chain(self, underlying: str, moment: Moment) -> PricedChain:
        # an answer is kept under the version of its data, and so is what it is made of; a chain that no answer is made
        # of is that of its second
        key = (underlying, moment.at_ns, self._version())
        return self._memory.get(key, lambda: self._price(underlying, moment))

    def _price(self, underlying: str, moment: Moment) -> PricedChain:
        with stage("sql"):
            inputs = read_inputs(self._database, self.sessions, underlying, moment, self._max_age_ns)
        with stage("mathematics"):
            pooled = functools.partial(self._pooled_rate, underlying, moment)
            chain = price_chain(underlying, moment, inputs, self._max_age_ns, pooled=pooled)
        count_chain(chain)
        return chain

    def _pooled_rate(self, underlying: str, moment: Moment) -> Rate | None:
        """What all chains of the moment imply together; None where there is no other to ask.

        Before the first snapshot of a session only, so that each of the chains is read twice at most.
        """
        key = (moment.at_ns, self._version())
        return rate_of_all(
            self._database,
            self.sessions,
            underlying,
            moment,
            self._max_age_ns,
            lambda make: self._rates.get(key, lambda: [make()])[0],
        )

    @staticmethod
    def _version() -> str:
        return version_in_use() or str(time.monotonic_ns() // NS_PER_S)

    def _no_chain(self, underlying: str, moment: Moment) -> Problem:
        available = [
            row[0]
            for row in self._database.rows(
                "SELECT DISTINCT underlying FROM instruments WHERE expiration IS NOT NULL ORDER BY underlying"
            )
        ]
        if underlying in available:
            return self._none_live(underlying, moment, available)
        nothing, hint = nothing_stored(self._settings.market_source)
        there = f"there are some of {', '.join(available)}" if available else nothing
        return Problem(
            404,
            "unknown-underlying",
            f"no options of {underlying} are stored; {there}",
            hint=self._example(available[0]) if available else hint,
            extra={"available": available},
        )

    def _none_live(self, underlying: str, moment: Moment, available: list[str]) -> Problem:
        return Problem(
            404,
            "no-live-contracts",
            f"no option of {underlying} was listed, and had not expired, at {rfc3339(moment.at_ns)}",
            hint=self._example(underlying),
            extra={"available": available},
        )

    def _example(self, underlying: str) -> str | None:
        """A request that finds the newest chain that is stored."""
        rows: list[tuple[Any, ...]] = self._database.rows(
            "SELECT (extract(epoch FROM max(l.ts)) * 1000000)::bigint * 1000 FROM instruments i"
            " JOIN quote_latest l USING (instrument_id) WHERE i.underlying = %s AND i.expiration IS NOT NULL",
            (underlying,),
        )
        if rows[0][0] is None:
            return None
        # a sampled quote may be stamped after the close, when what expired then is gone
        at = self.moment(rows[0][0])
        whole = (at.at_ns - NS_PER_S if at.closing else at.at_ns) // NS_PER_S * NS_PER_S
        return (
            'curl -H "Authorization: Bearer $TOKEN"'
            f' "http://localhost:8000/api/v1/analytics/options/{underlying}?as_of={rfc3339(whole)}"'
        )
