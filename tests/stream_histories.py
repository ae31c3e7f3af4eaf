"""Random histories of a stream: syncs whose schema, format, mode and partition change, and what must be found again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from land_and_read import destination, sync, target
from servers import S3Server

from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.json_text import JSON_TEXT
from s3dest_dagster.columns.kinds.record import Field
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.stream_columns import records_in
from s3dest_dagster.commit.registry_updates import registry_of
from s3dest_dagster.commit.written_columns import columns_of_stream
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.landed_scopes import LandedScopes
from s3dest_dagster.inspection.read import snapshot
from s3dest_dagster.inspection.record_selection import RecordSelection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import FormatSettings
from s3dest_dagster.sources.python import batches
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

STREAM = StreamId(None, "events")
NAMES = ["a-b", "a_b", "a b", "A_b", "a.b", "+1", "-1", "名前", "住所", "a_b_string"]
INNER_NAMES = ["x", "X", "x-y", "x y", "x_string"]
NUMBER, TEXT = {"type": "number"}, {"type": "string"}
SCALARS: dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]] = {
    "integer": ({"type": "integer"}, st.sampled_from([0, 1, -7, 2**53, 2**53 + 1])),
    "number": (NUMBER, st.sampled_from([0.5, -2.25, 3.0])),
    "text": (TEXT, st.sampled_from(["", "x", "12", "名", "null"])),
    "boolean": ({"type": "boolean"}, st.booleans()),
    "date": ({**TEXT, "format": "date"}, st.sampled_from(["2026-01-07", "1969-12-31"])),
    "moment": ({**TEXT, "format": "date-time"}, st.sampled_from(["2026-01-08T12:00:00Z", "1969-12-31T23:00:00.5Z"])),
    "decimal": (
        {**NUMBER, "airbyte_type": "big_number"},
        st.sampled_from(["1.1", "12345678901234567.89", "-7.125", "100"]).map(Decimal),
    ),
    "null": ({"type": "null"}, st.none()),
}
Typed = tuple[dict[str, Any], st.SearchStrategy[Any]]


def _object(inner: Mapping[str, Typed]) -> Typed:
    schema = {"type": "object", "properties": {name: definition for name, (definition, _) in inner.items()}}
    return schema, st.fixed_dictionaries({}, optional={name: values for name, (_, values) in inner.items()})


@st.composite
def _types(draw: st.DrawFn) -> Typed:
    """The schema of a field, and its values."""
    shape = draw(st.sampled_from(["scalar", "scalar", "scalar", "list", "object", "objects"]))
    if shape in ("scalar", "list"):
        typed = SCALARS[draw(st.sampled_from(sorted(SCALARS)))]
    else:
        names = draw(st.lists(st.sampled_from(INNER_NAMES), unique=True, min_size=1, max_size=3))
        typed = _object({name: SCALARS[draw(st.sampled_from(sorted(SCALARS)))] for name in names})
    if shape in ("list", "objects"):
        definition, values = typed
        return {"type": "array", "items": definition}, st.lists(values, max_size=2)
    return typed


@dataclass(frozen=True)
class Step:
    """One sync."""

    properties: dict[str, Any]
    records: list[dict[str, Any]]
    format: FormatSettings
    replaces: bool
    partition: str | None


@st.composite
def histories(draw: st.DrawFn, formats: list[FormatSettings], most: int = 5) -> list[Step]:
    """Syncs of one stream, which either has partitions or none. All have one of the formats each."""
    partitions = draw(st.sampled_from([[None], [None], ["p", "q"]]))
    steps = []
    for _ in range(draw(st.integers(2, most))):
        names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=4))
        fields = {name: draw(_types()) for name in names}
        values = st.fixed_dictionaries({}, optional={name: values for name, (_, values) in fields.items()})
        steps.append(
            Step(
                {name: definition for name, (definition, _) in fields.items()},
                draw(st.lists(values, min_size=1, max_size=3)),
                draw(st.sampled_from(formats)),
                draw(st.integers(0, 3)) == 0,
                draw(st.sampled_from(partitions)),
            )
        )
    return steps


@dataclass
class Landed:
    """A stream after its history."""

    server: S3Server
    settings: S3Destination
    live: dict[str | None, list[dict[str, Any]]] = field(default_factory=dict)
    """The live records by partition, each with its number."""

    def records(self) -> list[dict[str, Any]]:
        return [record for records in self.live.values() for record in records]

    def loaded(self) -> LandedScopes:
        """What an input of an asset has, which knows the manifests only."""
        bucket, template = self.server.open(self.settings), self.settings.template
        scopes = {partition: snapshot(bucket, template, Scope(STREAM, partition)) for partition in self.live}
        return LandedScopes.of(scopes, str(STREAM), RecordSelection())

    def columns(self) -> tuple[Field, ...]:
        """All columns that the stream has or had, according to its registry."""
        registry = registry_of(self.server.open(self.settings), self.settings, STREAM)
        assert registry is not None
        return columns_of_stream(registry.columns).fields


def landed(server: S3Server, history: Iterable[Step], *, declared: bool, **settings: Any) -> Landed:
    """Lands a history."""
    bucket = server.new_bucket()
    found = Landed(server, destination(bucket, **settings))
    number = 0
    for step_number, step in enumerate(history):
        numbered = [{"id": number + row, **value} for row, value in enumerate(step.records)]
        number += len(numbered)
        stream = Stream(
            name=STREAM.name,
            json_schema={"properties": {**step.properties, "id": {"type": "integer"}}} if declared else None,
            sync_mode=SyncMode.FULL_REFRESH if step.replaces else SyncMode.APPEND,
        )
        chosen = destination(bucket, **settings, format=step.format)
        scope = Scope(STREAM, step.partition)
        with target(server, chosen) as opened:
            receipt = land(
                batches(numbered, emitted_at=lambda: 7), opened, stream, sync(f"s{step_number}"), scope=scope
            )
        assert receipt.rows == len(numbered)
        found.settings = chosen
        replaces = step.replaces or step.partition is not None
        found.live[step.partition] = numbered if replaces else found.live.get(step.partition, []) + numbered
    return found


# ---------------------------------------------------------------------- what is found


@dataclass(frozen=True)
class Text:
    """The text of a value, which shows its JSON type only if that is not a text."""

    text: str


def by_source(fields: Iterable[Field], row: Mapping[str, Any]) -> dict[str, Any]:
    """A row under the source's names, at every level. A field has at most one value, in one of its columns. If a number
    is only the nearest one, the overflow has the exact one."""
    found: dict[str, Any] = {}
    for column in fields:
        value = row.get(column.name)
        if value is not None:
            assert column.source not in found, (column.source, row)
            found[column.source] = _value(column.kind, value)
    for source, text in row.get(OVERFLOW) or ():
        assert source not in found or _is_number(found[source]), (source, row)
        found[source] = Text(text)
    return found


def _value(kind: Kind, value: Any) -> Any:
    if isinstance(kind, Union) and isinstance(value, dict):
        members = {word: member for word, member in value.items() if member is not None}
        branches = {branch.word: branch for branch in kind.branches}
        if members.keys() <= branches.keys():
            ((word, member),) = members.items()
            return _value(branches[word], member)
    if isinstance(value, list):
        return [_value(kind.element() if isinstance(kind, Array) else kind, item) for item in value]
    if isinstance(value, dict):
        fields = [each for record in records_in(kind) for each in record.fields]
        return by_source(fields, value)
    return json.loads(value, parse_float=Decimal) if kind == JSON_TEXT and value is not None else value


def assert_same(found: Iterable[Mapping[str, Any]], records: Iterable[Mapping[str, Any]]) -> None:
    """Every record is found, with all its values and no others."""
    rows = sorted(found, key=lambda row: row["id"])
    assert [row["id"] for row in rows] == sorted(record["id"] for record in records)
    for row, record in zip(rows, sorted(records, key=lambda each: each["id"]), strict=True):
        assert is_same(record, row), (record, row)


def is_same(value: Any, found: Any) -> bool:
    """Whether a value is found, in the type of its column."""
    if isinstance(found, Text):
        return found.text == value if isinstance(value, str) else is_same(value, _parsed(found.text))
    if isinstance(value, dict):
        present = {name: each for name, each in value.items() if each is not None}
        if isinstance(found, str):
            return is_same(value, _parsed(found))
        return (
            isinstance(found, dict)
            and {name for name, each in found.items() if each is not None} == present.keys()
            and all(is_same(each, found[name]) for name, each in present.items())
        )
    if isinstance(value, list) and isinstance(found, list):
        return len(value) == len(found) and all(map(is_same, value, found))
    if _is_number(found) and (_is_number(value) or isinstance(value, str)):
        return Decimal(str(value)) == Decimal(str(found))
    if isinstance(value, str) and isinstance(found, date):
        return _moment(value) == _moment(found.isoformat())
    if isinstance(found, str) and not isinstance(value, str):
        return is_same(value, _parsed(found))
    return type(value) is type(found) and value == found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
