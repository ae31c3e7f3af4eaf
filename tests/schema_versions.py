"""Ten versions of a stream's schema, each with a Parquet file that has one record of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encoded import batch_of, stream_of

from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schema_differences import EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import ParquetFormat

INTEGER, NUMBER, TEXT = ({"type": word} for word in ("integer", "number", "string"))
DATE, TIMESTAMP = ({"type": "string", "format": word} for word in ("date", "date-time"))


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


VERSIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"id": INTEGER, "amount": INTEGER}, {"amount": 1}),
    ({"id": INTEGER, "amount": INTEGER, "name": TEXT}, {"name": "two"}),
    ({"name": TEXT, "amount": INTEGER, "id": INTEGER}, {"amount": 3, "name": "three"}),
    ({"id": INTEGER, "amount": NUMBER, "name": TEXT}, {"amount": 4.5}),
    ({"id": INTEGER, "place": _object(x=INTEGER)}, {"place": {"x": 5}}),
    ({"id": INTEGER, "place": _object(y=TEXT, x=INTEGER)}, {"place": {"x": 6, "y": "six"}}),
    ({"id": INTEGER, "day": DATE}, {"day": "2026-01-07"}),
    ({"id": INTEGER, "day": TIMESTAMP}, {"day": "2026-01-08T12:00:00Z"}),
    ({"id": INTEGER, "name": INTEGER}, {"name": 9}),
    ({"id": INTEGER, "tags": {"type": "array", "items": _object(z=INTEGER)}}, {"tags": [{"z": 10}]}),
]
"""The properties of each version, and a record without its id, which is the version's number."""
FOUND: list[dict[str, Any]] = [
    {"amount": 1},
    {"name": "two"},
    {"amount": 3, "name": "three"},
    {"amount": 4.5},
    {"place": {"x": 5}},
    {"place": {"x": 6, "y": "six"}},
    {"day": "2026-01-07T00:00:00+00:00"},
    {"day": "2026-01-08T12:00:00+00:00"},
    {"name_integer": 9},
    {"tags": [{"z": 10}]},
]
"""The values of each record in a table of all files, without nulls."""
WIDENED = (4, 8)
"""The versions in which a type is wider than before."""


def write_versions(directory: Path) -> list[str]:
    """Writes a file for each version. Returns their paths."""
    known, paths = StreamColumns(), []
    for number, (properties, record) in enumerate(VERSIONS, 1):
        stream = stream_of(properties)
        evolution = evolve(known, record_type({"properties": properties}, stream.name, None), EvolutionRules())
        known = evolution.columns
        made, batch = encoder(ParquetFormat(), stream, evolution.record), batch_of([{"id": number, **record}])
        parts: list[bytes] = []
        opened = made.open(parts.append, bytes(16))
        opened.append(made.encode(batch, bytes(16)))
        opened.close()
        path = directory / f"{number:02}.parquet"
        path.write_bytes(b"".join(parts))
        paths.append(str(path))
    return paths


def values(row: dict[str, Any]) -> dict[str, Any]:
    """The values of a row that are not null, at every level, without envelope and overflow. Moments are texts."""
    return {
        name: _value(value)
        for name, value in row.items()
        if value is not None and name != "id" and not name.startswith("_airbyte")
    }


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return values(value)
    if isinstance(value, list):
        return [_value(each) for each in value]
    return value.isoformat() if hasattr(value, "isoformat") else value
