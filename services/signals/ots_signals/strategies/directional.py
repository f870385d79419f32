"""The plan that all strategies with an opinion on the underlying's direction share: one bought contract."""

from __future__ import annotations

from ots_signals import contract_choice
from ots_signals.contract_choice import NoChoice
from ots_signals.decisions import Why
from ots_signals.market_view import ChainView, DailyVolatility
from ots_signals.strategies.base import DOWN, UP, Moment, Plan, Refusal, Strategy


class Directional(Strategy):
    """Buys a call where its condition points up, a put where it points down."""

    reason_up: str
    reason_down: str

    def plan(self, moment: Moment, chain: ChainView, daily: DailyVolatility) -> Plan | Refusal | None:
        """The contract nearest to the delta wanted."""
        right = UP if moment.direction == UP else DOWN
        try:
            row = contract_choice.single(chain, self.parameters, right)
        except NoChoice as no:
            return Refusal(Why(no.why), no.detail, {})
        reason = self.reason_up if right == UP else self.reason_down
        return Plan((row,), (1,), right, (reason,), {})
