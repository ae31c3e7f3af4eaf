"""A stream's columns through many syncs: names for good, types that only widen, one table over all objects."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.batch import Tally
from s3dest_dagster.commit.documents import registry_key
from s3dest_dagster.commit.registry_updates import registry_of
from s3dest_dagster.commit.written_columns import columns_of_stream
from s3dest_dagster.errors import SchemaContractError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, Flattening, JsonlFormat, ParquetFormat
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

FORMATS = {
    "avro": AvroFormat(),
    "parquet": ParquetFormat(),
    "jsonl": JsonlFormat(),
    "csv": CsvFormat(flattening=Flattening.ROOT),
}
INTEGER, NUMBER, TEXT = ({"type": word} for word in ("integer", "number", "string"))
DATE, TIMESTAMP = ({"type": "string", "format": word} for word in ("date", "date-time"))
EVERY_FORMAT = pytest.mark.parametrize("settings", FORMATS.values(), ids=FORMATS)
TYPED = pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
STREAM = StreamId(None, "events")


class Lake:
    """A stream on a server, landed sync by sync."""

    def __init__(self, server: S3Server, settings: Any, mode: SyncMode = SyncMode.APPEND) -> None:
        self.server = server
        self.bucket = server.new_bucket()
        self.settings = destination(self.bucket, format=settings)
        self.mode = mode
        self._syncs = 0

    def land(self, schema: dict[str, Any] | None, *batches: list[dict[str, Any]], **more: Any):
        self._syncs += 1
        stream = Stream(
            name=STREAM.name,
            json_schema=None if schema is None else {"properties": schema},
            sync_mode=more.pop("mode", self.mode),
        )
        with target(self.server, more.pop("settings", self.settings)) as opened:
            return land(map(batch_of, batches), opened, stream, sync(f"s{self._syncs}"), **more)

    def table(self):
        """All records of the stream as the library reads them."""
        return read_scope(self.server.open(self.settings), self.settings.template, Scope(STREAM))

    def rows(self) -> list[dict[str, Any]]:
        """All records as the library reads them: values other than null, without the envelope."""
        return [
            {name: value for name, value in row.items() if value is not None and not name.startswith("_airbyte")}
            for row in self.table().to_pylist()
        ]

    def files(self) -> list[bytes]:
        client = self.server.client()
        keys = data_keys(self.server, self.bucket)
        return [client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys]


@EVERY_FORMAT
@pytest.mark.parametrize(("one", "other"), [("+1", "-1"), ("名前", "住所"), ("a-b", "a_b")])
def test_properties_in_another_order_keep_their_columns(moto_s3: S3Server, settings, one: str, other: str) -> None:
    lake = Lake(moto_s3, settings)
    lake.land({one: INTEGER, other: INTEGER}, [{one: 1, other: 2}])
    receipt = lake.land({other: INTEGER, one: INTEGER}, [{one: 1, other: 2}])
    assert receipt.schema_changes is None
    first, second = lake.rows()
    assert first == second
    assert sorted(first.values()) == [1, 2]


@EVERY_FORMAT
def test_a_column_of_nulls_gets_its_type_from_the_first_value(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    lake.land(None, [{"id": 1, "x": None}])
    lake.land(None, [{"id": 2, "x": 5}])
    lake.land(None, [{"id": 3, "x": None}], [{"id": 4, "x": 6}])
    assert lake.rows() == [{"id": 1}, {"id": 2, "x": 5}, {"id": 3}, {"id": 4, "x": 6}]


@EVERY_FORMAT
def test_a_column_of_a_stream_without_a_schema_that_starts_in_a_later_batch(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    receipt = lake.land(None, [{"id": 1, "x": None}], [{"id": 2, "x": 5, "y": "a"}], [{"id": 3, "z": {"a": [1.5]}}])
    if settings.is_typed:
        assert [each.close_reason for each in receipt.objects] == ["schema", "schema", "end"]
        assert not receipt.counts.tally
    values = [{"id": 1}, {"id": 2, "x": 5, "y": "a"}, {"id": 3, "z": {"a": [1.5]}}]
    if settings == FORMATS["jsonl"]:
        # Lines need no columns, so that later fields are among the undeclared ones.
        assert [row["id"] for row in lake.rows()] == [1, 2, 3]
    elif settings.is_typed:
        assert [lake_row(row) for row in lake.rows()] == values


def lake_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the overflow of its records."""
    return {
        name: {key: each for key, each in value.items() if not key.startswith("_airbyte")}
        if isinstance(value, dict)
        else value
        for name, value in row.items()
    }


