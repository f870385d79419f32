"""What the options desk asks of the market database.

Every answer is of the newest snapshot at or before the end of the dashboard's time range: nothing later is looked at,
so that the same range shows the same numbers tomorrow. Bounds of time are written so that the planner sees constants
(``to_timestamp`` of a number is immutable): only the partitions in question are opened, whatever is stored.

Definitions are those of ots_analytics, computed from what its snapshots stored; `tests/monitoring` compares them.
"""

from __future__ import annotations

DAY_S = 86_400
_RECENT_DAYS = 7
"""How far back the newest snapshot may lie: over the longest closure of an exchange."""
_COUNTED_DAYS = 10
"""As ots_chains.stored_contracts.OPEN_INTEREST_DAYS."""
_QUOTE_AGE_S = 900
"""As SNAPSHOT_QUOTE_AGE_S: an older quote is stale."""
_OPTION_QUOTES = "ARRAY[14, 15, 16, 17]::smallint[]"
"""As ots_chains.chains.OPTION_QUOTES: consolidated quotes."""
_CLOSES_DAYS = 45
AUTO = "auto"
ENDS = "to_timestamp(${__to} / 1000.0)"
BEGINS = "to_timestamp(${__from} / 1000.0)"


def _before(seconds: int) -> str:
    """So long before the end of the range."""
    return f"to_timestamp(${{__to}} / 1000.0 - {seconds})"


_RECENT = _before(_RECENT_DAYS * DAY_S)
_NEWEST = f"""newest AS (
  SELECT ts, session_date, spot / 1e9 AS spot, volatility_30d, newest_at_ns FROM volatility_snapshots
  WHERE underlying = '${{underlying}}' AND ts >= {_RECENT} AND ts <= {ENDS}
  ORDER BY ts DESC LIMIT 1
)"""


def _at_newest(rows: str) -> str:
    """That rows of a table (its name or alias) are of the newest snapshot."""
    bounds = f"{rows}.ts >= {_RECENT} AND {rows}.ts <= {ENDS}"
    return f"{rows}.underlying = '${{underlying}}' AND {bounds} AND {rows}.ts = (SELECT ts FROM newest)"


_CHOSEN = f"""chosen AS (
  SELECT coalesce(nullif('${{expiration}}', '{AUTO}')::date,
                  min(expiration) FILTER (WHERE years >= 7 / 365.0), max(expiration)) AS expiration
  FROM volatility_expirations e WHERE {_at_newest("e")}
)"""
_FIGURES = ("mid", "implied_volatility", "delta", "gamma", "reason")
_HELD = f"""held AS (
  SELECT c.expiration, i.strike / 1e9 AS strike, i."right", replace(i.raw_symbol, ' ', '') AS symbol, u.*
  FROM volatility_contracts c
  CROSS JOIN LATERAL unnest(c.instrument_ids, {", ".join(f"c.{name}" for name in _FIGURES)})
    AS u(instrument_id, {", ".join(_FIGURES)})
  JOIN instruments i USING (instrument_id)
  WHERE {_at_newest("c")}
)"""
# the newest count at or before the snapshot; a withdrawn figure (update_action 2) is none
_COUNTED = f"""counted AS (
  SELECT h.*, o.quantity AS open_interest FROM held h LEFT JOIN LATERAL (
    SELECT CASE WHEN update_action = 2 THEN NULL ELSE quantity END AS quantity FROM statistics
    WHERE instrument_id = h.instrument_id AND stat_type = 9 AND quantity IS NOT NULL
      AND ts >= {_before((_COUNTED_DAYS + _RECENT_DAYS) * DAY_S)} AND ts <= {ENDS}
      AND ts >= (SELECT ts FROM newest) - interval '{_COUNTED_DAYS} days' AND ts <= (SELECT ts FROM newest)
    ORDER BY ts DESC, ts_ns DESC, sequence DESC, publisher_id, digest, ord LIMIT 1
  ) o ON true
)"""


