"""Settings whose secrets come one by one, as ECS hands them on, or as parts of JSON and URLs, as in Compose."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ots_common.settings import ServiceSettings

ONE, OTHER = "a" * 32, "1" * 43  # a number, if it were read as JSON


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("REDIS_URL", "REDIS_PASSWORD", "SIGNING_KEYS", "ACCEPT_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://ots_reader@db/ots")
    return monkeypatch


def keys(of: dict[str, object]) -> dict[str, str]:
    return {name: secret.get_secret_value() for name, secret in of.items()}  # type: ignore[attr-defined]


def test_keys_come_as_variables_of_their_own(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SIGNING_KEYS__DATA_INGESTION", ONE)
    environment.setenv("SIGNING_KEYS__CACHE", OTHER)
    environment.setenv("ACCEPT_KEYS__GATEWAY", ONE)
    settings = ServiceSettings()
    assert keys(settings.signing_keys) == {"data-ingestion": ONE, "cache": OTHER}
    assert keys(settings.accept_keys) == {"gateway": ONE}


def test_keys_come_as_json(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SIGNING_KEYS", f'{{"data-ingestion":"{ONE}"}}')
    settings = ServiceSettings()
    assert keys(settings.signing_keys) == {"data-ingestion": ONE}
    assert settings.accept_keys == {}


def test_a_short_key_is_refused_whichever_way_it_comes(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ACCEPT_KEYS__GATEWAY", "short")
    with pytest.raises(ValidationError, match="accept_keys.gateway"):
        ServiceSettings()


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        ("rediss://cache.example:6379/0", "p@ss/word", "rediss://:p%40ss%2Fword@cache.example:6379/0"),
        ("redis://:old@127.0.0.1:6379/1", "new", "redis://:new@127.0.0.1:6379/1"),
        ("redis://:kept@127.0.0.1:6379/1", "", "redis://:kept@127.0.0.1:6379/1"),
    ],
)
def test_the_password_of_redis_comes_by_itself(
    environment: pytest.MonkeyPatch, url: str, password: str, expected: str
) -> None:
    environment.setenv("REDIS_URL", url)
    environment.setenv("REDIS_PASSWORD", password)
    settings = ServiceSettings()
    assert settings.redis_url.get_secret_value() == expected
    assert expected not in repr(settings)
