"""A stream's columns through many syncs: names for good, types that only widen, one table over all objects."""

from __future__ import annotations

from typing import Any

import pytest
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.ingest.landing import land
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