def _quote_at(moment: str, since: str) -> str:
    """The newest quote of the contract ``h`` at a moment that is not before ``since``, unless it is stale by then."""
    return f"""(
    SELECT bid / 1e9 AS bid, ask / 1e9 AS ask FROM quotes
    WHERE instrument_id = h.instrument_id AND schema_id = ANY({_OPTION_QUOTES}) AND ts >= {since} AND ts <= {ENDS}
      AND ts > {moment} - interval '{_QUOTE_AGE_S} seconds' AND ts <= {moment}
    ORDER BY ts DESC, ts_ns DESC LIMIT 1
  )"""


SOURCE = """SELECT CASE current_database() WHEN 'ots_sim' THEN 'SIMULATED' WHEN 'ots' THEN 'Databento'
  ELSE 'unknown' END AS source, current_database() AS in_database"""

# each found by one look into the index, not by reading all snapshots
_NAMES = f"""names AS (
  (SELECT underlying FROM volatility_snapshots WHERE ts >= {_RECENT} AND ts <= {ENDS} ORDER BY underlying LIMIT 1)
  UNION ALL
  SELECT (SELECT v.underlying FROM volatility_snapshots v
          WHERE v.underlying > n.underlying AND ts >= {_RECENT} AND ts <= {ENDS} ORDER BY v.underlying LIMIT 1)
  FROM names n WHERE n.underlying IS NOT NULL
)"""
UNDERLYINGS = f"WITH RECURSIVE {_NAMES} SELECT underlying FROM names WHERE underlying IS NOT NULL"

EXPIRATIONS = f"""WITH {_NEWEST}
SELECT said AS __text, value AS __value FROM (
  SELECT 'nearest, a week or more away' AS said, '{AUTO}' AS value, 0 AS turn
  UNION ALL
  SELECT expiration::text, expiration::text, 1 FROM volatility_expirations e WHERE {_at_newest("e")}
) x ORDER BY turn, said"""

SNAPSHOT_TIME = f"""WITH {_NEWEST} SELECT extract(epoch FROM ts) * 1000 AS snapshot FROM newest"""
SPOT = f"""WITH {_NEWEST} SELECT spot FROM newest"""
VOLATILITY_30D = f"""WITH {_NEWEST} SELECT volatility_30d FROM newest"""
COVERAGE = f"""WITH {_NEWEST}, {_HELD}
SELECT count(implied_volatility) / nullif(count(*), 0)::float8 AS "with a volatility" FROM held"""

# rank and percentile of ots_analytics.implied_rank, among the closes of the last 45 days only
VOLATILITY_RANK = f"""WITH {_NEWEST}, closes AS (
  SELECT v.volatility_30d FROM volatility_snapshots v, newest
  WHERE v.underlying = '${{underlying}}' AND v.closing AND v.volatility_30d IS NOT NULL
    AND v.ts >= {_before(_CLOSES_DAYS * DAY_S)} AND v.ts <= {ENDS}
    AND v.ts < newest.ts AND v.session_date < newest.session_date
)
SELECT (max(n.volatility_30d) - min(c.volatility_30d))
       / nullif(greatest(max(c.volatility_30d), max(n.volatility_30d))
                - least(min(c.volatility_30d), max(n.volatility_30d)), 0) AS "rank"
FROM closes c, newest n HAVING count(*) >= 20"""

BOARD = f"""WITH RECURSIVE {_NAMES}
SELECT n.underlying, s.spot / 1e9 AS spot, s.spot / nullif(p.spot, 0)::float8 - 1 AS "since close",
       s.volatility_30d AS "30-day vol", s.volatility_30d - p.volatility_30d AS "vol since close",
       e.put_25_delta - e.call_25_delta AS "25Δ skew", s.contracts_used AS fitted,
       extract(epoch FROM {ENDS} - s.ts) AS age
FROM names n
CROSS JOIN LATERAL (
  SELECT * FROM volatility_snapshots v
  WHERE v.underlying = n.underlying AND v.ts >= {_RECENT} AND v.ts <= {ENDS} ORDER BY v.ts DESC LIMIT 1
) s
LEFT JOIN LATERAL (
  SELECT spot, volatility_30d FROM volatility_snapshots v
  WHERE v.underlying = n.underlying AND v.closing AND v.session_date < s.session_date
    AND v.ts >= {_before(2 * _RECENT_DAYS * DAY_S)} AND v.ts <= {ENDS} AND v.ts < s.ts ORDER BY v.ts DESC LIMIT 1
) p ON true
LEFT JOIN LATERAL (
  SELECT put_25_delta, call_25_delta FROM volatility_expirations x
  WHERE x.underlying = n.underlying AND x.ts = s.ts AND x.ts >= {_RECENT} AND x.ts <= {ENDS}
    AND x.put_25_delta IS NOT NULL AND x.call_25_delta IS NOT NULL ORDER BY abs(x.years - 30 / 365.0) LIMIT 1
) e ON true
WHERE n.underlying IS NOT NULL ORDER BY n.underlying"""

