"""What was known at a moment, where far more is stored than is read at once."""

from datetime import date

import numpy as np
import pytest
import talib
from databento_dbn import RType, Schema
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, bar, dbn_file, midnight
from ots_analytics.app import create_app
from ots_analytics.settings import AnalyticsSettings
from ots_common.times import rfc3339
from ots_common.tokens import HEADER, Caller, sign_internal_token

KEY = SecretStr("a" * 40)
START = midnight(date(2024, 3, 4))
OPEN = START + 14 * 3600 * 10**9 + 30 * MINUTE
CLOSES = np.round(50 + np.cumsum(np.random.default_rng(5).normal(0, 0.05, 6000)), 2)


@pytest.fixture(scope="module")
def analytics(market, redis_server, tmp_path_factory):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    minutes = [bar(START + i * MINUTE, (c, c, c, c), 10) for i, c in enumerate(CLOSES.tolist())]
    days = [bar(START + i * DAY, (c, c, c, c), 10, rtype=RType.OHLCV_1D) for i, c in enumerate(CLOSES[:3].tolist())]
    with service.working():
        service.imported(dbn_file(Schema.OHLCV_1M, minutes, days=5, symbols={"LONG": 1}))
        service.imported(dbn_file(Schema.OHLCV_1D, days, days=5, symbols={"LONG": 1, "VENDOR": 2}))
    app = create_app(
        AnalyticsSettings(
            database_url=market.reader, accept_keys={"gateway": KEY}, log_level="ERROR", history_bars=1000
        )
    )
    client = app.test_client()

    def ask(query):
        token = sign_internal_token(
            Caller("gateway", "u", "u", "viewer", "request-01"), "analytics", {"analytics": KEY}
        )
        return client.get(f"/api/v1/analytics/indicators/LONG?{query}", headers={HEADER: token})

    return ask


@pytest.mark.parametrize("known", [25, 500, 2999, 6000])
def test_an_early_moment_is_answered_from_its_own_past(analytics, known):
    as_of = rfc3339(START + known * MINUTE)
    answer = analytics(f"timeframe=1m&indicators=sma:20&as_of={as_of}")
    assert answer.status_code == 200, answer.text
    assert answer.json["as_of"] == as_of
    assert answer.json["quality"]["bars"] == min(known, 1000)
    assert answer.json["indicators"]["sma"] == pytest.approx(talib.SMA(CLOSES[:known], 20)[-1], abs=1e-9)


@pytest.mark.parametrize(("timeframe", "minutes"), [("5m", 5), ("15m", 15), ("1h", 60)])
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_an_interval_counts_from_its_end(analytics, timeframe, minutes, shift):
    border = START + 40 * 60 * MINUTE
    answer = analytics(f"timeframe={timeframe}&indicators=sma:2&as_of={rfc3339(border + shift)}")
    whole = 40 * 60 // minutes if shift >= 0 else 40 * 60 // minutes - 1
    assert answer.json["last_bar"] == rfc3339(START + (whole - 1) * minutes * MINUTE)
    closes = CLOSES[minutes - 1 :: minutes][:whole]
    assert answer.json["indicators"]["sma"] == pytest.approx(closes[-2:].mean(), abs=1e-9)


def test_a_day_is_known_from_the_sessions_close_and_as_the_vendors_from_its_own_end(analytics):
    close = OPEN + 2 * DAY + 390 * MINUTE
    summed, vendors = CLOSES[2 * 1440 + 870 + 389], CLOSES[2]
    answers = [analytics(f"timeframe=1d&indicators=sma:2&as_of={rfc3339(at)}").json
               for at in (close - 1, close, START + 3 * DAY - 1, START + 3 * DAY)]  # fmt: skip
    assert [a["last_bar"][:10] for a in answers] == ["2024-03-05", "2024-03-06", "2024-03-06", "2024-03-06"]
    expected = [CLOSES[:2].mean(), (CLOSES[1] + summed) / 2, (CLOSES[1] + summed) / 2, (CLOSES[1] + vendors) / 2]
    assert [a["indicators"]["sma"] for a in answers] == pytest.approx(expected, abs=1e-9)
    assert [a["quality"]["origins"].get("minutes", 0) for a in answers] == [0, 1, 1, 0]
