"""Prices are stored as integers of 1e-9 dollars, Databento's own scale, and shown as numbers in dollars."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

SCALE = 1_000_000_000
UNDEFINED = 2**63 - 1
_LIMIT = Decimal(2**63 - 1)


def dollars(price: int | None) -> float | None:
    """The nearest float to the exact price, which prints as the price: 750300000000 -> 750.3. None stays None."""
    return None if price is None else int(price) / SCALE


def from_dollars(amount: Decimal | str | int) -> int:
    """Exact 1e-9 dollars of a decimal amount. Raises ValueError when not finite, too large, or finer than 1e-9."""
    try:
        scaled = Decimal(amount) * SCALE
    except InvalidOperation as error:
        raise ValueError(f"not an amount: {amount}") from error
    if not scaled.is_finite() or abs(scaled) >= _LIMIT or scaled != scaled.to_integral_value():
        raise ValueError("expected a finite amount in dollars with at most nine decimals")
    return int(scaled)
