"""The short form of chaos: a seeded feed while processes are killed and the wire is broken. The long: ``chaos.run``."""

from __future__ import annotations

import pytest

from chaos.arena import Arena, Plan


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    with Arena(tmp_path_factory.mktemp("chaos")) as made:
        yield made


@pytest.mark.parametrize(("seed", "repair"), [(101, False), (102, True)])
def test_nothing_is_lost_and_nothing_doubled(arena, seed, repair):
    done = arena.round(Plan(seed, seconds=25, per_second=400, pause_s=0.8), repair=repair)
    assert done.kills >= 3
    assert done.before_repair.sound, done
    assert done.before_repair.stored + done.before_repair.missing_and_in_the_ledger == done.before_repair.expected
    if done.after_repair is not None:
        assert done.after_repair.sound, done
        assert done.after_repair.stored == done.after_repair.expected, done
