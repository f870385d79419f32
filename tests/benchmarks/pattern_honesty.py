"""What the patterns are worth: recall, false alarms and forward returns, on real daily bars.

python tests/benchmarks/pattern_honesty.py             prints the figures (some minutes)
python tests/benchmarks/pattern_honesty.py --short     the same from few plants and surrogates
python tests/benchmarks/pattern_honesty.py --write     puts them, and the table of detectors, into docs/PATTERNS.md

The same seed gives the same figures. The real bars lie beside the checkout (../shared/data/real, or OTS_REAL_DATA).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from ots_quant.patterns import DETECTORS, scan  # noqa: E402
from pattern_plants import TEMPLATES, Recall, false_alarms, recall, relative_days  # noqa: E402
from pattern_returns import HORIZONS, Excess, History, forward_returns, survivors  # noqa: E402
from real_daily import SYMBOLS, adjusted_daily  # noqa: E402

PAGE = ROOT / "docs" / "PATTERNS.md"
SEED = 20_240_614
NOISE = (0.0, 0.25, 0.5, 1.0)
DISCOVERY_RATE = 0.1


class Size(NamedTuple):
    """How much is drawn."""

    plants: int
    series: int
    bars: int


FULL, SHORT = Size(300, 60, 2520), Size(30, 3, 1000)


class Figures(NamedTuple):
    """All that is measured."""

    size: Size
    histories: Sequence[History]
    recalls: dict[str, list[Recall]]
    alarms: dict[str, float]
    real_rates: dict[str, float]
    returns: dict[tuple[str, int], Excess]


def measure(real: Path, size: Size) -> Figures:
    """The figures from the bars under ``real``."""
    histories = []
    for symbol in SYMBOLS:
        starts, bars = adjusted_daily(real, symbol)
        histories.append(History(symbol, starts.astype("datetime64[ns]").astype("datetime64[D]"), bars))
    pools = [relative_days(history.bars) for history in histories]
    recalls = {
        name: [recall(pools, DETECTORS[name], template, noise, size.plants, SEED) for noise in NOISE]
        for name, template in sorted(TEMPLATES.items(), key=lambda item: list(DETECTORS).index(item[0]))
    }
    alarms = false_alarms(pools, DETECTORS.values(), size.series, size.bars, SEED)
    total = sum(len(history.bars) for history in histories)
    real_rates = dict.fromkeys(DETECTORS, 0.0)
    for history in histories:
        for detector, events in scan(history.bars).found:
            real_rates[detector.name] += 1000 * len(events) / total
    return Figures(size, histories, recalls, alarms, real_rates, forward_returns(histories, DETECTORS.values(), SEED))


def figures_text(figures: Figures) -> str:
    """The figures as the page has them."""
    return "\n".join([_recall_text(figures), _alarms_text(figures), _returns_text(figures)])


def _recall_text(figures: Figures) -> str:
    head = " | ".join(f"noise {noise:g}" for noise in NOISE)
    rows = []
    for name, found in figures.recalls.items():
        chance = sum(one.by_chance for one in found) / len(found)
        rows.append(f"| `{name}` | {' | '.join(f'{one.found:.0%}' for one in found)} | {chance:.0%} |")
    return f"""### Recall

{figures.size.plants} plants a cell. The last column is the same stretches without the plant: what chance finds.

| type | {head} | no plant |
|---|{"---|" * (len(NOISE) + 1)}
{chr(10).join(rows)}
"""


def _alarms_text(figures: Figures) -> str:
    rows = [f"| `{name}` | {figures.alarms[name]:.2f} | {figures.real_rates[name]:.2f} |" for name in DETECTORS]
    drawn, real = figures.size.series * figures.size.bars, sum(len(h.bars) for h in figures.histories)
    return f"""### False alarms

Events per 1,000 bars, in {drawn:,} bars of surrogates, where whatever is longer than a block came about by
chance, and in the {real:,} real bars. Where the two are alike, the real market makes the pattern no more often than
its own days in another order do. (A candle of a few days survives within the blocks: its rate is alike by
construction.)

