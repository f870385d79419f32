"""All dashboards."""

from __future__ import annotations

from ots_dashboards.api import API
from ots_dashboards.containers import CONTAINERS
from ots_dashboards.ingestion import INGESTION
from ots_dashboards.options_desk import OPTIONS_DESK
from ots_dashboards.security import SECURITY
from ots_dashboards.signals import SIGNALS
from ots_dashboards.system import SYSTEM

DASHBOARDS = (OPTIONS_DESK, SIGNALS, INGESTION, API, SYSTEM, SECURITY, CONTAINERS)
