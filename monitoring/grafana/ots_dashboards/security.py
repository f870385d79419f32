"""Who was let in, who was not, and whether it is on record."""

from __future__ import annotations

from ots_dashboards.model import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    BarGauge,
    Dashboard,
    Look,
    Prometheus,
    Row,
    Stat,
    Table,
    TimeSeries,
)
from ots_dashboards.promql import increase, or_zero, rate
from ots_dashboards.shared import NOT_SCRAPED, alerts_firing, market_source

_FAILURES, _REFUSED = "ots_gateway_auth_failures_total", "ots_gateway_refused_total"
_REQUESTS = "ots_http_requests_total"
_GATEWAY = 'service="gateway"'


def _count(title: str, description: str, expression: str, *, red_from: float, runbook: str | None = None) -> Stat:
    """How many there were in the range."""
    return Stat(
        title,
        description,
        [Prometheus(or_zero(expression, "gateway"), instant=True)],
        "none",
        no_data=NOT_SCRAPED,
        width=4,
        height=4,
        decimals=0,
        thresholds=[(None, GREEN), (red_from, RED)],
        runbook=runbook,
    )


_GLANCE = Row(
    "At a glance: counted over the range",
    [
        market_source(),
        _count(
            "Credentials that let nobody in",
            "Tokens, keys and passwords that the gateway did not accept in the range. Some are daily life: a token"
            " expires.",
            increase(_FAILURES),
            red_from=100,
            runbook="authfailuresburst",
        ),
        _count(
            "Lockouts",
            "Times that wrong passwords closed an account or an address for a while, in the range.",
            increase("ots_gateway_lockouts_total"),
            red_from=1,
            runbook="lockouts",
        ),
        _count(
            "Refresh tokens used twice",
            "A refresh token works once. Used twice, one of the two users stole it: all tokens of that sign-in end.",
            increase(_FAILURES, where='reason="refresh_reused"'),
            red_from=1,
            runbook="refreshtokenreused",
        ),
        _count(
            "Audit rows lost",
            "Audit rows that could not be written in the range. They are in the log, and must be looked for there.",
            increase("ots_gateway_audit_lost_total"),
            red_from=1,
            runbook="auditrowslost",
        ),
        alerts_firing(),
    ],
)
_SIGN_IN = Row(
    "Who is let in",
    [
        TimeSeries(
            "Credentials that let nobody in, by why",
            "A minute: `none`, `malformed`, `not_ours` (signed by nobody we know), `expired`, `revoked`, `key`,"
            " `password`, `locked`, `address`, `role` (more asked for than the user may), `refresh`, `refresh_reused`.",
            [Prometheus(or_zero("60 * " + rate(_FAILURES, ["reason"]), "gateway", "reason"), "{{reason}}")],
            "cpm",
            no_data=NOT_SCRAPED,
            width=12,
            minimum=0,
            looks=[Look("refresh_reused", color=RED), Look("not_ours", color=ORANGE), Look("password", color=YELLOW)],
            calculations=("sum", "max"),
            runbook="authfailuresburst",
        ),
        TimeSeries(
            "Tokens and keys",
            "Credentials asked for a minute: by login (a pair of tokens), refresh (the next pair) or key (an API key);"
            " issued or refused.",
            [
                Prometheus(
                    or_zero("60 * " + rate("ots_gateway_tokens_total", ["kind", "outcome"]), "gateway", "kind"),
                    "{{kind}} {{outcome}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            width=12,
            minimum=0,
            looks=[Look(".* refused", regex=True, color=RED)],
            calculations=("sum", "max"),
        ),
    ],
)
_REFUSALS = Row(
    "What is not let through",
    [
        TimeSeries(
            "Requests refused, by why",
            "A minute: `host`, `path` (written in no allowed way), `policy` (no route there), `method`, `credential`,"
            " `role`, `scope`, `limit`, `malformed` (not HTTP as it must be), `slow`, `size`, `connections`.",
            [Prometheus(or_zero("60 * " + rate(_REFUSED, ["reason"]), "gateway", "reason"), "{{reason}}")],
            "cpm",
            no_data=NOT_SCRAPED,
            width=12,
            minimum=0,
            calculations=("sum", "max"),
            runbook="refusalsburst",
        ),
        BarGauge(
            "Refused in the range",
            "Requests refused in the range, by why.",
            [
                Prometheus(
                    f"sort_desc({or_zero(increase(_REFUSED, ['reason']), 'gateway', 'reason')})",
                    "{{reason}}",
                    instant=True,
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            decimals=0,
            thresholds=[(None, BLUE)],
        ),
        TimeSeries(
            "401, 403 and 429",
            "Answers a minute that said who are you (401), you may not (403), and not so fast (429).",
            [
                Prometheus(
                    or_zero(
                        "60 * " + rate(_REQUESTS, ["status"], _GATEWAY + ', status=~"401|403|429"'),
                        "gateway",
                        "status",
                    ),
                    "{{status}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            looks=[Look("401", color=YELLOW), Look("403", color=ORANGE), Look("429", color=BLUE)],
            more="ots-api",
        ),
        TimeSeries(
            "Rate limits",
            "Requests a minute that were held against each limit, allowed and refused.",
            [
                Prometheus(
                    or_zero(
                        "60 * " + rate("ots_gateway_limit_decisions_total", ["bucket", "decision"]),
                        "gateway",
                        "bucket",
                    ),
                    "{{bucket}} {{decision}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            width=12,
            minimum=0,
            looks=[Look(".* refused", regex=True, color=RED)],
            runbook="limitrefusalsburst",
        ),
        Stat(
            "Limits counted alone",
            "Workers of the gateway that count rate limits without Redis: each by itself, so that together they let"
            " through more. 0 is right.",
            [Prometheus(or_zero("sum(ots_gateway_limits_local)", "gateway"), instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=4,
            decimals=0,
            thresholds=[(None, GREEN), (1, RED)],
            runbook="ratelimitswithoutredis",
        ),
        Table(
            "Routes that refused",
            "Routes of the gateway that answered 401, 403 or 429 in the range, the most often first. `none`: no route"
            " of ours.",
            [
                Prometheus(
                    "topk(12, "
                    + or_zero(
                        increase(_REQUESTS, ["route", "method", "status"], _GATEWAY + ', status=~"401|403|429"')
                        + " > 0",
                        "gateway",
                        "route",
                    )
                    + ")",
                    instant=True,
                    table=True,
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=8,
            decimals=0,
            hidden=["Time"],
            renamed={"Value": "requests"},
        ),
    ],
)
_RECORD = Row(
    "On record",
    [
        TimeSeries(
            "Audit rows",
            "Audit rows a minute that were written, and that were lost. Every write and every refusal is one.",
            [
                Prometheus(
                    or_zero(
                        "60 * " + rate("ots_gateway_audit_entries_total", ["outcome"]),
                        "gateway",
                        "outcome",
                        "written",
                    ),
                    "{{outcome}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            width=12,
            minimum=0,
            looks=[Look("written", color=GREEN), Look("lost", color=RED)],
            runbook="auditrowslost",
        ),
        TimeSeries(
            "Log lines of warnings and errors",
            "Lines a minute of the gateway at warning and above. What an audit row could not hold is among them.",
            [
                Prometheus(
                    or_zero(
                        "60 * "
                        + rate("ots_log_lines_total", ["level"], 'job="gateway", level=~"warning|error|critical"'),
                        "gateway",
                        "level",
                    ),
                    "{{level}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            width=12,
            minimum=0,
            looks=[Look("error", color=RED), Look("critical", color="dark-red"), Look("warning", color=ORANGE)],
        ),
    ],
)

SECURITY = Dashboard(
    "ots-security",
    "AI-OTS Security",
    "Who was let in and who was not, what was refused and why, and whether it is on record.",
    [_GLANCE, _SIGN_IN, _REFUSALS, _RECORD],
    since="now-6h",
)
