"""The report says what was found, with the statement and the warning where they belong, on a page that stands alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from ots_signals.backtest import BacktestRequest, run_backtest
from ots_signals.canonical import canonical
from ots_signals.decisions import FillModel, Signal
from ots_signals.fair_market import FairSettings
from ots_signals.report import _equity, as_json, report_of
from ots_signals.report_page import page
from ots_signals.svg_plots import Band, Dots, Line, Plot
from ots_signals.verdicts import HYPOTHETICAL, Verdict
from resolved_signals_support import resolved

EMPTY = {"br", "meta", "path", "circle"}


@pytest.fixture(scope="module")
def found():
    settings = FairSettings(underlyings=("FRA",), sessions=12, warm_up=12)
    request = BacktestRequest(
        strategies=["rsi_reversal", "dear_implied"], start="2025-01-02", end="2025-01-17", market="fair:9",
        parameters={"oversold": [30.0, 35.0]}, folds=2,
    )  # fmt: skip
    return run_backtest(request, fair_settings=settings)


@pytest.fixture(scope="module")
def report(found):
    return report_of(found)


@pytest.fixture(scope="module")
def html(report):
    return page(report)


class Reader(HTMLParser):
    """Raises where tags do not match; keeps what leads elsewhere, and all that is written."""

    def __init__(self):
        super().__init__()
        self.open, self.elsewhere, self.written, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.elsewhere += [value for name, value in attributes if name in ("src", "href", "action", "srcset")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.written.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_stands_alone(html):
    reader = read(html)
    assert all(one.startswith("#") for one in reader.elsewhere)
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "embed", "form"}
    assert {"svg", "table", "title", "style"} <= reader.tags
    assert "url(" not in html
    assert "@import" not in html


def test_both_carry_the_statement_and_say_that_prices_are_invented(report, html):
    written = " ".join(read(html).written)
    assert report["statement"] == HYPOTHETICAL
    assert HYPOTHETICAL in written
    assert "fair:9" in report["invented"]
    assert report["invented"] in written
    real = {**report, "invented": None}
    assert "invented" not in re.sub(r"<style>.*</style>", "", page(real), flags=re.S)


def test_a_real_market_is_not_called_invented(found):
    assert (
        report_of(replace(found, manifest=replace(found.manifest, source="databento", invented=False)))["invented"]
        is None
    )


def test_no_word_claims_more_than_the_verdict(report, html):
    written = (" ".join(read(html).written) + as_json(report)).replace(HYPOTHETICAL, "")
    written = written.replace("profit_factor", "")  # the name that the field has everywhere
    assert {one["performance"]["verdict"]["verdict"] for one in report["strategies"]} == {Verdict.INSUFFICIENT_DATA}
    for word in ("consistent", "profit", "winning", "guarantee"):
        assert word not in written.lower()


def test_figures_are_those_of_the_decisions(found, report):
    (one,) = (row for row in report["strategies"] if row["strategy"] == "dear_implied")
    told = found.told("dear_implied")
    signals = [decision for decision, _ in told if isinstance(decision, Signal)]
    assert one["signals"] == len(signals) > 3
    assert sum(one["abstentions"].values()) == len(told) - len(signals)
    nets = {}
    for decision, outcome in told:
        if isinstance(decision, Signal):
            (touch,) = (fill for fill in outcome.fills if fill.model == FillModel.TOUCH)
            nets.setdefault(decision.session, []).append(touch.net_return)
    curve = np.cumsum([sum(nets[day]) for day in sorted(nets)])
    assert one["equity"]["session"] == sorted(nets)
    assert one["equity"]["touch"] == pytest.approx(curve.tolist(), abs=1e-5)
    assert one["performance"]["net"]["touch"]["expectancy"]["value"] == pytest.approx(curve[-1] / len(signals))
    assert one["performance"]["n"] == one["calibration"]["n"] == len(signals)
    assert len(one["excursions"]["worst"]) == len(signals)


def test_costs_show_in_the_curves_and_the_band_lies_around_the_matches(report):
    for one in report["strategies"]:
        curves = {name: np.array(values) for name, values in one["equity"].items() if isinstance(values, list)}
        assert curves["touch"][-1] < curves["partial"][-1] < curves["mid"][-1]
        low, centre, high = (curves[name] for name in ("low", "matched", "high"))
        assert (low <= centre).all()
        assert (centre <= high).all()
        if one["equity"]["with_matches"] > 10:
            # further on there is more that could have come
            assert (high - low)[-1] > (high - low)[0] > 0
    assert max(one["equity"]["with_matches"] for one in report["strategies"]) > 10


def test_the_band_is_what_would_be_without_any_lift():
    """However much better the signals were than their matches: the band is around the matches."""
    net = 0.1 + np.random.default_rng(1).normal(0, 0.02, 40)
    found = _equity(resolved(net, baseline=-0.05), 1)
    low, centre, high = (np.array(found[name]) for name in ("low", "matched", "high"))
    assert centre[-1] == pytest.approx(40 * -0.05, abs=0.3)
    assert low[-1] < centre[-1] < high[-1] < found["touch"][-1]
    assert (low[-1] + high[-1]) / 2 == pytest.approx(centre[-1], abs=0.1)


def test_the_walk_forward_is_shown_and_every_set_is_listed(report, html):
    written = " ".join(read(html).written)
    (one,) = (row for row in report["strategies"] if row["strategy"] == "rsi_reversal")
    assert len(one["walk_forward"]) == 2
    assert "Walk-forward" in written
    assert "all out of sample" in written
    assert [row["strategy"] for row in report["trials"]["sets"]] == ["rsi_reversal", "rsi_reversal", "dear_implied"]
    assert "oversold = 30.0" in written
    assert written.count("as declared") == 2


def test_the_report_is_plain_json_without_anything_unknown_as_a_number(report):
    text = as_json(report)
    assert json.loads(text) == report
    assert "NaN" not in text
    assert "Infinity" not in text
    canonical(report)


def test_what_was_chosen_by_users_is_text_on_the_page(report):
    other = {**report, "underlyings": ["<script>alert(1)</script>"]}
    assert "<script>" not in page(other)
    assert "script" not in read(page(other)).tags


def test_a_strategy_without_signals_has_a_place_and_no_figures(found):
    nothing = replace(found, trials=tuple(replace(one, decisions=(), outcomes={}, daily={}) for one in found.trials))
    report = report_of(nothing)
    assert [one["performance"] for one in report["strategies"]] == [None, None]
    assert "nothing can be said" in page(report)
    read(page(report))


def numbers_of(path):
    return [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", path)]


def test_a_plot_puts_points_where_they_are():
    svg = Plot("A title <b>", "x", "y", [Line("one", [0, 1, 2], [0.0, 1.0, np.nan], "a")], percent=False).svg()
    (path,) = re.findall(r'class="line a" d="([^"]+)"', svg)
    x0, y0, x1, y1 = numbers_of(path)
    assert x0 < x1  # to the right
    assert y0 > y1  # upwards
    assert "A title &lt;b&gt;" in svg
    ticks = re.findall(r'class="right">([^<]+)<', svg)
    assert [float(one) for one in ticks] == sorted(float(one) for one in ticks)
    read(svg)


def test_a_plot_of_nothing_says_so_and_one_of_a_single_point_can_be_drawn():
    assert "nothing to show" in Plot("Empty", "x", "y", [Line("", [], [], "a"), Band("", [], [], [])]).svg()
    assert "<circle" in Plot("One", "x", "y", [Dots("one", [3.0], [0.0], "a", [0.0], [0.0])]).svg()
    assert "<circle" in Plot("One", "x", "y", [Dots("one", [3.0], [5.0], "a")], zero=False).svg()


def test_a_band_and_intervals_reach_from_low_to_high():
    svg = Plot(
        "B", "x", "y", [Band("band", [0, 1], [-1.0, -2.0], [1.0, 2.0]), Dots("d", [0.5], [0.0], "b", [-1.5], [1.5])]
    ).svg()
    (band,) = re.findall(r'class="band" d="([^"]+)"', svg)
    assert len(numbers_of(band)) == 8
    assert re.search(r'class="line b" d="M[\d.]+ [\d.]+V[\d.]+"', svg)