@TYPED
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_that_wait_while_the_columns_change_are_encoded_anew(moto_s3: S3Server, settings, workers) -> None:
    lake = Lake(moto_s3, settings)
    lake.settings = destination(lake.bucket, format=settings, encode_workers=workers)
    groups = [[{"id": 10 * group + row, f"c{group // 3}": row} for row in range(3)] for group in range(9)]
    receipt = lake.land(None, *groups)
    assert not receipt.counts.tally
    assert [each.rows for each in receipt.objects] == [9, 9, 9]
    assert lake.rows() == [row for group in groups for row in group]


@TYPED
def test_an_append_of_another_type_gets_a_column_beside_the_old_one(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    lake.land({"a": INTEGER, "b": TEXT}, [{"a": 1, "b": "x"}])
    lake.land({"a": TEXT, "b": TEXT}, [{"a": "one", "b": "y"}])
    lake.land({"a": INTEGER, "b": TEXT}, [{"a": 3, "b": "z"}])
    assert lake.rows() == [{"a": 1, "b": "x"}, {"a_string": "one", "b": "y"}, {"a": 3, "b": "z"}]
    names = [name for name in lake.table().column_names if not name.startswith("_airbyte")]
    assert names == ["a", "a_string", "b"]


@pytest.mark.parametrize("settings", [FORMATS["jsonl"], FORMATS["csv"]], ids=["jsonl", "csv"])
def test_a_format_without_types_keeps_one_column_whatever_its_type(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    lake.land({"a": INTEGER}, [{"a": 1}])
    lake.land({"a": TEXT}, [{"a": "one"}])
    assert lake.rows() == [{"a": "1"}, {"a": "one"}]


@TYPED
def test_a_full_refresh_changes_the_type_in_place(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings, SyncMode.FULL_REFRESH)
    lake.land({"a": INTEGER}, [{"a": 1}])
    lake.land({"a": TEXT}, [{"a": "one"}])
    assert lake.rows() == [{"a": "one"}]
    lake.land({"a": TEXT}, [{"a": "two"}], mode=SyncMode.APPEND)
    assert lake.rows() == [{"a": "one"}, {"a": "two"}]


@TYPED
def test_a_full_refresh_that_fails_leaves_the_old_type_to_later_syncs(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings, SyncMode.FULL_REFRESH)
    lake.land({"a": INTEGER}, [{"a": 1}])

    def broken():
        yield batch_of([{"a": "one"}])
        raise RuntimeError("the source is gone")

    stream = Stream(name=STREAM.name, json_schema={"properties": {"a": TEXT}})
    with target(moto_s3, lake.settings) as opened, pytest.raises(RuntimeError):
        land(broken(), opened, stream, sync("broken"))
    lake.land({"a": TEXT}, [{"a": "two"}], mode=SyncMode.APPEND)
    assert lake.rows() == [{"a": 1}, {"a_string": "two"}]
    lake.land({"a": INTEGER}, [{"a": 3}], mode=SyncMode.APPEND)
    assert lake.rows() == [{"a": 1}, {"a_string": "two"}, {"a": 3}]


@TYPED
def test_integers_become_numbers_if_doubles_hold_them(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    lake.land({"a": INTEGER, "b": {"type": "array", "items": INTEGER}}, [{"a": 2**53, "b": [1, 2]}])
    lake.land({"a": NUMBER, "b": {"type": "array", "items": NUMBER}}, [{"a": 1.5, "b": [0.5]}])
    assert lake.rows() == [{"a": 2.0**53, "b": [1.0, 2.0]}, {"a": 1.5, "b": [0.5]}]


@TYPED
@pytest.mark.parametrize("big", [2**53 + 1, -(2**53) - 1])
def test_integers_beyond_doubles_keep_their_column(moto_s3: S3Server, settings, big: int) -> None:
    lake = Lake(moto_s3, settings)
    lake.land({"a": INTEGER, "b": {"type": "array", "items": INTEGER}}, [{"a": 1, "b": [1, big]}])
    lake.land({"a": INTEGER, "b": {"type": "array", "items": INTEGER}}, [{"a": big, "b": [1]}])
    lake.land({"a": NUMBER, "b": {"type": "array", "items": NUMBER}}, [{"a": 1.5, "b": [0.5]}])
    assert lake.rows()[:2] == [{"a": 1, "b": [1, big]}, {"a": big, "b": [1]}]
    assert lake.rows()[2] == {"a_number": 1.5, "b_array": [0.5]}


@TYPED
def test_integers_beyond_doubles_keep_their_column_within_one_sync(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    lake.land(None, [{"a": 2**53 + 1}], [{"a": 1.5}])
    assert lake.rows() == [{"a": 2**53 + 1}, {"a_number": 1.5}]


@TYPED
def test_integers_beyond_doubles_keep_their_column_after_a_refresh_that_failed(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    lake.land({"a": INTEGER}, [{"a": 2**53 + 1}])

    def broken():
        yield batch_of([{"a": "one"}])
        raise RuntimeError("the source is gone")

    stream = Stream(name=STREAM.name, json_schema={"properties": {"a": TEXT}})
    with target(moto_s3, lake.settings) as opened, pytest.raises(RuntimeError):
        land(broken(), opened, stream, sync("broken"))
    lake.land({"a": NUMBER}, [{"a": 1.5}])
    assert lake.rows() == [{"a": 2**53 + 1}, {"a_number": 1.5}]


@TYPED
def test_dates_become_timestamps(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    lake.land({"at": DATE}, [{"at": "2026-01-05"}])
    lake.land({"at": TIMESTAMP}, [{"at": "2026-01-05T10:30:00Z"}])
    assert [row["at"].isoformat() for row in lake.rows()] == ["2026-01-05T00:00:00+00:00", "2026-01-05T10:30:00+00:00"]


def test_a_declared_null_of_parquet_gets_its_type_from_the_first_value(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    schema = {"id": INTEGER, "x": {"type": "null"}}
    lake.land(schema, [{"id": 1, "x": None}], [{"id": 2, "x": 5, "undeclared": 1}], [{"id": 3, "x": "six"}])
    assert lake.rows() == [{"id": 1}, {"id": 2, "x": 5}, {"id": 3}]
    lake.land(schema, [{"id": 4, "x": 7}])
    assert lake.rows()[-1] == {"id": 4, "x": 7}


def registry(lake: Lake):
    found = registry_of(lake.server.open(lake.settings), lake.settings, STREAM)
    assert found is not None
    return found


def test_two_landings_that_reserve_columns_at_once_end_with_one_map(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    lake.land({"id": INTEGER}, [{"id": 0}])
    names = {"a": ["a-b", "x"], "b": ["a b", "y"]}

    def landing(partition: str, opened) -> Landing:
        schema = {"properties": {"id": INTEGER} | dict.fromkeys(names[partition], TEXT)}
        stream = Stream(name=STREAM.name, json_schema=schema, sync_mode=SyncMode.APPEND)
        return Landing(opened, stream, sync(partition), scope=Scope(STREAM, partition))

    with target(moto_s3, lake.settings) as opened, landing("a", opened) as one, landing("b", opened) as other:
        # Both have read the registry before either of them reserves its columns.
        for number, each in enumerate((one, other)):
            each.append_batch(batch_of([{"id": 1, **dict.fromkeys(names["ab"[number]], "v")}]))
        one.commit()
        other.commit()
    columns = columns_of_stream(registry(lake).columns).fields
    assert [field.source for field in columns] == ["id", "a-b", "x", "a b", "y"]
    assert len({field.name for field in columns}) == len({field.id for field in columns}) == 5
    for partition in "ab":
        table = read_scope(moto_s3.open(lake.settings), lake.settings.template, Scope(STREAM, partition))
        written = {field.name for field in columns if field.source in names[partition]}
        assert written <= set(table.column_names)


@TYPED
def test_a_lost_registry_is_made_anew_from_the_live_objects(moto_s3: S3Server, settings) -> None:
    lake = Lake(moto_s3, settings)
    lake.land({"a-b": INTEGER, "gone": TEXT}, [{"a-b": 1, "gone": "x"}])
    lake.land(
        {"a-b": TEXT, "in": {"type": "object", "properties": {"c d": INTEGER}}}, [{"a-b": "one", "in": {"c d": 7}}]
    )
    before = registry(lake)
    bucket = moto_s3.open(lake.settings)
    bucket.delete(each.key for each in bucket.list_objects(f"{before.location.root}~stream."))
    lake.land({"a_b": TEXT, "a-b": TEXT, "gone": INTEGER}, [{"a_b": "new", "a-b": "two", "gone": 5}])
    old, new = (columns_of_stream(each.columns) for each in (before, registry(lake)))
    known = {(field.source, field.name, field.id) for field in old.all_fields()}
    assert known <= {(field.source, field.name, field.id) for field in new.all_fields()}
    assert old.retired <= new.retired
    rows = lake.rows()
    assert rows[0] == {"a_b": 1, "gone": "x"}
    assert rows[2]["a_b_string"] == "two"
    assert rows[2]["gone_integer"] == 5


def test_the_registry_of_many_columns_stays_small(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    lake.land({f"property-{number}": INTEGER for number in range(2_000)}, [{"property-1": 1}])
    key = registry_key(registry(lake).location.root)
    assert moto_s3.client().head_object(Bucket=lake.bucket, Key=key)["ContentLength"] <= 200_000


def test_parquet_files_have_the_ids_of_the_registry_at_every_level(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    inner = {"type": "object", "properties": {"x": INTEGER}}
    lake.land({"a": inner, "b": {"type": "array", "items": inner}}, [{"a": {"x": 1}, "b": [{"x": 2}]}])
    schema = pq.read_schema(io.BytesIO(lake.files()[0]))
    a, b = schema.field("a"), schema.field("b")
    found = [a, a.type.field("x"), b, b.type.value_type.field("x")]
    assert [int(field.metadata[b"PARQUET:field_id"]) for field in found] == [
        field.id for field in columns_of_stream(registry(lake).columns).all_fields()
    ]


def test_a_plan_shows_how_the_columns_would_change(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    lake.land({"a": INTEGER, "b": INTEGER, "c": TEXT}, [{"a": 1, "b": 1, "c": "x"}])
    schema = {"properties": {"a": NUMBER, "b": TEXT, "new": TEXT, "later": {"type": "null"}}}
    stream = Stream(name=STREAM.name, json_schema=schema, sync_mode=SyncMode.APPEND)
    before = registry(lake)
    with target(moto_s3, lake.settings) as opened:
        (planned,) = plan(opened, [stream], sync("plan")).streams
    assert [(name, kind) for name, kind, _ in planned.columns] == [
        ("a", "number"),
        ("b_string", "string"),
        ("new", "string"),
    ]
    assert [(each.field, each.difference) for each in planned.column_changes] == [
        ("a", "new_type"),
        ("b", "new_type"),
        ("new", "new_column"),
        ("later", "new_column"),
        ("c", "missing_column"),
    ]
    assert "later" in [each.field for each in planned.diagnostics]
    assert registry(lake) == before


def contract(lake: Lake, **verdicts: str) -> dict[str, Any]:
    return {"settings": replace(lake.settings, schema_contract=verdicts)}


def test_a_contract_fails_the_sync_before_anything_of_the_difference_is_visible(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    with pytest.raises(SchemaContractError, match="new_stream"):
        lake.land({"a": INTEGER}, [{"a": 1}], **contract(lake, new_stream="freeze"))
    lake.land({"a": INTEGER}, [{"a": 1}])
    before = registry(lake)
    for schema, records, verdict in (
        ({"a": TEXT}, [{"a": "x"}], "new_type"),
        ({"a": INTEGER, "b": TEXT}, [{"a": 1}], "new_column"),
        ({"a": INTEGER}, [{"a": 1}, {"a": 2, "b": 3}], "undeclared_field"),
        ({"b": TEXT}, [{"b": "x"}], "missing_column"),
    ):
        verdicts = {"new_column": "evolve", verdict: "freeze"}
        with pytest.raises(SchemaContractError, match=verdict):
            lake.land(schema, records, **contract(lake, **verdicts))
        assert registry(lake) == before
    assert lake.rows() == [{"a": 1}]


def test_a_contract_discards_a_new_column_and_another_type(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    lake.land({"a": INTEGER}, [{"a": 1}])
    chosen = contract(lake, new_column="discard", new_type="discard", undeclared_field="freeze")
    receipt = lake.land({"a": TEXT, "b": TEXT}, [{"a": "x", "b": "y"}], **chosen)
    assert receipt.counts.tally == Tally(overflowed={"a": 1}, undeclared={"b": 1})
    assert lake.rows() == [{"a": 1}, {}]
