"""A backtest's report as one HTML page that stands alone: no script, no font, nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from ots_signals.strategies import registered
from ots_signals.svg_plots import Band, Dots, Line, Plot


def page(report: dict[str, Any]) -> str:
    """The report as one HTML page: no script, nothing from elsewhere."""
    first, last = report["sessions"]["first"], report["sessions"]["last"]
    title = f"Backtest {first} to {last}"
    warned = f'<p class="invented">{escape(report["invented"])}</p>' if report["invented"] else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{title}</h1>{warned}"
        f"<p>{_counting(report['sessions']['count'], 'session')} of {escape(', '.join(report['underlyings']))}, "
        f"market source <b>{escape(report['manifest']['source'])}</b>. Returns are net of spread and fees, "
        "on the capital that a position ties up, and stand beside those of matched random contracts. "
        f"{_counted(report['trials'])}</p>"
        f"<h2>What may be said</h2>{_summary(report)}"
        f"{''.join(_section(one) for one in report['strategies'])}"
        f"{_tried(report)}{_rests_on(report)}"
        f'<footer><p class="statement">{escape(report["statement"])}</p></footer></main></body></html>\n'
    )


def _counted(trials: dict[str, Any]) -> str:
    here, before = len(trials["sets"]), trials["before"]
    return (
        f"{_counting(here, 'set')} of parameters tried here and {before} before: what looks best of "
        "many is deflated by their number."
    )


def _counting(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def _summary(report: dict[str, Any]) -> str:
    rows = []
    for one in report["strategies"]:
        found = one["performance"]
        if found is None:
            rows.append([_link(one), "insufficient_data", "0", "0", *["–"] * 6])
            continue
        touch = found["net"]["touch"]
        rows.append(
            [
                _link(one), found["verdict"]["verdict"], str(found["n"]), str(found["days"]),
                _share(found["hit_rate"]), _interval(found["base_rate"]), _interval(touch["expectancy"]),
                _interval(found["lift"]), _percent(touch["p05"]), _percent(found["deflated_sharpe"]),
            ]
        )  # fmt: skip
    heads = (
        "strategy", "verdict", "n", "days", "target first", "of matches", "net at touch", "lift over matches",
        "worst 5 %", "deflated Sharpe",
    )  # fmt: skip
    return _table(heads, rows, raw=1)


def _link(one: dict[str, Any]) -> str:
    return f'<a href="#{escape(one["strategy"])}">{escape(one["strategy"])}</a>'


def _section(one: dict[str, Any]) -> str:
    found = one["performance"]
    name = escape(one["strategy"])
    head = (
        f'<section id="{name}"><h2>{escape(one["title"])} <small>{name}, version {escape(one["version"])}</small></h2>'
    )
    passed = "".join(f"<li>{escape(why)}: {count}</li>" for why, count in one["abstentions"].items())
    seen = (
        f"<p>{_counting(one['signals'], 'signal')}"
        + (f", {one['unresolved']} of them without an outcome yet" if one["unresolved"] else "")
        + (", all out of sample" if one["told_of"] == "out_of_sample" else "")
        + f", {_counting(sum(one['abstentions'].values()), 'abstention')}.</p>"
        + (f"<ul class='abstentions'>{passed}</ul>" if passed else "")
    )
    if found is None:
        return f"{head}{seen}<p>No signal has an outcome: nothing can be said.</p></section>"
    verdict = found["verdict"]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict["reasons"])
    judged = f'<p class="verdict"><b>{escape(verdict["verdict"])}</b> {escape(verdict["said"])}</p><ul>{reasons}</ul>'
    plots = "".join(plot.svg() for plot in (_equity_plot(one), _calibration_plot(one), _excursion_plot(one)))
    return f"{head}{judged}{seen}{_figures(found)}{_forward(one)}<div class='plots'>{plots}</div></section>"


def _figures(found: dict[str, Any]) -> str:
    rows = []
    for model, net in found["net"].items():
        rows.append(
            [
                model if net["attainable"] else f"{model} (unattainable: a bound)", _interval(net["expectancy"]),
                _percent(net["median"]), _percent(net["p05"]), _plain(net["profit_factor"]),
            ]
        )  # fmt: skip
    ends = (
        f"target {found['targets']}, stop {found['stops']}, time {found['timeouts']}, not left {found['not_left']}, "
        f"not entered {found['not_entered']}, indeterminate {found['indeterminate']}"
    )
    beside = (
        f"Effective sample size {_plain(found['effective_n'])} of {found['n']}; fair-market odds of the target "
        f"{_percent(found['fair_rate'])}; its own contracts at random moments {_percent(found['shuffled_mean'])}; fair "
        f"value {_percent(found['fair_value'])}; the stock, delta for delta, {_percent(found['stock_return'])}; "
        f"abstaining 0 %. Deepest fall {_plain(found['drawdown'])} stakes. Days needed for a Sharpe ratio above 0: "
        f"{_plain(found['minimum_days'])}."
    )
    heads = ("fill", "mean net (95 %)", "median", "worst 5 %", "gained / lost")
    return f"<p>Ended by {ends}.</p>{_table(heads, rows)}<p>{beside}</p>"


def _forward(one: dict[str, Any]) -> str:
    if not one["walk_forward"]:
        return ""
    rows = [
        [
            " to ".join(fold["in_sample"]), " to ".join(fold["out_of_sample"]),
            str(fold["chosen"]), _plain(fold["sharpe_before"]), _plain(fold["sharpe_after"]),
        ]
        for fold in one["walk_forward"]
    ]  # fmt: skip
    heads = ("chosen on", "told of", "set", "Sharpe before", "Sharpe after")
    return f"<h3>Walk-forward</h3>{_table(heads, rows)}"


def _equity_plot(one: dict[str, Any]) -> Plot:
    found = one["equity"]
    x = list(range(len(found["session"])))
    at = sorted({0, len(x) // 2, len(x) - 1}) if x else []
    return Plot(
        "Sum of net returns, equal stakes",
        "session",
        "stakes",
        [
            Band("90 % of curves without lift", x, found["low"], found["high"]),
            Line("matched random contracts", x, found["matched"], "d"),
            Line("mid (unattainable)", x, found["mid"], "c"),
            Line("partial", x, found["partial"], "b"),
            Line("touch", x, found["touch"], "a"),
        ],
        labels=[(k, found["session"][k]) for k in at],
        percent=False,
    )


def _calibration_plot(one: dict[str, Any]) -> Plot:
    bins = one["calibration"]["bins"]
    said = [row["said"] for row in bins]
    ends = [min(said), max(said)] if said else []
    came, low, high = ([row[name] for row in bins] for name in ("came", "low", "high"))
    return Plot(
        "Said and came: target first",
        "said",
        "came",
        [Line("as said", ends, ends, "d"), Dots("came, 95 %", said, came, "a", low, high)],
        zero=False,
    )


def _excursion_plot(one: dict[str, Any]) -> Plot:
    found = one["excursions"]
    worst, best, barrier = np.array(found["worst"]), np.array(found["best"]), np.array(found["barrier"], np.str_)
    kinds = (("target", "b"), ("stop", "c"), ("timeout", "a"))
    return Plot(
        "Worst and best that could be had until the end",
        "worst (MAE)",
        "best (MFE)",
        [Dots(kind, worst[barrier == kind], best[barrier == kind], style) for kind, style in kinds],
    )


def _tried(report: dict[str, Any]) -> str:
    rows = [
        [
            str(k), escape(one["strategy"]), escape(_differing(one)), str(one["signals"]), str(one["days"]),
            _plain(one["net_sum"]), _plain(one["sharpe"]),
        ]
        for k, one in enumerate(report["trials"]["sets"])
    ]  # fmt: skip
    heads = ("set", "strategy", "parameters that were given", "signals", "days", "sum of net returns", "Sharpe")
    return f"<h2>Everything that was tried</h2>{_table(heads, rows)}"


def _differing(trial: dict[str, Any]) -> str:
    """The parameters other than the declared ones."""
    declared = registered()[trial["strategy"]].Parameters().model_dump()
    found = [f"{name} = {value}" for name, value in trial["parameters"].items() if value != declared.get(name)]
    return ", ".join(found) or "as declared"


def _rests_on(report: dict[str, Any]) -> str:
    manifest = report["manifest"]
    rows = [
        ["run", report["id"]],
        ["code", manifest["code_version"]],
        ["sources", manifest["sources"]],
        ["libraries", ", ".join(f"{name} {number}" for name, number in manifest["libraries"].items())],
        ["calendar", manifest["calendar"]],
        ["seed", str(report["request"]["seed"])],
        ["data before", manifest["earlier"]],
        *(["data", f"{one['first']} to {one['last']}: {one['version']}"] for one in manifest["data"][:12]),
        *([["data", f"and {len(manifest['data']) - 12} more, in the JSON"]] if len(manifest["data"]) > 12 else []),
        ["decisions", report["decisions_sha256"]],
    ]
    return f"<h2>What it rests on</h2>{_table(('', ''), [[name, escape(text)] for name, text in rows], raw=1)}"


def _table(heads: tuple[str, ...], rows: list[list[str]], raw: int = 0) -> str:
    """The first ``raw`` columns are HTML already and stand left; all others hold what was made here from numbers."""
    head = "".join(f"<th>{escape(one)}</th>" for one in heads) if any(heads) else ""
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=left' if k < max(raw, 1) else ''}>{one}</td>" for k, one in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<div class='scroll'><table>{f'<tr>{head}</tr>' if head else ''}{body}</table></div>"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %".replace("-", "−")


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def _interval(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return _percent(found["value"])
    return f"{_percent(found['value'])} <small>{_percent(found['low'])} to {_percent(found['high'])}</small>"


def _share(found: dict[str, Any]) -> str:
    low = found["low"] if found["low"] is not None else found["wilson_low"]
    high = found["high"] if found["high"] is not None else found["wilson_high"]
    return _interval({"value": found["value"], "low": low, "high": high})


_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--dim:#657184;--paper:#fff;--line:#dfe3ea;--a:#0b61c4;--b:#0f8a5f;
--c:#c2501e;--d:#7b4fc9;--band:#7b4fc930}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf1;--dim:#98a3b5;--paper:#14181f;--line:#2c3440;--a:#6fb1ff;
--b:#4fd0a0;--c:#ff9a6b;--d:#b898ff;--band:#b898ff2e}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1100px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:26px;margin:0 0 8px}h2{font-size:20px;margin:36px 0 8px}h2 small,td small{color:var(--dim);font-weight:400}
h2 small{font-size:14px}td small{display:block}
.invented{border:2px solid var(--c);padding:10px 14px;border-radius:6px}
.statement{color:var(--dim);font-size:13px;border-top:1px solid var(--line);padding-top:14px;margin-top:40px}
.verdict b{font-family:ui-monospace,monospace;border:1px solid var(--line);border-radius:4px;padding:1px 7px;
margin-right:6px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px;margin:8px 0}
th{color:var(--dim);font-weight:500}th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid var(--line);
vertical-align:top}td.left,th:first-child{text-align:left;overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:14px}
figure{margin:8px 0}figcaption{font-size:13px;color:var(--dim)}
svg{width:100%;height:auto;font:11px system-ui,sans-serif}
svg text{fill:var(--dim)}.right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--line);fill:none}
.zero{stroke:var(--dim);stroke-dasharray:3 3;fill:none}.line{fill:none;stroke-width:1.6}.band{fill:var(--band)}
.line.a{stroke:var(--a)}.line.b{stroke:var(--b)}.line.c{stroke:var(--c)}.line.d{stroke:var(--d)}
.dot.a{fill:var(--a)}.dot.b{fill:var(--b)}.dot.c{fill:var(--c)}.dot.d{fill:var(--d)}.dot{fill-opacity:.6}
.key{white-space:nowrap;margin-left:10px}.key::before{content:"";display:inline-block;width:12px;height:3px;margin-right:5px;
vertical-align:middle;background:var(--ink)}.key.a::before{background:var(--a)}.key.b::before{background:var(--b)}
.key.c::before{background:var(--c)}.key.d::before{background:var(--d)}.key.band::before{background:var(--band);height:10px}
.none{color:var(--dim)}.abstentions{columns:3;font-size:14px}
"""
