"""OpenAPI knows a model by its class's name alone: of two with one name, one would be described as the other."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict

import pytest
from pydantic import BaseModel

import ots_analytics
import ots_cache
import ots_gateway
import ots_ingestion
import ots_signals

SHARED = ("ots_common", "ots_market")
# described where they are used, not by name
NAMELESS = ("Query", "Path", "Settings")


def models_of(package):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith(("__main__", "gunicorn_conf")):
            importlib.import_module(module.name)
    found = defaultdict(set)
    waiting = [BaseModel]
    while waiting:
        for model in waiting.pop().__subclasses__():
            waiting.append(model)
            if model.__module__.split(".")[0] in (package.__name__, *SHARED):
                found[model.__name__].add(model.__module__)
    return found


@pytest.mark.parametrize(
    "package", [ots_analytics, ots_cache, ots_gateway, ots_ingestion, ots_signals], ids=lambda p: p.__name__
)
def test_no_two_models_of_a_service_share_a_name(package):
    found = models_of(package)
    assert found
    twice = {name: sorted(places) for name, places in found.items() if len(places) > 1}
    assert {name: places for name, places in twice.items() if not name.endswith(NAMELESS)} == {}
