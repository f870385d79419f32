"""The version of stored data: what changes whenever an answer that was made of them may have changed.

Every path that stores records goes through ``ots_ingestion.store``, which notes in the same transaction which quarters
of an hour of event time it touched (``stored_changes``); so do retention and the snapshots of volatility. Rates,
corporate actions and open gaps, which answers tell too, have few rows and are asked themselves.
"""

from __future__ import annotations

import hashlib

from ots_common.database import Database, Prepared
from ots_common.times import to_datetime
from ots_market.timeframes import DAY_NS

# Of the months before that of `until` each as a whole, of its own the days, of its own day the quarters of an hour up
# to it. A sum, not the newest: transactions end in another order than they began. A curve or an action counts from when
# it is known. A database made anew is another one.
_VERSION = Prepared(
    "data_version",
    """
    SELECT (SELECT sum(changed_us) FROM stored_changes
            WHERE span = 'month' AND starts >= date_trunc('month', $1)
              AND starts < date_trunc('month', $2)),
           (SELECT sum(changed_us) FROM stored_changes
            WHERE span = 'day' AND starts >= greatest($1, date_trunc('month', $2)) AND starts < $2),
           (SELECT sum(changed_us) FROM stored_changes
            WHERE span = 'quarter' AND starts >= $2 AND starts <= $3),
           (SELECT oid FROM pg_database WHERE datname = current_database()),
           (SELECT count(*) FROM instrument_revisions),
           (SELECT (count(*), max(curve_id))::text FROM rate_curves WHERE known_at <= $3),
           (SELECT (count(*), sum(extract(epoch FROM stated_at)))::text FROM corporate_actions
            WHERE ex_date <= ($3 AT TIME ZONE 'UTC')::date + 1),
           (SELECT (count(*), sum(gap_id), sum(ends_ns))::text FROM gaps
            WHERE closed_at IS NULL AND starts_ns <= $4)
    """,
    ("timestamptz", "timestamptz", "timestamptz", "bigint"),
)


def data_version(database: Database, *, since_ns: int = 0, until_ns: int) -> str:
    """A digest of the state of all records with event times in [since, until] (ns), in hexadecimal.

    It may change when nothing of the interval did: ``since`` is taken to the start of its UTC day, or of its month
    where ``until`` is of a later one, and ``until`` to the end of its quarter of an hour. It never stays when something
    did. Ask it before the data: what is read then is as new or newer. Raises what the database raises.
    """
    day_ns = until_ns // DAY_NS * DAY_NS
    parameters = (
        to_datetime(min(since_ns, until_ns) // DAY_NS * DAY_NS),
        to_datetime(day_ns),
        to_datetime(until_ns),
        until_ns,
    )
    row = database.prepared_rows(_VERSION, parameters)[0]
    return hashlib.blake2b(repr([str(value) for value in row]).encode(), digest_size=16).hexdigest()
