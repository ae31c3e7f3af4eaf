"""Every field of a Parquet file has an id: of lists, maps and unions too, none twice, and the same in later files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from encoded import batch_of, stream_of

from s3dest_dagster.columns import field_ids
from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.field_ids import FIELD_ID, FIRST_DERIVED
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.schema_differences import EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import ParquetFormat

LAYOUTS = [ParquetFormat(), ParquetFormat(union_layout="member"), ParquetFormat(union_layout="typed")]
_ICEBERGS_OWN = (1 << 31) - 201
"""Iceberg reserves the ids from here on."""
INTEGER, NUMBER, TEXT = ({"type": word} for word in ("integer", "number", "string"))
DAY = {"type": "string", "format": "date"}
BEFORE: dict[str, Any] = {
    "id": INTEGER,
    "grid": {"type": "array", "items": {"type": "array", "items": {"type": "object", "properties": {"day": DAY}}}},
    "mixed": {"type": ["integer", "string", "array"], "items": {"type": ["number", "boolean"]}},
    "place": {"type": "object", "properties": {"x": INTEGER, "tags": {"type": "array", "items": TEXT}}},
}
AFTER: dict[str, Any] = {
    "new": {"type": "array", "items": INTEGER},
    "place": {"type": "object", "properties": {"tags": {"type": "array", "items": TEXT}, "x": NUMBER, "y": TEXT}},
    "mixed": {"type": ["boolean", "integer", "string", "array"], "items": {"type": ["number", "boolean"]}},
    "grid": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "object", "properties": {"note": TEXT, "day": DAY}}},
    },
    "id": INTEGER,
}


def schemas(chosen: ParquetFormat, *versions: dict[str, Any]) -> Iterator[pa.Schema]:
    """The schema of a file for each version of the properties of one stream."""
    known = StreamColumns()
    for properties in versions:
        stream = stream_of(properties)
        evolution = evolve(known, record_type({"properties": properties}, stream.name, None), EvolutionRules())
        known = evolution.columns
        payload = encoder(chosen, stream, evolution.record).encode(batch_of([{}]), bytes(16)).payload
        assert isinstance(payload, pa.RecordBatch)
        yield payload.schema


def found(fields: Iterable[pa.Field], path: str = "") -> Iterator[tuple[str, int | None]]:
    """Yields the path and the id of every field of every level."""
    for field in fields:
        number = (field.metadata or {}).get(FIELD_ID)
        where = f"{path}/{field.name}"
        yield where, None if number is None else int(number)
        if pa.types.is_map(field.type):
            yield from found([field.type.key_field, field.type.item_field], where)
        elif pa.types.is_nested(field.type):
            yield from found([field.type.field(at) for at in range(field.type.num_fields)], where)


@pytest.mark.parametrize("chosen", LAYOUTS, ids=["named", "member", "typed"])
def test_every_field_has_an_id_of_its_own(chosen: ParquetFormat) -> None:
    (schema,) = schemas(chosen, BEFORE)
    ids = [number for _, number in found(schema)]
    numbers = {number for number in ids if number is not None}
    assert len(numbers) == len(ids) > 20
    assert max(numbers) < _ICEBERGS_OWN
    assert sorted(number for number in numbers if number < FIRST_DERIVED) == list(range(1, 8))


def test_a_field_keeps_its_id_when_columns_fields_and_types_come() -> None:
    before, after = (dict(found(schema)) for schema in schemas(ParquetFormat(), BEFORE, AFTER))
    assert before.items() <= after.items()
    assert len(set(after.values())) == len(after)


def test_a_stream_without_ids_has_none_at_any_level() -> None:
    (schema,) = schemas(ParquetFormat(field_ids=False), BEFORE)
    assert {number for _, number in found(schema)} == {None}


def test_deep_lists_and_very_many_columns_never_share_an_id() -> None:
    deep: dict[str, Any] = {"type": ["integer", "boolean"]}
    for _ in range(40):
        deep = {"type": "array", "items": deep}
    (schema,) = schemas(ParquetFormat(), {f"c{number}": deep for number in range(20)})
    ids = [number for _, number in found(schema)]
    assert None not in ids
    assert len(set(ids)) == len(ids)


def test_every_kind_has_a_place_in_a_union() -> None:
    def words(kind: type[Kind]) -> Iterator[str]:
        if isinstance(word := getattr(kind, "word", None), str):
            yield word
        for below in kind.__subclasses__():
            yield from words(below)

    assert {*words(Kind)} <= field_ids._MEMBERS.keys()