# crossed before joined, so that every expiration is in the first row and the columns come in their order
SPREADS = f"""WITH {_NEWEST}, {_HELD}, strikes AS (
  SELECT strike FROM (SELECT strike FROM held WHERE "right" = '${{right}}' GROUP BY strike) d, newest n
  ORDER BY abs(strike - n.spot) LIMIT 25
), days AS (
  SELECT expiration FROM held GROUP BY expiration ORDER BY expiration LIMIT 10
)
SELECT trim_scale(s.strike)::text AS strike, to_char(d.expiration, 'DD Mon YY') AS expiration,
       (q.ask - q.bid) / nullif((q.ask + q.bid) / 2, 0) AS spread
FROM strikes s CROSS JOIN days d
LEFT JOIN held h ON h.strike = s.strike AND h.expiration = d.expiration AND h."right" = '${{right}}'
LEFT JOIN LATERAL {_quote_at("(SELECT ts FROM newest)", _RECENT)} q
  ON q.bid > 0 AND q.ask >= q.bid
ORDER BY s.strike DESC, d.expiration"""

SMILE = f"""WITH {_NEWEST}, {_CHOSEN}, {_HELD}
SELECT strike, max(implied_volatility) FILTER (WHERE "right" = 'C') AS calls,
       max(implied_volatility) FILTER (WHERE "right" = 'P') AS puts, NULL::float8 AS "surface at the forward"
FROM held JOIN chosen USING (expiration) WHERE implied_volatility IS NOT NULL GROUP BY strike
UNION ALL
SELECT forward, NULL, NULL, at_the_money FROM volatility_expirations e JOIN chosen USING (expiration)
WHERE {_at_newest("e")} AND at_the_money IS NOT NULL
ORDER BY strike"""

LEGS_APART = f"""WITH {_NEWEST}, {_CHOSEN}, {_HELD}
SELECT trim_scale(strike)::text AS "at strike",
       max(implied_volatility) FILTER (WHERE "right" = 'C') - max(implied_volatility) FILTER (WHERE "right" = 'P')
         AS "call less put"
FROM held JOIN chosen USING (expiration)
GROUP BY strike HAVING count(implied_volatility) = 2 ORDER BY held.strike"""

_LAST_CLOSE = f"""last_close AS (
  SELECT v.ts FROM volatility_snapshots v, newest
  WHERE v.underlying = '${{underlying}}' AND v.closing AND v.session_date < newest.session_date
    AND v.ts >= {_before(2 * _RECENT_DAYS * DAY_S)} AND v.ts <= {ENDS} ORDER BY v.ts DESC LIMIT 1
)"""


def _with_last_close(now: str, then: str, figure: str) -> str:
    """A figure of each expiration now and at the last close, over the days that are left now."""
    return f"""WITH {_NEWEST}, {_LAST_CLOSE}
SELECT e.years * 365 AS days, {figure.format(of="e")} AS {now}, {figure.format(of="p")} AS {then}
FROM volatility_expirations e
LEFT JOIN volatility_expirations p ON p.underlying = e.underlying AND p.expiration = e.expiration
  AND p.ts = (SELECT ts FROM last_close) AND p.ts >= {_before(2 * _RECENT_DAYS * DAY_S)} AND p.ts <= {ENDS}
WHERE {_at_newest("e")} ORDER BY e.years"""


TERM_STRUCTURE = _with_last_close("now", '"last close"', "{of}.at_the_money")
SKEW_BY_EXPIRATION = _with_last_close("now", '"last close"', "{of}.put_25_delta - {of}.call_25_delta")

