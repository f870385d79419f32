"""The loader of the real chain gives what the files say, and nothing from later."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np

from quant.real_chain import ELEVEN, real_chain


def test_the_chain_at_eleven_is_what_the_files_say(real_data: Path) -> None:
    chain = real_chain(real_data)
    assert chain.spot == 749.23
    assert chain.strike.shape == (2192,)
    assert np.unique(chain.expiration).size == 12
    today = chain.expiration == np.datetime64("2015-12-24")
    assert np.unique(np.round(chain.years[today] * 365 * 24, 9)) == [2.0]  # a half day closes at 13:00
    week = chain.expiration == np.datetime64("2015-12-31")
    assert np.unique(np.round(chain.years[week] * 365 * 24, 9)) == [7 * 24 + 5.0]
    assert (chain.quoted_at[~np.isnat(chain.quoted_at)] <= np.datetime64("2015-12-24T16:00")).all()


def test_contracts_expire_out_of_the_chain(real_data: Path) -> None:
    chain = real_chain(real_data, ELEVEN + timedelta(hours=2, minutes=1))
    assert np.unique(chain.expiration).size == 11
