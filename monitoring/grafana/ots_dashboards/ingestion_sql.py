"""What the ingestion dashboard asks of the market database: ledgers, which are small, and never the market's tables."""

from __future__ import annotations

# a row a dataset and schema that is collected
COLLECTED = """SELECT c.dataset, s.schema, s.records, st.state,
       extract(epoch FROM now()) * 1000 - s.last_ns / 1e6 AS age
FROM collections c JOIN collection_schemas s USING (dataset) LEFT JOIN collection_states st USING (dataset)
WHERE c.wanted ORDER BY c.dataset, s.schema"""

# what says that there is none is a row too: an empty table could as well be a query that failed
GAPS = """WITH open_gaps AS (
  SELECT dataset, schema, coalesce(symbol, 'all') AS symbol, evidence,
         starts_ns / 1e6 AS "from", ends_ns / 1e6 AS "to", repair_attempts AS tries, repair_note AS "how it stands"
  FROM gaps WHERE closed_at IS NULL ORDER BY starts_ns DESC LIMIT 50
)
SELECT * FROM open_gaps
UNION ALL
SELECT 'none', NULL, NULL, NULL, NULL, NULL, NULL, 'no gap is open: nothing is known to be missing'
WHERE NOT EXISTS (SELECT FROM open_gaps)"""

GAPS_BY_STATE = """SELECT states.state, count(g.gap_id) AS gaps
FROM (VALUES ('open'), ('closed by replay'), ('closed by backfill'), ('nothing was missing')) AS states(state)
LEFT JOIN (
  SELECT gap_id, CASE WHEN closed_at IS NULL THEN 'open' WHEN closed_by = 'session' THEN 'nothing was missing'
    ELSE 'closed by ' || closed_by END AS state
  FROM gaps WHERE starts_ns >= (${__to} / 1000.0 - 30 * 86400) * 1e9 AND starts_ns <= ${__to} * 1e6
) g ON g.state = states.state
GROUP BY states.state ORDER BY states.state"""

RUNS = """SELECT extract(epoch FROM created_at) * 1000 AS "asked", requested_by AS "by", dataset, schema, status,
       records_done / nullif(total, 0)::float8 AS done, stored, revised, duplicate, rejected,
       extract(epoch FROM coalesce(finished_at, now()) - started_at) AS took
FROM runs WHERE created_at <= to_timestamp(${__to} / 1000.0) ORDER BY created_at DESC, run_id DESC LIMIT 12"""

BACKFILLS = """SELECT extract(epoch FROM b.created_at) * 1000 AS "asked", b.origin, b.status,
       p.done / nullif(p.parts, 0)::float8 AS done, p.failed, b.estimated_records AS "records expected",
       b.spent_usd AS spent, b.error
FROM (SELECT * FROM backfills WHERE created_at <= to_timestamp(${__to} / 1000.0)
      ORDER BY created_at DESC, backfill_id DESC LIMIT 8) b
LEFT JOIN LATERAL (
  SELECT count(*) AS parts, count(*) FILTER (WHERE status = 'done') AS done,
         count(*) FILTER (WHERE status = 'failed') AS failed
  FROM backfill_parts WHERE backfill_id = b.backfill_id
) p ON true
ORDER BY b.created_at DESC"""