# points of the range, whole steps of at least a minute: looked up one by one, so that a year costs what an hour does
_STEP_S = "greatest(60, ceil(${__interval_ms} / 60000.0) * 60)"
_GRID = f"""grid AS (
  SELECT to_timestamp(g * step) AS ts, make_interval(secs => step::float8) AS step
  FROM (SELECT {_STEP_S} AS step) s,
    LATERAL generate_series(ceil(${{__from}} / 1000.0 / step)::bigint, ceil(${{__to}} / 1000.0 / step)::bigint) g
)"""
_IN_STEP = f"v.ts > g.ts - g.step AND v.ts <= g.ts AND v.ts >= {BEGINS} AND v.ts <= {ENDS}"

VOLATILITY_OVER_TIME = f"""WITH RECURSIVE {_GRID}, {_NAMES}
SELECT s.ts AS "time", n.underlying AS metric, s.volatility_30d AS value
FROM grid g CROSS JOIN names n CROSS JOIN LATERAL (
  SELECT v.ts, v.volatility_30d FROM volatility_snapshots v
  WHERE v.underlying = n.underlying AND {_IN_STEP} AND v.volatility_30d IS NOT NULL ORDER BY v.ts DESC LIMIT 1
) s
WHERE n.underlying IS NOT NULL ORDER BY 1, 2"""

SKEW_OVER_TIME = f"""WITH {_NEWEST}, {_CHOSEN}, {_GRID}
SELECT e.ts AS "time", e.put_25_delta AS "25Δ put", e.at_the_money AS "at the forward", e.call_25_delta AS "25Δ call"
FROM grid g CROSS JOIN LATERAL (
  SELECT v.ts, v.put_25_delta, v.at_the_money, v.call_25_delta FROM volatility_expirations v
  WHERE v.underlying = '${{underlying}}' AND v.expiration = (SELECT expiration FROM chosen) AND {_IN_STEP}
  ORDER BY v.ts DESC LIMIT 1
) e
ORDER BY 1"""


def _flat_move(forward: str, deviation: str) -> str:
    """E|S - F| of ots_quant.density.flat_move, 2 F (2 N(s / 2) - 1), by its series: to 1e-6 of it for s below 0.5."""
    return (
        f"{forward} * {deviation} * 0.7978845608028654"
        f" * (1 - {deviation} ^ 2 / 24 + {deviation} ^ 4 / 640 - {deviation} ^ 6 / 21504)"
    )


MOVES_OVER_TIME = f"""WITH {_GRID}
SELECT s1.ts AS "time", {_flat_move("s0.spot / 1e9", "m.deviation")} AS expected,
       abs(s1.spot - s0.spot) / 1e9 AS realised
FROM grid g
JOIN volatility_snapshots s1 ON s1.underlying = '${{underlying}}' AND s1.ts = g.ts
  AND s1.ts >= {BEGINS} AND s1.ts <= {ENDS}
JOIN volatility_snapshots s0 ON s0.underlying = '${{underlying}}' AND s0.ts = g.ts - interval '${{horizon}} minutes'
  AND s0.ts >= to_timestamp(${{__from}} / 1000.0 - ${{horizon}} * 60) AND s0.ts <= {ENDS}
  AND s0.session_date = s1.session_date
CROSS JOIN LATERAL (
  SELECT e.at_the_money * sqrt(${{horizon}} / 525600.0) AS deviation FROM volatility_expirations e
  WHERE e.underlying = '${{underlying}}' AND e.ts = s0.ts AND e.years >= ${{horizon}} / 525600.0
    AND e.at_the_money IS NOT NULL
    AND e.ts >= to_timestamp(${{__from}} / 1000.0 - ${{horizon}} * 60) AND e.ts <= {ENDS}
  ORDER BY e.years LIMIT 1
) m
WHERE s0.spot IS NOT NULL AND s1.spot IS NOT NULL
ORDER BY 1"""

