"""What an environment costs a month, from its plan, dated prices, and assumptions about traffic.

    terraform show -json plan > plan.json
    python3 infrastructure/cost/monthly_cost.py desk=plan.json

What runs is counted in the plan; what flows is in usage.json; both times prices.json. What has no price there is an
error, or a row that says so: nothing is guessed in between.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOURS = 730  # a month, as AWS counts it


class UnknownPriceError(Exception):
    """prices.json has no price for something that the plan makes."""


@dataclass(frozen=True)
class Line:
    """``usd`` a month; None: not priced, and ``what`` says why."""

    group: str
    what: str
    usd: float | None


class Prices:
    """prices.json."""

    def __init__(self, path: Path = HERE / "prices.json") -> None:
        read = json.loads(path.read_text(encoding="utf-8"))
        self.region: str = read["region"]
        self.as_of: str = read["as_of"]
        self._prices: dict[str, dict[str, Any]] = read["prices"]

    def __getitem__(self, name: str) -> float:
        if name not in self._prices:
            raise UnknownPriceError(f"prices.json has no {name}")
        return float(self._prices[name]["usd"])


@dataclass(frozen=True)
class Plan:
    """Address -> arguments of what would be there; service -> how many tasks of it."""

    resources: dict[str, dict[str, Any]]
    counts: dict[str, int]

    @classmethod
    def of_json(cls, plan: dict[str, Any]) -> Plan:
        """``plan``: as ``terraform show -json`` prints it."""
        resources = {
            change["address"]: change["change"]["after"]
            for change in plan["resource_changes"]
            if change["mode"] == "managed" and change["change"]["after"] is not None
        }
        return cls(resources, plan["output_changes"]["desired_counts"]["after"])

    def all_of(self, kind: str) -> list[dict[str, Any]]:
        """Of one type of resource, modules' included."""
        return [one for address, one in self.resources.items() if re.search(rf"(^|\.){kind}\.", address)]


def lines(plan: Plan, usage: dict[str, Any], prices: Prices) -> list[Line]:
    """Everything that has a price. Raises UnknownPriceError."""
    return [
        *_tasks(plan, prices),
        *_database(plan, prices),
        *_redis(plan, prices),
        *_network(plan, usage, prices),
        *_storage(usage, prices),
        *_watching(plan, usage, prices),
        *_secrets(plan, prices),
    ]


def _tasks(plan: Plan, prices: Prices) -> Iterator[Line]:
    for address, task in plan.resources.items():
        if not address.startswith("aws_ecs_task_definition.") or address == "aws_ecs_task_definition.migrate":
            continue
        name = address.split('"')[1] if '"' in address else "monitoring"
        kind = "arm" if task["runtime_platform"][0]["cpu_architecture"] == "ARM64" else "x86"
        vcpu, memory_gb = int(task["cpu"]) / 1024, int(task["memory"]) / 1024
        count = plan.counts.get(name, 1)
        each = vcpu * prices[f"fargate_{kind}_vcpu_hour"] + memory_gb * prices[f"fargate_{kind}_gb_hour"]
        yield Line("tasks", f"{count} x {name}, {vcpu:g} vCPU, {memory_gb:g} GB", count * each * HOURS)


def _database(plan: Plan, prices: Prices) -> Iterator[Line]:
    for database in plan.all_of("aws_db_instance"):
        zones = 2 if database["multi_az"] else 1
        standby = ", and a standby" if database["multi_az"] else ""
        kind, size = database["instance_class"], database["allocated_storage"]
        yield Line("database", f"{kind}{standby}", zones * prices[f"{kind}_hour"] * HOURS)
        yield Line("database", f"{size} GB of gp3{standby}", zones * size * prices["rds_gp3_gb_month"])
    if plan.all_of("aws_instance"):
        raise UnknownPriceError("prices.json has no instances of EC2: timescale-ec2 is not priced")


def _redis(plan: Plan, prices: Prices) -> Iterator[Line]:
    for group in plan.all_of("aws_elasticache_replication_group"):
        kind, nodes = group["node_type"], group["num_cache_clusters"]
        factor = 1 - prices["valkey_discount"] if group["engine"] == "valkey" else 1.0
        yield Line("Redis", f"{nodes} x {kind}", factor * nodes * prices[f"{kind}_hour"] * HOURS)


def _network(plan: Plan, usage: dict[str, Any], prices: Prices) -> Iterator[Line]:
    zones = sum(1 for address in plan.resources if address.startswith("aws_subnet.public"))
    nats = len(plan.all_of("aws_nat_gateway"))
    # in how many zones each is, times how many
    endpoints = zones * sum(1 for one in plan.all_of("aws_vpc_endpoint") if one["vpc_endpoint_type"] == "Interface")
    balancer = prices["alb_hour"] + usage["lcu"] * prices["alb_lcu_hour"]
    yield Line("network", f"load balancer, {usage['lcu']:g} LCU", balancer * HOURS)
    translated = usage["nat_gb"] * prices["nat_gb"]
    yield Line("network", f"{nats} NAT, {usage['nat_gb']} GB", nats * prices["nat_hour"] * HOURS + translated)
    yield Line("network", f"{zones + nats} public addresses", (zones + nats) * prices["public_ipv4_hour"] * HOURS)
    if endpoints:
        paid = endpoints * prices["interface_endpoint_hour"] * HOURS
        yield Line("network", f"{endpoints} endpoints, each counted in each zone", paid)
    for what, gb, price in (
        ("GB to clients", usage["transfer_out_gb"], prices["transfer_out_gb"]),
        ("GB between zones", usage["cross_zone_gb"], prices["cross_zone_gb"]),
    ):
        yield Line("network", f"{gb} {what}", gb * price)
    for acl in plan.all_of("aws_wafv2_web_acl"):
        fee = prices["waf_acl"] + len(acl["rule"]) * prices["waf_rule"]
        fee += usage["requests_million"] * prices["waf_million_requests"]
        yield Line("network", f"WAF, {len(acl['rule'])} rules, {usage['requests_million']} million requests", fee)
    authorities = len(plan.all_of("aws_acmpca_certificate_authority"))
    if authorities:
        yield Line("network", "private CA for TLS between services", authorities * prices["private_ca_short_lived"])
    yield Line("network", "private DNS zone", prices["private_zone"])


