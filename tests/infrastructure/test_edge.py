"""Where Terraform says a thing again: routes of the gateway, what images run; and times that must fit together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ots_gateway.access import KIB, ROUTES, Route

ROOT = Path(__file__).resolve().parents[2]
TERRAFORM = ROOT / "infrastructure/terraform"
SERVICES = (TERRAFORM / "services.tf").read_text()
WAF_SEES = 8 * KIB


def only(pattern: str, text: str, flags: int = re.MULTILINE) -> str:
    """The group of the one place that matches."""
    found = re.findall(pattern, text, flags)
    assert len(found) == 1, f"{pattern}: {len(found)} places"
    return str(found[0])


def local(file: str, name: str) -> str:
    """The right-hand side of a local that stands on one line."""
    return only(rf"^\s+{name}\s*= (.+)$", (TERRAFORM / file).read_text())


def number(name: str) -> int:
    return int(local("locals.tf", name))


def paths(route: Route) -> list[str]:
    return [re.sub(r"\{\w+\}", value, route.pattern) for value in ("SPY", "5f0c", "a.b-c")]


LARGE = re.compile(json.loads(local("waf.tf", "large_bodies")))


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.body_limit > WAF_SEES], ids=lambda r: f"{r.method} {r.pattern}"
)
def test_the_firewall_lets_through_what_the_gateway_takes(route: Route) -> None:
    assert all(LARGE.match(path) for path in paths(route)), "add its path to local.large_bodies in waf.tf"
    assert route.role is not None, "whoever has no token may not send much"


@pytest.mark.parametrize("route", [r for r in ROUTES if r.role is None], ids=lambda r: f"{r.method} {r.pattern}")
def test_the_firewall_stops_long_bodies_where_no_token_is_asked_for(route: Route) -> None:
    assert not any(LARGE.match(path) for path in paths(route))


def test_imports_are_not_read_as_text() -> None:
    binary = re.compile(json.loads(local("waf.tf", "binary_bodies")))
    assert [r.pattern for r in ROUTES if binary.match(r.pattern)] == ["/api/v1/data/imports"]


def test_a_request_has_the_time_it_may_take_everywhere() -> None:
    longest = number("longest_request_s")
    assert longest > max(route.timeout_s for route in ROUTES)
    edge = (TERRAFORM / "alb.tf").read_text()
    assert only(r"deregistration_delay = (\S+)$", edge) == "local.longest_request_s"
    idle = int(only(r"idle_timeout = local\.longest_request_s \+ (\d+)$", edge))
    kept = int(only(r"KEEPALIVE_S = tostring\(local\.longest_request_s \+ (\d+)\)$", SERVICES))
    assert kept > idle > 0, "the gateway closes an idle connection after the load balancer has"


def test_a_gateway_is_killed_after_its_requests_have_ended() -> None:
    assert number("drain_s") + 5 < number("stop_timeout_s") <= 120, "Fargate waits 120 s at most"


def images() -> dict[str, str]:
    """Repository -> its Dockerfile."""
    folders = {"gateway": "api-gateway", "ingestion": "data-ingestion"}
    names = set(re.findall(r'repository = "([a-z]+)"', SERVICES))
    assert names >= {"gateway", "cache", "ingestion", "analytics"}
    return {name: (ROOT / "services" / folders.get(name, name) / "Dockerfile").read_text() for name in sorted(names)}


def block(name: str) -> str:
    """A service's part of local.services."""
    return only(rf"^    {name} = \{{\n(.*?)^    \}}\n", SERVICES[SERVICES.index("services = {") :], re.S | re.M)


@pytest.mark.parametrize(("repository", "dockerfile"), images().items(), ids=images().keys())
def test_a_web_service_runs_what_its_image_would(repository: str, dockerfile: str) -> None:
    said = block(repository)
    port = only(r"\bport\s*= (\d+)", said)
    assert json.loads(only(r"command\s*= (\[.+\])$", said)) == json.loads(only(r"^CMD (\[.+\])$", dockerfile))
    assert f"BIND=0.0.0.0:{port}" in dockerfile
    asked = json.loads(only(r'"CMD", "python", "-I", "-c",\n\s+(".+"),\n', SERVICES)).replace("${service.port}", port)
    assert json.loads(only(r"^HEALTHCHECK .*?CMD (\[.+\])$", dockerfile)) == ["python", "-I", "-c", asked]
    compiles = only(r"kernels = (true|false)", said) == "true"
    expected = {
        "interval": only(r"interval +=.*? [?] (\d+) :", SERVICES) + "s",
        "timeout": only(r"timeout += (\d+)$", SERVICES) + "s",
        "start-period": only(
            r"startPeriod +=.*? [?] (\d+) : \d+$" if compiles else r"startPeriod +=.* : (\d+)$", SERVICES
        )
        + "s",
        "retries": only(r"retries +=.*? [?] (\d+) :", SERVICES),
    }
    assert dict(re.findall(r"--([a-z-]+)=(\w+)", only(r"^HEALTHCHECK (.*?) CMD", dockerfile))) == expected


@pytest.mark.parametrize(("repository", "dockerfile"), images().items(), ids=images().keys())
def test_what_fargate_mounts_empty_has_an_owner_in_the_image(repository: str, dockerfile: str) -> None:
    """Without a VOLUME at the very path Fargate's empty volume belongs to root, and the program cannot write."""
    runtime = dockerfile[dockerfile.rindex("FROM ") :]
    volumes = json.loads(only(r"^VOLUME (\[.+\])$", runtime))
    compiles = "NUMBA_CACHE_DIR=/var/cache/ots-kernels" in runtime
    assert volumes == ["/tmp", "/run/ots/metrics", *(["/var/cache/ots-kernels"] if compiles else [])]
    assert (only(r"kernels = (true|false)", block(repository)) == "true") == compiles
    # a VOLUME takes the owner that its path has by then
    made = only(r"install -d -o ots -g ots -m 700 (.+?)(?: \\\\)?$", runtime[: runtime.index("\nVOLUME")])
    assert set(volumes) - {"/tmp"} <= set(made.split())