MOVES_BY_SESSION = f"""WITH closes AS (
  SELECT ts, session_date, spot / 1e9 AS spot FROM volatility_snapshots
  WHERE underlying = '${{underlying}}' AND closing AND spot IS NOT NULL
    AND ts >= {_before(_CLOSES_DAYS * DAY_S)} AND ts <= {ENDS}
), pairs AS (
  SELECT ts, session_date, spot, lag(ts) OVER w AS since, lag(spot) OVER w AS before FROM closes
  WINDOW w AS (ORDER BY ts)
), newest_pairs AS (
  SELECT *, extract(epoch FROM ts - since) / 31536000.0 AS years FROM pairs
  WHERE since IS NOT NULL ORDER BY ts DESC LIMIT 20
)
SELECT to_char(p.session_date, 'DD Mon') AS session, {_flat_move("p.before", "m.deviation")} AS expected,
       abs(p.spot - p.before) AS realised
FROM newest_pairs p CROSS JOIN LATERAL (
  SELECT e.at_the_money * sqrt(p.years) AS deviation FROM volatility_expirations e
  WHERE e.underlying = '${{underlying}}' AND e.ts = p.since AND e.at_the_money IS NOT NULL
    AND e.years >= p.years - 1e-9 AND e.ts >= {_before(_CLOSES_DAYS * DAY_S)} AND e.ts <= {ENDS}
  ORDER BY e.years LIMIT 1
) m
ORDER BY p.ts"""

MOVES_BY_EXPIRATION = f"""WITH {_NEWEST}, {_HELD}, rows AS (
  SELECT expiration, years, forward, at_the_money, at_the_money * sqrt(years) AS deviation FROM volatility_expirations e
  WHERE {_at_newest("e")}
), pairs AS (
  SELECT h.expiration, h.strike, sum(h.mid) AS straddle FROM held h
  WHERE h.mid IS NOT NULL AND h.reason IS DISTINCT FROM 'stale'
  GROUP BY h.expiration, h.strike HAVING count(*) = 2
)
SELECT r.expiration::text AS expiration, r.years * 365 AS days, r.forward, s.strike, s.straddle,
       {_flat_move("r.forward", "r.deviation")} AS "mean move",
       {_flat_move("r.forward", "r.deviation")} / r.forward AS "mean move %",
       r.forward * sqrt(exp(r.deviation ^ 2) - 1) AS "one deviation",
       r.forward * exp(-(r.deviation ^ 2) / 2 - r.deviation) AS lower,
       r.forward * exp(-(r.deviation ^ 2) / 2 + r.deviation) AS upper
FROM rows r LEFT JOIN LATERAL (
  SELECT strike, straddle FROM pairs p WHERE p.expiration = r.expiration
  ORDER BY abs(p.strike - r.forward), strike LIMIT 1
) s ON true
ORDER BY r.expiration"""

_GAMMA = """exposed AS (
  SELECT c.*, c.open_interest * 100 * c.gamma * n.spot ^ 2 * 0.01 AS dollars FROM counted c, newest n
)"""


def _gamma(by: str, label: str, where: str = "") -> str:
    return f"""WITH {_NEWEST}, {_HELD}, {_COUNTED}, {_GAMMA}, sides AS (
  SELECT {by}, coalesce(sum(dollars) FILTER (WHERE "right" = 'C'), 0) AS calls,
         coalesce(sum(dollars) FILTER (WHERE "right" = 'P'), 0) AS puts
  FROM exposed {where}GROUP BY {by} HAVING count(dollars) > 0
)
SELECT {label}, calls - puts AS "calls long, puts short",
       least(calls - puts, puts - calls, -calls - puts, calls + puts) AS least,
       greatest(calls - puts, puts - calls, -calls - puts, calls + puts) AS greatest
FROM sides ORDER BY {by}"""


