"""What the rules ask of others' exporters."""

from __future__ import annotations

OF = {
    "postgres_exporter": {
        "pg_up", "pg_stat_activity_count", "pg_settings_max_connections", "pg_stat_activity_max_tx_duration",
        "pg_stat_database_deadlocks", "pg_stat_archiver_failed_count",
    },
    "redis_exporter": {"redis_up", "redis_evicted_keys_total", "redis_rejected_connections_total"},
    "node_exporter": {
        "node_filesystem_avail_bytes", "node_filesystem_size_bytes", "node_filesystem_readonly",
        "node_filesystem_files", "node_filesystem_files_free", "node_memory_MemAvailable_bytes",
        "node_memory_MemTotal_bytes", "node_vmstat_oom_kill", "node_cpu_seconds_total", "node_timex_offset_seconds",
        "node_timex_sync_status",
    },
    "alertmanager": {"alertmanager_notifications_failed_total"},
    "prometheus": {"prometheus_rule_evaluation_failures_total"},
}  # fmt: skip
EXPORTED: set[str] = set().union(*OF.values())
