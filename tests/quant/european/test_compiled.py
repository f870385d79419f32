"""The kernels and the reference are one; kernels are ready before they are used, whatever the place they start in."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ots_quant import european, european_numpy
from ots_quant.european_numpy import Contracts, Quotes
from ots_quant.greeks import Greeks
from ots_quant.kernels import european as kernels
from quant.european.reference import extreme, usual

SERVICES = Path(european.__file__).resolve().parents[1]
SIZES = [1, 3, 255, 256, 257, 5_000, european_numpy.BLOCK + 1]


def scales(contracts: Contracts) -> Greeks:
    """What an error of each output is measured by."""
    _, spot, strike, years, rate, dividend_yield, volatility = contracts
    carry, growth = np.exp(-dividend_yield * years), 1.0 + (np.abs(rate) + np.abs(dividend_yield)) * years
    value = np.maximum(spot * carry, strike * np.exp(-rate * years)) * growth
    deviation = volatility * np.sqrt(years)
    return Greeks(
        price=value,
        delta=carry * growth,
        gamma=carry / (spot * deviation) * growth,
        theta=value * ((1.0 + deviation) / years + np.abs(rate) + np.abs(dividend_yield)),
        vega=value * np.sqrt(years),
        rho=value * years,
        vanna=carry / volatility * growth * (1.0 + deviation),
        charm=carry
        * growth
        * (np.abs(dividend_yield) + (1.0 + np.abs(rate - dividend_yield) * years / deviation) / years),
        vomma=value * np.sqrt(years) / volatility * (1.0 + deviation**2),
    )


@pytest.mark.parametrize("make", [usual, extreme])
@pytest.mark.parametrize("size", SIZES)
def test_kernels_give_what_the_reference_gives(make, size):
    contracts = make(size, size)
    found, expected = Greeks.empty(size), Greeks.empty(size)
    kernels.greeks(*contracts, *found)
    european_numpy.greeks(contracts, expected)
    covered = ~np.isnan(found.price)
    assert size < 1_000 or covered.mean() > 0.6
    for name, mine, theirs, scale in zip(Greeks._fields, found, expected, scales(contracts), strict=True):
        assert (np.abs(mine - theirs)[covered] <= 1e-13 * scale[covered]).all(), name
    prices = np.empty(size)
    kernels.price(*contracts, prices)
    assert (np.isnan(prices) == ~covered).all()
    assert (np.abs(prices - expected.price)[covered] <= 1e-13 * scales(contracts).price[covered]).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_kernel_finds_the_volatility_that_the_reference_finds(size):
    contracts = usual(size, size)
    price = np.empty(size)
    european_numpy.price(contracts, price)
    found, expected = np.empty(size), np.empty(size)
    kernels.implied_volatility(price, *contracts[:6], found)
    european_numpy.implied_volatility(Quotes(price, *contracts[:6]), expected)
    vega = european.greeks(*contracts).vega
    lost = 4e-15 * scales(contracts).price / vega
    covered = ~np.isnan(found)
    assert size < 1_000 or covered.mean() > 0.99
    assert (np.abs(found - expected)[covered] <= 1e-13 + lost[covered]).all()


def test_an_element_does_not_depend_on_its_neighbours():
    contracts = extreme(1_000, 9)
    together = european.greeks(*contracts)
    implied = european.implied_volatility(together.price, *contracts[:6])
    for i in range(0, 1_000, 37):
        alone = Contracts(*(vector[i : i + 1] for vector in contracts))
        for all_of_it, one in zip(together, european.greeks(*alone), strict=True):
            np.testing.assert_allclose(all_of_it[i], one[0], rtol=1e-12)
        np.testing.assert_allclose(
            implied[i],
            european.implied_volatility(together.price[i], *(vector[i] for vector in contracts[:6])),
            rtol=1e-9,
        )


def test_threads_give_the_same_answers():
    contracts = usual(20_000, 10)
    expected = european.greeks(*contracts)
    volatility = european.implied_volatility(expected.price, *contracts[:6])
    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(european.greeks, *contracts) for _ in range(8)]
        solved = [threads.submit(european.implied_volatility, expected.price, *contracts[:6]) for _ in range(8)]
    for job in jobs:
        for mine, theirs in zip(job.result(), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for job in solved:
        np.testing.assert_array_equal(job.result(), volatility)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that knows ots_quant."""
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        env={**os.environ, "PYTHONPATH": str(SERVICES), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


PRICE_ONE = "from ots_quant import european; print(repr(float(european.price(1, 100, 105, .5, .03, .01, .2))))"
WITHOUT_NUMBA = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
from ots_quant import european
found = european.greeks([1, -1], 100, 105, .5, .03, .01, .2)
again = european.implied_volatility(found.price, [1, -1], 100, 105, .5, .03, .01)
assert abs(again - .2).max() < 1e-13 and "ots_quant.kernels.european" not in sys.modules
print(repr(float(found.price[0])))
"""
ANSWERS_WITHOUT_COMPILING = """
from numba.core import event
from ots_quant import european
from ots_quant.kernels import european as kernels
with event.install_recorder("numba:compile") as recorder:
    european.greeks(1, 100, [90, 105], .5, .03, .01, .2)
    european.implied_volatility([4, NaN], 1, 100, 105, .5, .03, .01)
    european.why_no_volatility([4, NaN], 1, 100, 105, .5, .03, .01)
    european.price([1, -1], 100, [[1], [2]], 1, 0, 0, 0)
print(len(recorder.buffer))
""".replace("NaN", "float('nan')")
KERNEL = """
from ots_quant.compiled import FLOAT, kernel
@kernel(FLOAT(FLOAT))
def twice(x):
    return 2 * x
"""
COMPILED_TIMES = """
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    from doubling import twice
assert twice(21.0) == 42.0
print(len(recorder.buffer))
"""


def expected_price() -> float:
    return float(european.price(1, 100, 105, 0.5, 0.03, 0.01, 0.2))


def test_without_numba_the_reference_answers():
    result = run(WITHOUT_NUMBA)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == pytest.approx(expected_price(), rel=1e-13)


def test_nothing_is_compiled_while_it_answers():
    result = run(ANSWERS_WITHOUT_COMPILING)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == 0


@pytest.fixture
def doubling(tmp_path):
    """Runs in fresh processes that import a kernel of a module of its own; how often they compiled."""
    module = tmp_path / "code"
    module.mkdir()
    (module / "doubling.py").write_text(KERNEL)

    def compiled(cache: Path) -> int:
        path = os.pathsep.join([str(module), str(SERVICES)])
        nowhere = str(tmp_path / "file" / "cache")
        result = run(COMPILED_TIMES, PYTHONPATH=path, NUMBA_CACHE_DIR=str(cache), HOME=nowhere, XDG_CACHE_HOME=nowhere)
        assert result.returncode == 0, result.stderr
        return int(result.stdout)

    (tmp_path / "file").write_text("a file is no directory, not even for root")
    return compiled


def test_a_kernel_is_compiled_once_and_again_when_its_cache_was_damaged(doubling, tmp_path):
    cache = tmp_path / "cache"
    assert doubling(cache) > 0
    assert doubling(cache) == 0
    for kind in ("*.nbi", "*.nbc"):
        for part in (0.0, 0.5, 0.95):
            (file,) = cache.rglob(kind)
            content = file.read_bytes()
            file.write_bytes(content[: int(len(content) * part)])
            assert doubling(cache) > 0, f"{kind} cut to {part}"
            assert doubling(cache) == 0, f"{kind} cut to {part} was not made again"


def test_where_no_cache_can_be_written_a_kernel_is_compiled_by_each_process(doubling, tmp_path):
    (tmp_path / "code" / "__pycache__").write_text("no directory")
    nowhere = tmp_path / "file" / "cache"
    assert doubling(nowhere) > 0
    assert doubling(nowhere) > 0


def test_an_unwritable_cache_directory_does_not_stop_the_options(tmp_path):
    (tmp_path / "file").write_text("a file is no directory, not even for root")
    result = run(PRICE_ONE, NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == expected_price()
