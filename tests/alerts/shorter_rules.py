"""The rules of a drill: the real ones, with times that somebody waits for."""

from __future__ import annotations

import re

import yaml

SCRAPE_S = 3
EVALUATED_S = 2
# times of the rules are divided by this, and are then between these
SHORTER = 30
LEAST_S, MOST_S = 12, 120
FOR_AT_MOST_S = 2
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

# what else of an expression is another: ages, sizes and numbers that nobody waits for or fills here
CHANGED: dict[str, list[tuple[str, str]]] = {
    "CollectionDisconnected": [("> 60", "> 5")],
    "DatabasePoolExhausted": [("> 600", "> 20")],
    "FeedMute": [("> 300", "> 15")],
    "GapsAppear": [("> 20", "> 5")],
    "AvailabilityBurnsFast": [(">= 10", ">= 5")],
    "AvailabilityBurnsSlowly": [(">= 10", ">= 5")],
    "CacheHitsCollapse": [("* 900", "* 30"), (">= 200", ">= 20")],
    "ContractsWithoutVolatility": [(">= 1000", ">= 100")],
    "HighErrorRatio": [("* 300", f"* {LEAST_S}"), (">= 10", ">= 5")],
    "HighLatency": [("* 300", f"* {LEAST_S}"), (">= 30", ">= 5")],
    "LedgerNotVerified": [("> 10800", "> 25")],
    "LatencyBurnsFast": [(">= 100", ">= 20")],
    "LatencyBurnsSlowly": [(">= 100", ">= 20")],
    "LimitRefusalsBurst": [(">= 100", ">= 20")],
    "NoChainsPriced": [(">= 5", ">= 3")],
    "RefusalsBurst": [("> 200", "> 30")],
    "MaintenanceLate": [("46800", "90")],
    "ReconnectStorm": [("> 6", "> 3")],
    "SelfCheckFails": [("> 1", "> 0")],
    "ServiceRestarts": [("[60s]", "[240s]")],
    "UpstreamFails": [("> 20", "> 3")],
    "PostgresDown": [("> 120", "> 10")],
    "PostgresLongTransaction": [("> 3600", "> 8")],
    "RedisDown": [("> 120", "> 10")],
    "SelfCheckLate": [("9000", "60")],
    "ServiceDown": [("> 300", "> 10")],
    "SignalsBehind": [("> 120", "> 20")],
    "SignalsSlow": [(">= 100", ">= 3")],
    "SnapshotsLate": [("> 900", "> 90")],
    "SpoolBehind": [("> 900", "> 10")],
    "SpoolFills": [("> 2147483648", "> 500000")],
    "StoreFails": [("> 900", "> 30"), ("> 5", "> 1")],
    "SurfaceFitsFail": [(">= 20", ">= 5")],
    "SurfaceViolations": [(">= 20", ">= 5")],
    "SymbolStale": [("> 1800", "> 45")],
    "WatermarkStale": [("> 300", "> 45")],
}


def shortened(text: str, changed: dict[str, list[tuple[str, str]]] | None = None) -> str:
    """A file of rules whose times are shorter: `for` at most 2 s, windows and offsets a thirtieth (12 s to 2 min), and
    the bounds of CHANGED, or of `changed`. Raises ValueError when an expression has not what is to be replaced."""
    given = yaml.safe_load(text)
    for group in given["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            expression = re.sub(r"(\[|offset )(\d+)([smhd])", _shorter, rule["expr"])
            for before, after in (CHANGED if changed is None else changed).get(rule.get("alert", ""), []):
                if before not in expression:
                    raise ValueError(f"{rule['alert']} has no {before}")
                expression = expression.replace(before, after)
            rule["expr"] = expression
            if "for" in rule:
                rule["for"] = f"{FOR_AT_MOST_S}s"
    return yaml.safe_dump(given, sort_keys=False, width=10_000)


def _shorter(found: re.Match[str]) -> str:
    seconds = int(found[2]) * _UNITS[found[3]] / SHORTER
    return f"{found[1]}{round(min(MOST_S, max(LEAST_S, seconds)))}s"