_NEAR = "WHERE strike BETWEEN 0.85 * (SELECT spot FROM newest) AND 1.15 * (SELECT spot FROM newest) "
GAMMA_BY_STRIKE = _gamma("strike", "strike", _NEAR)
GAMMA_BY_EXPIRATION = _gamma("expiration", "to_char(expiration, 'DD Mon YY') AS \"expires\"")
GAMMA_TOTAL = f"""WITH {_NEWEST}, {_HELD}, {_COUNTED}, {_GAMMA}, sides AS (
  SELECT coalesce(sum(dollars) FILTER (WHERE "right" = 'C'), 0) AS calls,
         coalesce(sum(dollars) FILTER (WHERE "right" = 'P'), 0) AS puts
  FROM exposed HAVING count(dollars) > 0
)
SELECT least(calls - puts, puts - calls, -calls - puts, calls + puts) AS least,
       calls - puts AS "calls long, puts short",
       greatest(calls - puts, puts - calls, -calls - puts, calls + puts) AS greatest
FROM sides"""
GAMMA_LEFT_OUT = f"""WITH {_NEWEST}, {_HELD}, {_COUNTED}
SELECT coalesce(sum(open_interest) FILTER (WHERE gamma IS NULL), 0)::float8
       / nullif(sum(open_interest), 0) AS "of open interest left out" FROM counted"""

OPEN_INTEREST = f"""WITH {_NEWEST}, {_HELD}, {_COUNTED}
SELECT trim_scale(strike)::text AS "at strike", sum(open_interest) FILTER (WHERE "right" = 'C') AS calls,
       sum(open_interest) FILTER (WHERE "right" = 'P') AS puts
FROM counted {_NEAR}GROUP BY strike HAVING count(open_interest) > 0 ORDER BY counted.strike"""

_TRADED = f"""traded AS (
  SELECT c.*, v.volume FROM counted c CROSS JOIN newest n CROSS JOIN LATERAL (
    SELECT coalesce(sum(b.volume), 0)::bigint AS volume FROM bars_1m b
    WHERE b.instrument_id = c.instrument_id AND b.ts >= {_before((_RECENT_DAYS + 1) * DAY_S)} AND b.ts < {ENDS}
      AND b.ts >= n.session_date::timestamp AT TIME ZONE 'UTC' AND b.ts < date_trunc('minute', n.ts)
  ) v
)"""

_IS_UNUSUAL = "(volume >= ${min_volume} AND volume >= greatest(open_interest, 1))"
UNUSUAL = f"""WITH {_NEWEST}, {_HELD}, {_COUNTED}, {_TRADED}
SELECT symbol, volume, open_interest AS "open interest", volume / greatest(open_interest, 1)::float8 AS ratio,
       CASE WHEN {_IS_UNUSUAL} THEN 'unusual' ELSE 'usual' END AS said, mid, implied_volatility AS "implied vol", delta
FROM traded WHERE volume > 0 AND open_interest IS NOT NULL
ORDER BY {_IS_UNUSUAL} DESC, ratio DESC, symbol LIMIT 15"""

PUT_CALL = f"""WITH {_NEWEST}, {_HELD}, {_COUNTED}, {_TRADED}
SELECT sum(volume) FILTER (WHERE "right" = 'P') / nullif(sum(volume) FILTER (WHERE "right" = 'C'), 0) AS volume,
       sum(open_interest) FILTER (WHERE "right" = 'P') / nullif(sum(open_interest) FILTER (WHERE "right" = 'C'), 0)
         AS "open interest"
FROM traded"""

_THEN = "((SELECT ts FROM newest) - interval '${horizon} minutes')"
MOVERS = f"""WITH {_NEWEST}, {_HELD}, trips AS (
  SELECT h.symbol, h.delta, q0.bid AS bid_then, q0.ask AS ask_then, q1.bid, q1.ask
  FROM held h
  JOIN LATERAL {_quote_at(_THEN, _before((_RECENT_DAYS + 1) * DAY_S))} q0 ON q0.bid > 0 AND q0.ask >= q0.bid
  JOIN LATERAL {_quote_at("(SELECT ts FROM newest)", _RECENT)} q1 ON q1.bid > 0 AND q1.ask >= q1.bid
)
SELECT symbol, delta, ask_then AS "ask then", bid AS "bid now",
       (100 * bid - ${{fee}}) / (100 * ask_then + ${{fee}}) - 1 AS "net move",
       (bid + ask) / (bid_then + ask_then) - 1 AS "mid's move",
       (100 * (ask_then - bid_then + ask - bid) / 2 + 2 * ${{fee}}) / (100 * ask_then + ${{fee}}) AS cost
FROM trips ORDER BY "net move" DESC, symbol LIMIT 15"""
