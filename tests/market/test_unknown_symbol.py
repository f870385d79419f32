"""What a stranger is told who asks for a symbol of which nothing is stored: what works with this market source."""

from __future__ import annotations

import pytest

from ots_common.problems import Problem
from ots_market.instruments import find_instrument


@pytest.mark.parametrize(
    ("source", "advised", "not_advised"),
    [("databento", "/imports", "/backfills"), ("simulated", "/backfills", "/imports")],
)
def test_an_empty_database_says_what_to_do(market, source, advised, not_advised):
    with pytest.raises(Problem) as refused:
        find_instrument(market.database, "AAPL", source=source)
    assert refused.value.status == 404
    assert advised in refused.value.hint
    assert not_advised not in refused.value.hint
    if source == "simulated":
        assert "import" not in f"{refused.value.detail} {refused.value.hint}"
