"""What the signals dashboard asks of the market database: the ledger of signals, and who waits for an outcome."""

from __future__ import annotations

# a row a strategy that recorded anything by the end of the range; outcomes are the newest revisions, at full spread
BY_STRATEGY = """WITH decided AS (
  SELECT id, kind, strategy, session FROM signal_ledger
  WHERE kind <> 'outcome' AND mode = 'live' AND event_ns <= ${__to} * 1000000
), ended AS (
  SELECT DISTINCT ON (o.signal_id) o.signal_id, o.barrier, (o.baseline ->> 'percentile')::float8 AS percentile,
         (jsonb_path_query_first(o.fills, '$[*] ? (@.model == "touch")') ->> 'net_return')::float8 AS net
  FROM signal_ledger o WHERE o.kind = 'outcome' ORDER BY o.signal_id, o.revision DESC
)
SELECT d.strategy, count(*) FILTER (WHERE kind = 'abstention') AS abstained,
       count(*) FILTER (WHERE kind = 'signal') AS signals,
       count(DISTINCT session) FILTER (WHERE kind = 'signal') AS days,
       count(*) FILTER (WHERE kind = 'signal' AND e.signal_id IS NULL) AS waiting,
       count(*) FILTER (WHERE e.barrier = 'target') AS target, count(*) FILTER (WHERE e.barrier = 'stop') AS stop,
       count(*) FILTER (WHERE e.barrier = 'timeout') AS "time",
       count(*) FILTER (WHERE e.barrier = 'not_filled') AS "not filled",
       count(*) FILTER (WHERE e.barrier = 'indeterminate') AS indeterminate,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY e.net) AS "median net",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY e.percentile) AS "among matched random"
FROM decided d LEFT JOIN ended e ON e.signal_id = d.id
GROUP BY d.strategy ORDER BY signals DESC, abstained DESC, d.strategy"""

NEWEST = """SELECT event_ns / 1e6 AS "event", (committed_ns - event_ns) / 1e9 AS "recorded after", mode, strategy,
       underlying, kind, coalesce(why, '') AS "why not",
       (body::jsonb #>> '{record,entry,spread_pct}')::float8 AS spread,
       (odds ->> 'p_target')::float8 AS "P target", (odds ->> 'p_null')::float8 AS "in a fair market",
       (odds ->> 'expected_value_pct')::float8 AS "expected net",
       (odds ->> 'expected_value_low')::float8 AS "from", (odds ->> 'expected_value_high')::float8 AS "to"
FROM signal_ledger WHERE kind <> 'outcome' AND event_ns <= ${__to} * 1000000
ORDER BY event_ns DESC, seq DESC LIMIT 40"""

CURSORS = """SELECT underlying, event_ns / 1e6 AS "decided up to", attempts AS tries,
       coalesce(error, '') AS "what it waits for"
FROM signal_cursors ORDER BY event_ns, underlying"""