| type | surrogates | real bars |
|---|---|---|
{chr(10).join(rows)}
"""


def _returns_text(figures: Figures) -> str:
    tests = {key: one for key, one in figures.returns.items() if not math.isnan(one.p_value)}
    nominal = sum(one.p_value < 0.05 for one in tests.values())
    kept = survivors(figures.returns, DISCOVERY_RATE)
    span = ", ".join(f"{h.symbol} {h.dates[0]} to {h.dates[-1]}" for h in figures.histories)
    head = " | ".join(f"{horizon} bar{'s' * (horizon > 1)}" for horizon in HORIZONS)
    rows = []
    for name in DETECTORS:
        cells = [figures.returns[name, horizon] for horizon in HORIZONS]
        texts = [_cell(one, (name, horizon) in kept) for one, horizon in zip(cells, HORIZONS, strict=True)]
        rows.append(f"| `{name}` | {cells[0].events} | {' | '.join(texts)} | {verdict(figures, kept, name)} |")
    return f"""### Forward returns

{span}.

Excess log return in basis points after the event, in its own direction, over matched moments, with the 95 % interval;
for neutral types the excess of the return's size. Before any cost.

{len(tests)} tests have at least 30 events in 12 quarters. If no pattern meant anything, {0.05 * len(tests):.0f} of them
would have p < 0.05; {nominal} do. At a false discovery rate of {DISCOVERY_RATE:.0%} (Benjamini and Hochberg)
{len(kept)} are left, in bold.

{conclusion(figures, kept)}

| type | events | {head} | edge over matched moments |
|---|---|{"---|" * (len(HORIZONS) + 1)}
{chr(10).join(rows)}
"""


def _cell(one: Excess, bold: bool) -> str:
    if not one.events:
        return "–"
    mean = f"{1e4 * one.mean:+.0f}"
    if math.isnan(one.low):
        return mean
    text = f"{mean} [{1e4 * one.low:+.0f}, {1e4 * one.high:+.0f}]"
    return f"**{text}**" if bold else text


def verdict(figures: Figures, kept: Sequence[tuple[str, int]], name: str) -> str:
    """One of: ``too few``, ``none``, ``against it``, ``shown``."""
    signs = {figures.returns[key].mean > 0 for key in kept if key[0] == name}
    if signs:
        return "shown" if signs == {True} else "against it"
    return "too few" if all(math.isnan(figures.returns[name, h].p_value) for h in HORIZONS) else "none"


def conclusion(figures: Figures, kept: Sequence[tuple[str, int]]) -> str:
    """The verdicts in a sentence."""
    verdicts = {name: verdict(figures, kept, name) for name in DETECTORS}
    by = {word: [name for name, one in verdicts.items() if one == word] for word in ("shown", "against it", "too few")}
    shown = ", ".join(f"`{name}`" for name in by["shown"]) or "no type at all"
    text = f"**An edge over matched moments is shown by {shown}.**"
    if against := ", ".join(f"`{name}`" for name in by["against it"]):
        text += (
            f" The opposite is shown by {against}: a return against the direction, or for neutral types a smaller one."
        )
    none = sum(one == "none" for one in verdicts.values())
    return f"{text} {none} types show no edge, and {len(by['too few'])} have too few events to say."


def detectors_text() -> str:
    """The table of detectors as the page has it."""
    rows = ["| type | family | direction | what it is | confirmed by | source |", "|---|---|---|---|---|---|"]
    rows += [
        f"| `{d.name}` | {d.family} | {d.direction} | {d.meaning} | {d.confirmation} | {d.source} |"
        for d in DETECTORS.values()
    ]
    return "\n".join(rows) + "\n"


def replaced(page: str, name: str, text: str) -> str:
    """``page`` with ``text`` between the marks of ``name``."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}{text}{end}{rest.split(end)[1]}"


def main() -> int:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    real = Path(os.environ.get("OTS_REAL_DATA", ROOT.parent / "shared" / "data" / "real"))
    if not real.is_dir():
        print(f"no real market data at {real} (set OTS_REAL_DATA)", file=sys.stderr)
        return 2
    text = figures_text(measure(real, SHORT if arguments.short else FULL))
    if arguments.write:
        page = replaced(PAGE.read_text(), "detectors", detectors_text())
        PAGE.write_text(replaced(page, "figures", text))
        print(f"wrote {PAGE.name}")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
