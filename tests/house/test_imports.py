"""Who may import whom: services never each other, the mathematics nothing of ours, the common library no market."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {path.name: path for path in ROOT.glob("services/*/ots_*") if path.is_dir() and "egg-info" not in path.name}
SERVICES = {"ots_gateway", "ots_cache", "ots_ingestion", "ots_analytics", "ots_signals", "ots_simulator"}
ALLOWED = {
    "ots_common": set(),
    "ots_quant": set(),
    "ots_market": {"ots_common"},
    "ots_chains": {"ots_common", "ots_market", "ots_quant"},
    "ots_gateway": {"ots_common"},
    "ots_cache": {"ots_common", "ots_market"},
    "ots_ingestion": {"ots_common", "ots_market"},
    "ots_analytics": {"ots_common", "ots_market", "ots_quant", "ots_chains"},
    "ots_signals": {"ots_common", "ots_market", "ots_quant", "ots_chains"},
    "ots_simulator": {"ots_common", "ots_market", "ots_quant"},
}
NO_IO = {"flask", "psycopg2", "redis", "requests", "urllib3", "sqlalchemy"}
MARKET_WORDS = ("strike", "ticker", "candle", "volatility", "instrument", "expiration", "underlying")


def imported(package: Path) -> dict[str, set[str]]:
    """Module -> the top-level packages it imports."""
    found = {}
    for path in package.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names.add((node.module or "").split(".")[0])
        found[str(path.relative_to(ROOT))] = names
    return found


def test_every_package_has_a_rule():
    assert set(PACKAGES) == set(ALLOWED)
    assert set(ALLOWED) >= SERVICES


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_only_what_it_may(package):
    ours = set(ALLOWED) - {package}
    for module, names in imported(PACKAGES[package]).items():
        assert names & ours <= ALLOWED[package], module


def test_the_mathematics_does_no_input_or_output():
    for module, names in imported(PACKAGES["ots_quant"]).items():
        assert not names & NO_IO, module


def test_the_common_library_knows_no_market():
    for path in PACKAGES["ots_common"].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "id", None) or getattr(node, "name", None) or getattr(node, "attr", None) or ""
            assert not any(word in str(name).lower() for word in MARKET_WORDS), f"{path.name}: {name}"
