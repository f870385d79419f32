"""The long form of the chaos suite: rounds until so many processes were killed.

    PYTHONPATH=tests python -m chaos.run --kills 1000

Prints a line for each round and the sums; ends with 1 when a record was lost, doubled or invented, or a bar is wrong.
``--seed N --rounds 1`` plays one round again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from chaos.arena import Arena, Plan, Round


def main() -> int:
    """Play rounds; 1 when one of them was not sound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="processes to kill in all")
    parser.add_argument("--rounds", type=int, default=10_000, help="rounds at most")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each has the next")
    parser.add_argument("--seconds", type=float, default=40.0, help="of the feed, a round")
    parser.add_argument("--per-second", type=int, default=400, help="trades a second of the feed")
    parser.add_argument("--pause", type=float, default=1.2, help="seconds between two blows, at most")
    parser.add_argument(
        "--repair", type=int, default=5, help="ask history at the end of every so manieth round; 0: never"
    )
    options = parser.parse_args()
    rounds: list[Round] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ots-chaos-") as folder, Arena(Path(folder)) as arena:
        while sum(one.kills for one in rounds) < options.kills and len(rounds) < options.rounds:
            seed = options.seed + len(rounds)
            plan = Plan(seed, options.seconds, options.per_second, options.pause)
            one = arena.round(plan, repair=bool(options.repair) and seed % options.repair == 0)
            rounds.append(one)
            print(line(one), flush=True)
    return report(rounds, time.monotonic() - began)


def line(one: Round) -> str:
    """A round in one line."""
    before, after = one.before_repair, one.after_repair
    repaired = "" if after is None else f", after repair {after.missing_and_in_the_ledger} missing"
    wrong = "" if before.sound and (after is None or after.sound) else f"  WRONG: {before} {after}"
    return (
        f"seed {one.plan.seed}: {one.kills} kills, {sum(one.blows.values()) - one.kills} blows to the wire, "
        f"{before.stored:,} of {before.expected:,} records, {before.missing_and_in_the_ledger} missing and in "
        f"the ledger{repaired}, {one.gaps} gaps, {one.seconds:.0f} s{wrong}"
    )


def report(rounds: list[Round], seconds: float) -> int:
    """The sums."""
    blows: Counter[str] = Counter()
    for one in rounds:
        blows.update(one.blows)
    verdicts = [v for one in rounds for v in (one.before_repair, one.after_repair) if v is not None]
    befores = [one.before_repair for one in rounds]
    afters = [one.after_repair for one in rounds if one.after_repair is not None]
    print(
        f"\n{len(rounds)} rounds in {seconds / 60:.0f} min; kills: {sum(one.kills for one in rounds)} "
        f"({', '.join(f'{name} {number}' for name, number in sorted(blows.items()))})\n"
        f"records expected {sum(v.expected for v in befores):,}, stored {sum(v.stored for v in befores):,}, "
        f"missing and in the ledger {sum(v.missing_and_in_the_ledger for v in befores):,}\n"
        f"lost {sum(v.lost for v in verdicts)}, duplicated {sum(v.duplicated for v in verdicts)}, "
        f"invented {sum(v.invented for v in verdicts)}, wrong bars {sum(v.wrong_bars for v in verdicts)}\n"
        f"rounds with repair {len(afters)}: missing afterwards {sum(v.missing_and_in_the_ledger for v in afters)}"
    )
    for one in rounds:
        for verdict in (one.before_repair, one.after_repair):
            if verdict is not None and not verdict.sound:
                print(f"seed {one.plan.seed}:", *verdict.examples, sep="\n  ")
    return 0 if all(verdict.sound for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
