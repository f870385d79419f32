"""Databento's own list of publishers, as its client ships it."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache


@lru_cache(maxsize=1)
def _all() -> tuple[dict[str, int | str], ...]:
    # late: the client takes a second to import, and hardly anybody asks
    from databento.common.publishers import Publisher

    return tuple(
        {
            "publisher_id": one.to_int(),
            "dataset": str(one.dataset),
            "venue": str(one.venue),
            "description": one.description,
        }
        for one in Publisher
    )


def publishers_of(datasets: Collection[str]) -> list[dict[str, int | str]]:
    """The publishers of ``datasets``."""
    return [one for one in _all() if one["dataset"] in datasets]
