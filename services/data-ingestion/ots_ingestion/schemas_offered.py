"""Which of Databento's schemas is taken where a dataset lacks the one that was asked for.

A consolidated feed (OPRA.PILLAR) has the best bid and offer of all its venues in schemas of their own: what is
``tbbo`` of one venue is ``tcbbo`` there. Where a dataset has one of such a pair, it stands for the other, and the
answer says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ots_ingestion.layouts import SCHEMA_IDS

_PAIRS = (("tbbo", "tcbbo"), ("mbp-1", "cmbp-1"), ("bbo-1s", "cbbo-1s"), ("bbo-1m", "cbbo-1m"))
EQUIVALENT = {**dict(_PAIRS), **{consolidated: single for single, consolidated in _PAIRS}}


class SchemaNotOffered(ValueError):
    """A schema that the dataset does not have, or that is not stored here. ``offered``: what may be asked for."""

    def __init__(self, schema: str, dataset: str, offered: list[str], reason: str) -> None:
        super().__init__(f"{reason}; {dataset} offers {', '.join(offered) or 'nothing that is stored here'}")
        self.schema = schema
        self.dataset = dataset
        self.offered = offered


@dataclass(frozen=True)
class Chosen:
    """``schemas``: Databento's names, each once, in the order asked for. ``notes``: where one is not what was asked."""

    schemas: tuple[str, ...]
    notes: tuple[str, ...]


def storable(offered: Iterable[str]) -> list[str]:
    """Those schemas that have a table here, in order of name."""
    return sorted(set(offered) & set(SCHEMA_IDS))


def choose(asked: Iterable[str], dataset: str, offered: Collection[str]) -> Chosen:
    """What to ask ``dataset`` for. Raises :class:`SchemaNotOffered` for the first schema that nothing stands for."""
    able = storable(offered)
    schemas: dict[str, None] = {}
    notes = []
    for schema in asked:
        equivalent = EQUIVALENT.get(schema)
        if schema in able:
            schemas[schema] = None
        elif equivalent in able and equivalent is not None:
            schemas[equivalent] = None
            notes.append(f"{dataset} has no {schema}: {equivalent}, its equivalent there, is taken")
        elif schema in offered:
            raise SchemaNotOffered(schema, dataset, able, f"records of schema {schema} are not stored here")
        else:
            raise SchemaNotOffered(schema, dataset, able, f"{dataset} has no schema {schema}")
    return Chosen(tuple(schemas), tuple(notes))
