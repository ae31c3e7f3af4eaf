"""Random histories of schemas under append: every value that landed is found again under its source's name.

It is found by readers that know only the registry and the objects: the library's, and DuckDB over Parquet files.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.commit.registry_updates import registry_of
from s3dest_dagster.commit.written_columns import columns_of_stream
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import AvroFormat, ParquetFormat
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

STREAM = StreamId(None, "events")
NAMES = ["a-b", "a_b", "a b", "A_b", "+1", "-1", "名前", "住所", "a_b_string"]
KINDS: dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]] = {
    "integer": ({"type": "integer"}, st.sampled_from([0, 1, -7, 2**53, 2**53 + 1])),
    "number": ({"type": "number"}, st.sampled_from([0.5, -2.25, 3.0])),
    "text": ({"type": "string"}, st.sampled_from(["", "x", "12", "名"])),
    "boolean": ({"type": "boolean"}, st.booleans()),
    "list": ({"type": "array", "items": {"type": "integer"}}, st.lists(st.integers(0, 5), max_size=2)),
}
Sync = tuple[dict[str, str], list[dict[str, Any]]]


@st.composite
def syncs(draw: st.DrawFn) -> Sync:
    """The kind of each field in any order, and records with some of these fields."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=5))
    kinds = {name: draw(st.sampled_from(sorted(KINDS))) for name in names}
    fields = st.fixed_dictionaries({}, optional={name: KINDS[kind][1] for name, kind in kinds.items()})
    return kinds, draw(st.lists(fields, min_size=1, max_size=3))


def landed(server: S3Server, settings: Any, history: list[Sync], *, declared: bool) -> tuple[Any, list[dict[str, Any]]]:
    """Lands a history. Returns the destination, and the records, each with its number."""
    chosen = destination(server.new_bucket(), format=settings, name_style="snake")
    records: list[dict[str, Any]] = []
    for number, (kinds, values) in enumerate(history):
        numbered = [{"id": len(records) + row, **value} for row, value in enumerate(values)]
        records += numbered
        properties = {name: KINDS[kind][0] for name, kind in kinds.items()} | {"id": {"type": "integer"}}
        stream = Stream(
            name=STREAM.name,
            json_schema={"properties": properties} if declared else None,
            sync_mode=SyncMode.APPEND,
        )
        with target(server, chosen) as opened:
            land([batch_of(numbered)], opened, stream, sync(f"s{number}"))
    return chosen, records


def columns_by_source(server: S3Server, chosen: Any) -> dict[str, list[str]]:
    """All columns that each field has or had, according to the registry."""
    registry = registry_of(server.open(chosen), chosen, STREAM)
    assert registry is not None
    found: dict[str, list[str]] = {}
    for field in columns_of_stream(registry.columns).fields:
        found.setdefault(field.source, []).append(field.name)
    names = [name.lower() for columns in found.values() for name in columns]
    assert len(set(names)) == len(names)
    return found


def by_source(row: dict[str, Any], columns: dict[str, list[str]]) -> dict[str, Any]:
    """A row under the source's names. A field has at most one value, in one of its columns. If a number is only the
    nearest one, the overflow has the exact one."""
    overflow = dict(row[OVERFLOW] or ())
    found: dict[str, Any] = {}
    for source, names in columns.items():
        values = [row[name] for name in names if row.get(name) is not None]
        assert len(values) <= 1, (source, row)
        if values:
            found[source] = json.loads(overflow[source]) if source in overflow else values[0]
    return found


def assert_found(rows: list[dict[str, Any]], columns: dict[str, list[str]], records: list[dict[str, Any]]) -> None:
    found = sorted((by_source(row, columns) for row in rows), key=lambda row: row["id"])
    assert found == records


def rows_by_the_library(server: S3Server, chosen: Any) -> list[dict[str, Any]]:
    return read_scope(server.open(chosen), chosen.template, Scope(STREAM)).to_pylist()


def rows_by_duckdb(server: S3Server, chosen: Any) -> list[dict[str, Any]]:
    """The rows of all files together. No two columns of them have one field id."""
    client = server.client()
    ids: dict[int, str] = {}
    with TemporaryDirectory() as directory:
        for number, key in enumerate(data_keys(server, chosen.s3_bucket_name)):
            body = client.get_object(Bucket=chosen.s3_bucket_name, Key=key)["Body"].read()
            Path(directory, f"{number}.parquet").write_bytes(body)
            for field in pq.read_schema(io.BytesIO(body)):
                column = int(field.metadata.get(b"PARQUET:field_id", b"-1")) if field.metadata else -1
                assert column <= 0 or ids.setdefault(column, field.name) == field.name
        files = f"{directory}/*.parquet"
        return duckdb.sql(f"from read_parquet('{files}', union_by_name = true)").to_arrow_table().to_pylist()


@pytest.mark.parametrize(
    ("settings", "readers"),
    [(AvroFormat(), [rows_by_the_library]), (ParquetFormat(), [rows_by_the_library, rows_by_duckdb])],
    ids=["avro", "parquet"],
)
@given(history=st.lists(syncs(), min_size=2, max_size=5))
def test_every_reader_finds_every_value_in_a_column_of_its_field(
    moto_s3: S3Server, settings, readers, history: list[Sync]
) -> None:
    chosen, records = landed(moto_s3, settings, history, declared=True)
    columns = columns_by_source(moto_s3, chosen)
    for read in readers:
        assert_found(read(moto_s3, chosen), columns, records)
