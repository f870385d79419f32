"""What the simulator counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

LIVE_SESSIONS = Gauge("ots_simulator_live_sessions", "Authenticated live sessions", ["dataset"])
LIVE_RECORDS = Counter("ots_simulator_live_records_total", "Market records sent to live sessions", ["dataset"])
HISTORICAL_RECORDS = Counter("ots_simulator_historical_records_total", "Records sent as history", ["dataset"])
HISTORICAL_REQUESTS = Counter("ots_simulator_historical_requests_total", "Historical calls", ["call", "status"])
FAULTS_FIRED = Counter("ots_simulator_faults_fired_total", "Faults that happened", ["kind"])
