"""What a client asks for, understood or refused with what there is."""

import pytest

from ots_analytics.requests import parse_indicators
from ots_common.problems import Problem


def test_names_parameters_and_the_period_of_all():
    wanted = parse_indicators("SMA, rsi:14,macd:5:10:3,bollinger:20:2.5", 30)
    assert [(w.key, w.stated_parameters()) for w in wanted] == [
        ("sma", {"period": 30}),
        ("rsi", {"period": 14}),
        ("macd", {"fast": 5, "slow": 10, "signal": 3}),
        ("bollinger", {"period": 20, "deviations": 2.5}),
    ]


def test_one_name_twice_is_keyed_by_its_parameters():
    assert [w.key for w in parse_indicators("sma:20,sma:50", None)] == ["sma:20", "sma:50"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one"),
        ("nosuch", "no indicator 'nosuch'"),
        ("sma:x", "whole number"),
        ("sma:2.5", "whole number"),
        ("sma:1", "from 2 to 5000"),
        ("sma:1e400", "whole number"),
        ("sma:nan", "whole number"),
        ("sma:20:30", "takes 1"),
        ("macd:26:12", "below slow"),
        ("sma,sma", "twice"),
        (",".join(["sma"] * 30), "at once"),
    ],
)
def test_what_is_wrong_is_said(text, says):
    with pytest.raises(Problem) as caught:
        parse_indicators(text, None)
    assert caught.value.status == 422
    assert says in caught.value.detail
    assert "rsi" in caught.value.extra["available"]