def _storage(usage: dict[str, Any], prices: Prices) -> Iterator[Line]:
    moved = usage["efs_write_gb"] * prices["efs_write_gb"] + usage["efs_read_gb"] * prices["efs_read_gb"]
    yield Line(
        "files",
        f"spool on EFS, {usage['efs_gb']} GB, {usage['efs_write_gb']} GB written, {usage['efs_read_gb']} GB read",
        usage["efs_gb"] * prices["efs_gb_month"] + moved,
    )
    yield Line("files", f"S3, {usage['s3_gb']} GB", usage["s3_gb"] * prices["s3_gb_month"])
    yield Line("files", f"images, {usage['ecr_gb']} GB", usage["ecr_gb"] * prices["ecr_gb_month"])


def _watching(plan: Plan, usage: dict[str, Any], prices: Prices) -> Iterator[Line]:
    metrics = 0
    for alarm in plan.all_of("aws_cloudwatch_metric_alarm"):
        metrics += sum(1 for query in alarm["metric_query"] or [] if query["metric"]) or 1
    filters = len(plan.all_of("aws_cloudwatch_log_metric_filter"))
    logs = usage["logs_gb"] * prices["logs_gb"] + usage["logs_kept_gb"] * prices["logs_kept_gb_month"]
    yield Line("watching", f"logs, {usage['logs_gb']} GB new, {usage['logs_kept_gb']} GB kept", logs)
    yield Line("watching", f"alarms on {metrics} metrics", metrics * prices["alarm_metric"])
    yield Line("watching", f"{filters} metrics of log lines", filters * prices["custom_metric"])
    yield Line("watching", "dashboard", len(plan.all_of("aws_cloudwatch_dashboard")) * prices["dashboard"])
    [cluster] = plan.all_of("aws_ecs_cluster")
    insights = next(one["value"] for one in cluster["setting"] if one["name"] == "containerInsights")
    count = usage["container_insights_metrics"]
    if insights == "enabled" and count is not None:
        yield Line("watching", f"Container Insights, about {count} metrics", count * prices["custom_metric"])
    elif insights != "disabled":
        yield Line("watching", f"Container Insights, {insights}: by tasks and containers, not priced here", None)


def _secrets(plan: Plan, prices: Prices) -> Iterator[Line]:
    # RDS keeps one more, its master's
    secrets = len(plan.all_of("aws_secretsmanager_secret")) + len(plan.all_of("aws_db_instance"))
    keys = len(plan.all_of("aws_kms_key"))
    yield Line("secrets", f"{secrets} secrets", secrets * prices["secret"])
    yield Line("secrets", f"{keys} keys", keys * prices["kms_key"])


def table(plans: dict[str, list[Line]]) -> str:
    """Markdown: a row a group, a column an environment, whole dollars; the last row is the sum."""
    groups = list(dict.fromkeys(line.group for one in plans.values() for line in one))
    rows = [f"| dollars a month | {' | '.join(plans)} |", "|---|" + "---:|" * len(plans)]
    for group in groups:
        sums = [sum(line.usd or 0 for line in one if line.group == group) for one in plans.values()]
        rows.append(f"| {group} | {' | '.join(f'{value:,.0f}' for value in sums)} |")
    totals = [sum(line.usd or 0 for line in one) for one in plans.values()]
    rows.append(f"| **together, about** | {' | '.join(f'**{round(value, -1):,.0f}**' for value in totals)} |")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    """``SIZE=PLAN.json``, one or more: every line, then the table. SIZE names the assumptions of usage.json."""
    if not arguments or not all("=" in argument for argument in arguments):
        print("usage: monthly_cost.py SIZE=PLAN.json...", file=sys.stderr)
        return 2
    usage = json.loads((HERE / "usage.json").read_text(encoding="utf-8"))
    prices = Prices()
    found: dict[str, list[Line]] = {}
    try:
        for argument in arguments:
            size, _, path = argument.partition("=")
            if size not in usage:
                raise UnknownPriceError(f"usage.json has no {size}")
            plan = Plan.of_json(json.loads(Path(path).read_text(encoding="utf-8")))
            found[size] = lines(plan, usage[size], prices)
    except UnknownPriceError as error:
        print(f"monthly_cost: {error}", file=sys.stderr)
        return 1
    for size, priced in found.items():
        print(f"{size}:")
        for line in priced:
            print(f"  {line.group:10} {'not priced' if line.usd is None else f'{line.usd:10,.2f}'}  {line.what}")
        print()
    print(table(found))
    print(f"\nprices of {prices.as_of}, {prices.region}: inputs to be checked")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
