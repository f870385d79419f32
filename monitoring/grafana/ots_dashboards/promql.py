"""PromQL that several dashboards need, written in one way."""

from __future__ import annotations

from collections.abc import Sequence


def rate(counter: str, by: Sequence[str] = (), where: str = "") -> str:
    """Events a second, added up by labels."""
    return f"{_sum(by)}(rate({counter}{{{where}}}[$__rate_interval]))"


def increase(counter: str, by: Sequence[str] = (), where: str = "") -> str:
    """Events in the dashboard's time range, added up by labels."""
    return f"{_sum(by)}(increase({counter}{{{where}}}[$__range]))"


def quantile(share: float, histogram: str, by: Sequence[str] = (), where: str = "") -> str:
    """A quantile of a histogram; NaN while nothing was observed."""
    buckets = rate(f"{histogram}_bucket", ["le", *by], where)
    return f"histogram_quantile({share}, {buckets})"


def mean(histogram: str, by: Sequence[str] = (), where: str = "") -> str:
    """The mean of what a histogram observed; NaN while nothing was."""
    return f"{rate(f'{histogram}_sum', by, where)} / {rate(f'{histogram}_count', by, where)}"


def or_zero(expression: str, job: str, label: str = "", value: str = "none") -> str:
    """0 where nothing was counted yet and the job answers; nothing where it does not, for then nobody knows.

    ``label`` gives that 0 a name among the others.
    """
    zero = f'0 * max(up{{job=~"{job}"}} == 1)'
    if label:
        zero = f'label_replace({zero}, "{label}", "{value}", "", "")'
    return f"{expression} or on () {zero}"


def _sum(by: Sequence[str]) -> str:
    return f"sum by ({', '.join(by)}) " if by else "sum"
