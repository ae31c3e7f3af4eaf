"""A schema contract means the same in every format, for JSON records and Arrow data, and in a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from land_and_read import batch_of, destination, sync, target
from servers import S3Server

from s3dest_dagster.batch import ArrowBatch, Batch, State
from s3dest_dagster.errors import SchemaContractError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, Flattening, JsonlFormat, ParquetFormat
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

INTEGER, TEXT = {"type": "integer"}, {"type": "string"}
FORMATS = {
    "avro": AvroFormat(),
    "parquet": ParquetFormat(),
    "jsonl": JsonlFormat(),
    "csv": CsvFormat(flattening=Flattening.ROOT),
}
EVERY_FORMAT = pytest.mark.parametrize("settings", FORMATS.values(), ids=FORMATS)
ROADS = ["json", "arrow"]
KNOWN, KNOWN_RECORD = {"a": INTEGER, "b": INTEGER}, {"a": 1, "b": 1}
CHANGED = {
    "new_column": ({**KNOWN, "c": TEXT}, {**KNOWN_RECORD, "c": "x"}, "c"),
    "new_type": ({**KNOWN, "b": TEXT}, {"a": 2, "b": "x"}, "b"),
    "missing_column": ({"a": INTEGER}, {"a": 2}, "b"),
    "undeclared_field": (KNOWN, {**KNOWN_RECORD, "c": "x"}, "c"),
}
"""The schema, a record and the field of each difference."""


@dataclass
class Lake:
    """A stream that has landed one record, and lands by either road, with its contract at either level."""

    server: S3Server
    settings: Any
    road: str
    of_stream: bool

    def __post_init__(self) -> None:
        self.bucket = self.server.new_bucket()
        self.syncs = 0
        self.land({}, KNOWN, KNOWN_RECORD)

    def land(self, contract: Any, schema: dict[str, Any] | None, record: dict[str, Any]) -> Receipt:
        self.syncs += 1
        with target(self.server, self._destination(contract)) as opened:
            return land([self._batch(record)], opened, self._stream(contract, schema), sync(f"s{self.syncs}"))

    def planned(self, contract: Any, schema: dict[str, Any] | None) -> Any:
        with target(self.server, self._destination(contract)) as opened:
            return plan(opened, [self._stream(contract, schema)], sync("plan")).streams[0]

    def rows(self) -> list[dict[str, Any]]:
        chosen = self._destination({})
        table = read_scope(self.server.open(chosen), chosen.template, Scope(StreamId(None, "events")))
        assert table is not None
        names = [name for name in table.column_names if not name.startswith("_airbyte")]
        return table.select(names).to_pylist()

    def _destination(self, contract: Any) -> Any:
        given = {} if self.of_stream else {"schema_contract": contract}
        return destination(self.bucket, format=self.settings, **given)

    def _stream(self, contract: Any, schema: dict[str, Any] | None) -> Stream:
        return Stream(
            name="events",
            json_schema=None if schema is None else {"properties": schema},
            sync_mode=SyncMode.APPEND,
            settings={"schema_contract": contract} if self.of_stream and contract else {},
        )

    def _batch(self, record: dict[str, Any]) -> Batch:
        if self.road == "json":
            return batch_of([record])
        return ArrowBatch(pa.RecordBatch.from_pylist([record]), np.zeros(1, np.int64))


@EVERY_FORMAT
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("difference", CHANGED)
def test_a_frozen_difference_fails_in_the_plan_and_in_the_landing(
    moto_s3: S3Server, settings, road, difference
) -> None:
    lake = Lake(moto_s3, settings, road, of_stream=road == "json")
    schema, record, field = CHANGED[difference]
    contract = {difference: "freeze"}
    with pytest.raises(SchemaContractError, match=difference) as refused:
        lake.land(contract, schema, record)
    assert refused.value.field == field
    if difference != "undeclared_field":
        with pytest.raises(SchemaContractError) as planned:
            lake.planned(contract, schema)
        assert str(planned.value) == str(refused.value)
    assert lake.rows() == [KNOWN_RECORD]
    lake.land(contract, KNOWN, KNOWN_RECORD)


@EVERY_FORMAT
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("difference", CHANGED)
def test_a_discarded_difference_leaves_the_columns_as_they_are(moto_s3: S3Server, settings, road, difference) -> None:
    lake = Lake(moto_s3, settings, road, of_stream=road == "arrow")
    schema, record, field = CHANGED[difference]
    before = [name for name, _, _ in lake.planned({}, KNOWN).columns]
    for _ in range(2):
        planned = lake.planned("discard", schema)
        assert [name for name, _, _ in planned.columns] == before
        changes = [(each.field, each.difference, each.verdict) for each in planned.column_changes]
        assert changes == ([] if difference == "undeclared_field" else [(field, difference, "discard")])
        receipt = lake.land("discard", schema, record)
        if settings.is_typed:
            assert receipt.schema_changes is None
            counted = {**receipt.counts.tally.undeclared, **receipt.counts.tally.overflowed}
            assert counted == ({} if difference == "missing_column" else {field: 1})
    if settings.is_typed:
        kept = {name: record.get(name) if difference != "new_type" or name == "a" else None for name in KNOWN}
        assert lake.rows() == [KNOWN_RECORD, kept, kept]
    lake.land({}, KNOWN, KNOWN_RECORD)
    assert len(lake.rows()) == 4


@EVERY_FORMAT
def test_a_frozen_difference_in_nested_objects_and_lists_fails_alike(moto_s3: S3Server, settings) -> None:
    def of(**inner: Any) -> dict[str, Any]:
        nested = {"type": "object", "properties": inner}
        return {"a": INTEGER, "o": nested, "l": {"type": "array", "items": nested}}

    lake = Lake(moto_s3, settings, "json", of_stream=True)
    lake.land({}, of(x=INTEGER, y=INTEGER), {"a": 1, "o": {"x": 1}, "l": [{"x": 1}]})
    for difference, schema in (
        ("new_column", of(x=INTEGER, y=INTEGER, z=TEXT)),
        ("new_type", of(x=INTEGER, y=TEXT)),
        ("missing_column", of(x=INTEGER)),
    ):
        for attempt in (lake.planned, lambda contract, schema: lake.land(contract, schema, {"a": 2})):
            with pytest.raises(SchemaContractError, match=r"'l\[\]\.[yz]'") as refused:
                attempt({difference: "freeze"}, schema)
            assert "'o." in str(refused.value)
    assert len(lake.rows()) == 2


@EVERY_FORMAT
@pytest.mark.parametrize("road", ROADS)
def test_a_frozen_undeclared_field_of_a_nested_object_fails_and_entries_of_an_open_one_do_not(
    moto_s3: S3Server, settings, road
) -> None:
    lake = Lake(moto_s3, settings, road, of_stream=True)
    schema = {
        "o": {"type": "object", "properties": {"x": INTEGER}},
        "l": {"type": "array", "items": {"type": "object", "properties": {"x": INTEGER}}},
        "open": {"type": "object"},
    }
    contract = {"undeclared_field": "freeze"}
    for record, field in (
        ({"o": {"x": 1, "y": 2}}, "o.y"),
        ({"l": [{"x": 1}, {"x": 2, "z": {"w": 1}}]}, "l.z"),
        ({"n": 1}, "n"),
    ):
        with pytest.raises(SchemaContractError, match="freezes undeclared_field") as refused:
            lake.land(contract, schema, record)
        assert refused.value.field == field
    lake.land(contract, schema, {"o": {"x": 1}, "l": [{"x": 1}], "open": {"any": {"thing": 1}}})
    assert len(lake.rows()) == 2


@EVERY_FORMAT
@pytest.mark.parametrize("difference", ["new_column", "new_type", "undeclared_field"])
def test_a_frozen_difference_fails_after_checkpoints_that_stay(moto_s3: S3Server, settings, difference) -> None:
    lake = Lake(moto_s3, settings, "json", of_stream=False)
    chosen = destination(
        lake.bucket, format=settings, schema_contract={difference: "freeze"}, checkpoint_interval_s=0.000001
    )
    schema = {"properties": KNOWN} if difference == "undeclared_field" else None
    source = Stream(name="events", json_schema=schema, sync_mode=SyncMode.APPEND)
    items = [
        batch_of([KNOWN_RECORD]),
        State(source.id, b'{"cursor":1}', b"{}"),
        batch_of([{"a": 1, "b": 1.5} if difference == "new_type" else {**KNOWN_RECORD, "c": "x"}]),
    ]
    with target(moto_s3, chosen) as opened, pytest.raises(SchemaContractError, match=f"freezes {difference}"):
        land(items, opened, source, sync("long"))
    assert lake.rows() == [KNOWN_RECORD, KNOWN_RECORD]
