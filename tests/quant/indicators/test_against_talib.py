"""What TA-Lib has, to 1e-9: on random bars, on bars with ties and stops, and on real ones."""

import databento
import numpy as np
import pytest
import talib

from indicator_bars import history
from ots_quant import indicators

# what is called here, and what TA-Lib is called with; outputs in our order
SAME = {
    "sma": (lambda b: indicators.sma(b.close, 20), lambda b: talib.SMA(b.close, 20)),
    "ema": (lambda b: indicators.ema(b.close, 20), lambda b: talib.EMA(b.close, 20)),
    "wma": (lambda b: indicators.wma(b.close, 20), lambda b: talib.WMA(b.close, 20)),
    "dema": (lambda b: indicators.dema(b.close, 20), lambda b: talib.DEMA(b.close, 20)),
    "tema": (lambda b: indicators.tema(b.close, 20), lambda b: talib.TEMA(b.close, 20)),
    "kama": (lambda b: indicators.kama(b.close, 10), lambda b: talib.KAMA(b.close, 10)),
    "hma": (lambda b: indicators.hma(b.close, 21), lambda b: talib.HMA(b.close, 21)),
    "rsi": (lambda b: indicators.rsi(b.close, 14), lambda b: talib.RSI(b.close, 14)),
    "stochastic": (
        lambda b: indicators.stochastic(b.high, b.low, b.close, 14, 3, 5),
        lambda b: talib.STOCH(b.high, b.low, b.close, 14, 3, 0, 5, 0),
    ),
    "stochastic_rsi": (
        lambda b: indicators.stochastic_rsi(b.close, 14, 10, 3),
        lambda b: talib.STOCHRSI(b.close, 14, 10, 3, 0),
    ),
    "macd": (lambda b: indicators.macd(b.close, 12, 26, 9), lambda b: talib.MACD(b.close, 12, 26, 9)),
    "cci": (lambda b: indicators.cci(b.high, b.low, b.close, 20), lambda b: talib.CCI(b.high, b.low, b.close, 20)),
    "mfi": (
        lambda b: indicators.mfi(b.high, b.low, b.close, b.volume, 14),
        lambda b: talib.MFI(b.high, b.low, b.close, b.volume, 14),
    ),
    "roc": (lambda b: indicators.roc(b.close, 10), lambda b: talib.ROC(b.close, 10)),
    "williams_r": (
        lambda b: indicators.williams_r(b.high, b.low, b.close, 14),
        lambda b: talib.WILLR(b.high, b.low, b.close, 14),
    ),
    "trix": (lambda b: indicators.trix(b.close, 15), lambda b: talib.TRIX(b.close, 15)),
    "atr": (lambda b: indicators.atr(b.high, b.low, b.close, 14), lambda b: talib.ATR(b.high, b.low, b.close, 14)),
    "bollinger": (lambda b: indicators.bollinger(b.close, 20, 2.5), lambda b: talib.BBANDS(b.close, 20, 2.5, 2.5)),
    "keltner": (
        lambda b: indicators.keltner(b.high, b.low, b.close, 20, 10, 1.5),
        lambda b: talib.KC(b.high, b.low, b.close, 20, 10, 1.5),
    ),
    "donchian": (lambda b: indicators.donchian(b.high, b.low, 20), lambda b: talib.DONCHIAN(b.high, b.low, 20)),
    "adx": (lambda b: indicators.adx(b.high, b.low, b.close, 14), lambda b: talib.ADX(b.high, b.low, b.close, 14)),
    "di": (
        lambda b: indicators.di(b.high, b.low, b.close, 14),
        lambda b: (talib.PLUS_DI(b.high, b.low, b.close, 14), talib.MINUS_DI(b.high, b.low, b.close, 14)),
    ),
    "aroon": (lambda b: indicators.aroon(b.high, b.low, 25), lambda b: talib.AROON(b.high, b.low, 25)[::-1]),
    "supertrend": (
        lambda b: indicators.supertrend(b.high, b.low, b.close, 10, 3.0),
        lambda b: _with_nan(*talib.SUPERTREND(b.high, b.low, b.close, 10, 3.0)),
    ),
    "supertrend of 2 bars": (
        lambda b: indicators.supertrend(b.high, b.low, b.close, 2, 0.5),
        lambda b: _with_nan(*talib.SUPERTREND(b.high, b.low, b.close, 2, 0.5)),
    ),
    "psar": (lambda b: indicators.psar(b.high, b.low, 0.02, 0.2), lambda b: talib.SAR(b.high, b.low, 0.02, 0.2)),
    "obv": (lambda b: indicators.obv(b.close, b.volume), lambda b: talib.OBV(b.close, b.volume)),
    "ad": (
        lambda b: indicators.ad(b.high, b.low, b.close, b.volume),
        lambda b: talib.AD(b.high, b.low, b.close, b.volume),
    ),
    "cmf": (
        lambda b: indicators.cmf(b.high, b.low, b.close, b.volume, 20),
        lambda b: talib.CMF(b.high, b.low, b.close, b.volume, 20),
    ),
    "vwap since the first bar": (
        lambda b: indicators.anchored_vwap(b.high, b.low, b.close, b.volume, 0, 2.0).vwap,
        lambda b: talib.VWAP(b.high, b.low, b.close, b.volume),
    ),
}
BARS = {
    "random": history(31, 3000),
    "dear": history(32, 3000, tick=5.0),
    "still": history(33, 3000, tick=0.01, flat=0.4),
}
same = pytest.mark.parametrize("name", SAME)


def _with_nan(line, direction):
    """TA-Lib's direction is an integer, 0 while it is not known."""
    return line, np.where(direction == 0, np.nan, direction)


def assert_same(found, expected):
    found = found if isinstance(found, tuple) else (found,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        assert np.isfinite(a[-1])


@same
@pytest.mark.parametrize("bars", BARS.values(), ids=BARS)
def test_as_talib_computes_it(name, bars):
    ours, theirs = SAME[name]
    assert_same(ours(bars), theirs(bars))


@pytest.fixture(scope="module")
def real_bars(real_data):
    found = []
    for path in sorted(real_data.glob("EQUS.MINI/daily/*.zst")):
        rows = databento.DBNStore.from_file(path).to_ndarray()
        prices = {name: rows[name] / 1e9 for name in ("open", "high", "low", "close")}
        found.append(type(BARS["random"])(**prices, volume=rows["volume"].astype(np.float64)))
    return found


@same
def test_as_talib_computes_it_of_real_bars(name, real_bars):
    ours, theirs = SAME[name]
    for bars in real_bars:
        assert_same(ours(bars), theirs(bars))
    assert len(real_bars) == 3
