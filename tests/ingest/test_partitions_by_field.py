"""Objects by the data's own fields: every record in the directory of its values, under one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from land_and_read import START, batch_of, data_keys, destination, open_uploads, sync, target
from servers import S3Server

from s3dest_dagster.batch import ArrowBatch, Batch, State
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.partition_values import RecordGrouper
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.maintenance import sweep
from s3dest_dagster.errors import RecordError, SettingsError, TemplateError
from s3dest_dagster.formats import read_table
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.keys.directories import NULL_DIRECTORY, escaped, is_spelled
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)
from s3dest_dagster.settings.partition_fields import partition_rule
from s3dest_dagster.shards import Order, begin, commit, stage
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

PATH = "${NAMESPACE}/${STREAM_NAME}/${FIELDS}/"
DAY_AND_REGION = [{"field": "at", "as": "day", "name": "dt"}, "region"]
SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "at": {"type": ["null", "string"], "format": "date-time"},
        "region": {"type": ["null", "string"]},
        "address": {"type": "object", "properties": {"country": {"type": "string"}}},
        "price": {"type": "number"},
        "opens": {"type": "string", "format": "time"},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
}
NONE = TextCompression.NONE
FORMATS = [
    pytest.param(JsonlFormat(compression=NONE), id="jsonl"),
    pytest.param(JsonlFormat(flattening=Flattening.ROOT), id="flat-jsonl-gzip"),
    pytest.param(CsvFormat(compression=NONE), id="csv"),
    pytest.param(CsvFormat(flattening=Flattening.ROOT), id="flat-csv-gzip"),
    pytest.param(AvroFormat(codec="Deflate", compression_level=1), id="avro"),
    pytest.param(ParquetFormat(compression_codec="SNAPPY"), id="parquet"),
]
RECORDS: list[dict[str, Any]] = [
    {"id": 0, "at": "2026-01-05T23:59:59Z", "region": "eu", "address": {"country": "DE"}},
    {"id": 1, "at": "2026-01-06T00:00:00+01:00", "region": "us"},
    {"id": 2, "at": "2026-01-06T00:00:00Z", "region": "eu\r\nwest", "address": {"country": "FR"}},
    {"id": 3, "at": "2026-01-05T00:00:00Z", "region": "eu"},
    {"id": 4, "at": None, "region": ""},
    {"id": 5, "region": None, "at": "yesterday"},
]
DIRECTORIES = {
    "dt=2026-01-05/region=eu": [0, 3],
    "dt=2026-01-05/region=us": [1],
    "dt=2026-01-06/region=eu%0D%0Awest": [2],
    f"dt={NULL_DIRECTORY}/region={NULL_DIRECTORY}": [4, 5],
}


def orders(by: Iterable[Any] = DAY_AND_REGION, mode: SyncMode = SyncMode.FULL_REFRESH, **settings: Any) -> Stream:
    return Stream(
        name="orders",
        namespace="shop",
        json_schema=SCHEMA,
        sync_mode=mode,
        settings={"partition_by": list(by), **settings},  # type: ignore[arg-type]
    )


def landed(
    server: S3Server,
    name: str,
    records: Iterable[Batch],
    of: Stream | None = None,
    sync_id: str = "s1",
    **settings: Any,
) -> Receipt:
    with target(server, destination(name, s3_path_format=PATH, **settings)) as opened:
        return land(records, opened, of or orders(), sync(sync_id))


def ids_of(server: S3Server, name: str, item: SegmentObject, form: Any) -> list[int]:
    body = server.client().get_object(Bucket=name, Key=item.key)["Body"].read()
    ids: list[int] = read_table(form, orders(), body)["id"].to_pylist()
    return ids


def by_directory(server: S3Server, name: str, receipt: Receipt, form: Any) -> dict[str, list[int]]:
    """The ids of the records in each directory, object by object."""
    found: dict[str, list[int]] = {}
    for each in receipt.objects:
        directory = each.key.removeprefix("data/shop/orders/").rpartition("/")[0]
        found.setdefault(directory, []).extend(ids_of(server, name, each, form))
    return found


def whole_scope(server: S3Server, name: str, form: Any) -> list[int]:
    made = destination(name, s3_path_format=PATH, format=form)
    scope = Scope(StreamId("shop", "orders"))
    checked = verify(server.open(made), made.template, scope, deep=True)
    assert checked.problems == ()
    table = read_scope(server.open(made), made.template, scope)
    return sorted(table["id"].to_pylist()) if table is not None else []


# ---------------------------------------------------------------------- the records are where their values say


@pytest.mark.parametrize("form", FORMATS)
def test_every_record_is_in_the_directory_of_its_values(moto_s3: S3Server, form: Any) -> None:
    name = moto_s3.new_bucket()
    receipt = landed(moto_s3, name, [batch_of(RECORDS[:3]), batch_of(RECORDS[3:])], format=form)
    assert by_directory(moto_s3, name, receipt, form) == DIRECTORIES
    assert whole_scope(moto_s3, name, form) == [0, 1, 2, 3, 4, 5]
    for each in receipt.objects:
        assert each.partition_values is not None
        assert f"/dt={each.partition_values['dt'] or NULL_DIRECTORY}/region=" in each.key
    (nulls,) = [each for each in receipt.objects if each.partition_values == {"dt": None, "region": None}]
    assert nulls.rows == 2


@pytest.mark.parametrize("form", FORMATS)
def test_arrow_data_gets_the_same_directories(moto_s3: S3Server, form: Any) -> None:
    name = moto_s3.new_bucket()
    at = [datetime.fromisoformat(str(each["at"])) if each["id"] < 4 else None for each in RECORDS]
    data = pa.RecordBatch.from_pydict(
        {
            "id": [each["id"] for each in RECORDS],
            "at": pa.array(at, pa.timestamp("ms", "UTC")),
            "region": pa.array([each["region"] for each in RECORDS]).dictionary_encode(),
        }
    )
    receipt = landed(moto_s3, name, [ArrowBatch(data, np.zeros(6, np.int64))], format=form)
    assert by_directory(moto_s3, name, receipt, form) == DIRECTORIES


@pytest.mark.parametrize("form", FORMATS)
def test_a_moment_that_is_finer_than_a_microsecond_is_in_the_directory_of_its_day(moto_s3: S3Server, form: Any) -> None:
    """Its column cannot have it: the value is in the overflow column, or in the text."""
    name, nanos = moto_s3.new_bucket(), pa.timestamp("ns", "UTC")
    values = ["2026-01-05T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z", None, "2026-01-06T00:00:00Z"]
    data = pa.RecordBatch.from_pydict({"id": [4, 5, 6, 7], "at": pa.array([1767657599999999999, -1, None, 0], nanos)})
    json_records = batch_of({"id": number, "at": value} for number, value in enumerate(values))
    by = orders([{"field": "at", "as": "day", "name": "dt"}])
    receipt = landed(moto_s3, name, [json_records, ArrowBatch(data, np.zeros(4, np.int64))], by, format=form)
    assert by_directory(moto_s3, name, receipt, form) == {
        "dt=2026-01-05": [0, 4],
        "dt=1969-12-31": [1, 5],
        f"dt={NULL_DIRECTORY}": [2, 6],
        "dt=2026-01-06": [3],
        "dt=1970-01-01": [7],
    }


@pytest.mark.parametrize("form", FORMATS)
def test_arrow_types_without_a_take_get_directories(moto_s3: S3Server, form: Any) -> None:
    """Polars hands over texts as views."""
    name = moto_s3.new_bucket()
    regions = ["us", "eu", None, "us", "eu"]
    data = pa.RecordBatch.from_pydict(
        {
            "id": pa.array(range(5)),
            "region": pa.array(regions, pa.string_view()),
            "tags": pa.array([["a"], [], None, ["b", "c"], ["d"]], pa.list_(pa.string_view())),
            "address": pa.array(
                [{"country": region} for region in regions], pa.struct([("country", pa.string_view())])
            ),
            "bytes": pa.array([b"x"] * 5, pa.binary_view()),
            "same": pc.run_end_encode(pa.array(["s", "s", "s", "t", "t"])),
        }
    )
    of = Stream(name="orders", namespace="shop", settings={"partition_by": ["region"]})  # type: ignore[arg-type]
    receipt = landed(moto_s3, name, [ArrowBatch(data, np.zeros(5, np.int64))], of, format=form)
    assert by_directory(moto_s3, name, receipt, form) == {
        "region=us": [0, 3],
        "region=eu": [1, 4],
        f"region={NULL_DIRECTORY}": [2],
    }


def test_a_stream_without_the_setting_gets_nothing_in_its_place(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    landed(moto_s3, name, [batch_of(RECORDS)], orders(()))
    assert data_keys(moto_s3, name) == ["data/shop/orders/0.jsonl"]


def test_plain_directories_have_no_names(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    regions = ["eu", ".", "..", "_s3dest", ".hidden", "a/b", None]
    records = [{"id": number, "region": region} for number, region in enumerate(regions)]
    landed(moto_s3, name, [batch_of(records)], orders(["region"]), fields_style="plain")
    directories = [key.split("/")[3] for key in data_keys(moto_s3, name)]
    expected = ["eu", "%2E", "%2E%2E", "%5Fs3dest", "%2Ehidden", "a%2Fb", f"%5F{NULL_DIRECTORY[1:]}"]
    assert sorted(directories) == sorted(expected)


@pytest.mark.parametrize(
    ("field", "values", "directories"),
    [
        (
            {"field": "at", "as": "year", "name": "y"},
            ["2026-01-05T00:00:00Z", "0001-01-01T00:00:00Z"],
            ["2026", "0001"],
        ),
        ({"field": "at", "as": "month", "name": "y"}, ["2026-01-05T00:00:00Z", "2025-12-31"], ["2026-01", None]),
        ({"field": "at", "as": "hour", "name": "y"}, ["1969-12-31T23:59:59.999Z"], ["1969-12-31-23"]),
        (
            {"field": "at", "as": "hour", "name": "y", "tz": "America/New_York"},
            ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-01-05T00:00:00Z"],
            ["2026-11-01-01", "2026-11-01-01", "2026-01-04-19"],
        ),
        (
            {"field": "at", "as": "day", "name": "y", "tz": "Asia/Tokyo"},
            ["9999-12-31T14:59:59Z", "9999-12-31T15:00:00Z"],
            ["9999-12-31", None],
        ),
        (
            {"field": "text", "as": "day", "name": "y", "tz": "Asia/Tokyo"},
            ["2026-01-05", "2026-01-05T20:00:00Z", "soon", "2026-02-30"],
            ["2026-01-05", "2026-01-06", None, None],
        ),
        *(
            (
                {"field": field, "as": "hour", "name": "y"},
                [
                    "2026-01-05T10:00:00.123456789",
                    "1969-12-31T23:59:59.999999999",
                    "9999-12-31 23:59:59.9999999",
                    "2016-12-31T23:59:60",
                    "2016-12-31T23:59:60.5",
                    "2026-01-05T10:30:60",
                    "2026-01-05T24:00:00",
                    "2026-02-30T10:00:00.123456789",
                    "2026-01-05T10:00:00",
                    "10:00:00.123456789",
                    None,
                ],
                [
                    "2026-01-05-10",
                    "1969-12-31-23",
                    "9999-12-31-23",
                    "2016-12-31-23",
                    "2016-12-31-23",
                    None,
                    None,
                    None,
                    "2026-01-05-10",
                    None,
                    None,
                ],
            )
            for field in ("at", "text", "local")
        ),
        (
            {"field": "at", "as": "day", "name": "y", "tz": "Europe/Berlin"},
            ["2026-01-05T23:59:59.999999999Z", "2026-01-06T00:59:59.999999999+02:00", "2026-01-05T23:00:00.000000001Z"],
            ["2026-01-06", "2026-01-05", "2026-01-06"],
        ),
        ({"field": "day", "as": "month"}, ["2026-01-05", "2026-13-01"], ["2026-01", None]),
        ("day", ["2026-01-05", 5], ["2026-01-05", None]),
        ("id", [5, 5.0, 12345678901234567, "x", None], ["5", "5", "12345678901234567", None, None]),
        (
            "text",
            ["01234", "1", " a ", "ü", 7, {"a": 1}, [1], ""],
            ["01234", "1", " a ", "ü", "7", '{"a": 1}', "[1]", None],
        ),
        ("flag", [True, False, "true"], ["true", "false", None]),
        ("code", ["x", 7, 1.5, [1]], ["x", "7", None, None]),
        ("address.country", ["DE", None], ["DE", None]),
        (["a.b"], ["x"], ["x"]),
    ],
)
def test_a_value_is_spelled_as_the_column_has_it(field: Any, values: list[Any], directories: list[str | None]) -> None:
    schema = {
        "properties": {
            **SCHEMA["properties"],
            "text": {"type": "string"},
            "day": {"type": "string", "format": "date"},
            "local": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
            "flag": {"type": "boolean"},
            "code": {"type": ["integer", "string"]},
            "a.b": {"type": "string"},
        }
    }
    rule = partition_rule([field if isinstance(field, dict) else {"field": field}])
    path = rule[0].field.steps
    records = [{path[0]: value if len(path) == 1 else {path[1]: value}} for value in values]
    groups = RecordGrouper(rule, record_type(schema, "orders", None), "orders").group(batch_of(records))
    order = range(len(records)) if groups.order is None else groups.order.tolist()
    starts = [0, *groups.ends[:-1]]
    found: dict[int, str | None] = {}
    for start, end, (value,) in zip(starts, groups.ends, groups.values, strict=True):
        found |= {list(order)[position]: value for position in range(start, end)}
    assert [found[number] for number in range(len(records))] == directories


def test_a_value_that_is_too_long_for_a_directory_counts_as_null_and_is_never_cut() -> None:
    assert all(map(is_spelled, ["x" * 200, "ü" * 100, "/" * 66]))
    assert not any(map(is_spelled, ["", "x" * 201, "ü" * 101, "/" * 67, "\ufffe", NULL_DIRECTORY]))


def test_all_characters_that_hive_escapes_are_escaped() -> None:
    hive = [*map(chr, range(0x20)), *"\"#%'*/:=?\\", "\x7f", *"{[]^"]
    assert [char for char in map(chr, range(256)) if escaped(char) != char] == sorted(hive)
    assert all(escaped(char) == f"%{ord(char):02X}" for char in hive)


# ---------------------------------------------------------------------- one commit


def test_nothing_is_visible_before_one_decision_for_all_directories(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    made = destination(name, s3_path_format=PATH)
    with target(moto_s3, made) as opened, Landing(opened, orders(), sync("s1")) as landing:
        landing.append_batch(batch_of(RECORDS))
        landing.stage()
        assert data_keys(moto_s3, name) == []
        assert open_uploads(moto_s3, name) == 4
        receipt = landing.commit()
    assert len(data_keys(moto_s3, name)) == 4
    assert len({each.key for each in receipt.objects}) == 4


def test_an_aborted_sync_leaves_no_upload_of_any_directory(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    made = destination(name, s3_path_format=PATH)
    with target(moto_s3, made) as opened, Landing(opened, orders(), sync("s1")) as landing:
        landing.append_batch(batch_of(RECORDS))
        landing.stage()
    assert data_keys(moto_s3, name) == []
    assert open_uploads(moto_s3, name) == 0


@pytest.mark.parametrize("form", [FORMATS[0], FORMATS[-1]])
def test_a_full_refresh_replaces_directories_that_have_no_records_any_more(moto_s3: S3Server, form: Any) -> None:
    name = moto_s3.new_bucket()
    landed(moto_s3, name, [batch_of(RECORDS)], format=form)
    landed(moto_s3, name, [batch_of(RECORDS[:2])], sync_id="s2", format=form)
    assert whole_scope(moto_s3, name, form) == [0, 1]
    assert len(data_keys(moto_s3, name)) == 2


def test_an_append_adds_to_the_directories(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    adding = orders(mode=SyncMode.APPEND)
    landed(moto_s3, name, [batch_of(RECORDS[:2])], adding)
    receipt = landed(moto_s3, name, [batch_of(RECORDS[2:])], adding, "s2")
    assert whole_scope(moto_s3, name, destination(name).format) == [0, 1, 2, 3, 4, 5]
    assert len({*data_keys(moto_s3, name)}) == 5
    assert receipt.rows == 4


def test_a_checkpoint_publishes_all_directories_so_far(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    states = [State(StreamId("shop", "orders"), b'{"n":%d}' % n, b"{}") for n in range(2)]
    adding = orders(mode=SyncMode.APPEND)
    items = [batch_of(RECORDS[:3]), states[0], batch_of(RECORDS[3:]), states[1]]
    receipt = landed(moto_s3, name, items, adding, checkpoint_mb=0.000001)
    assert receipt.checkpoints >= 1
    assert whole_scope(moto_s3, name, destination(name).format) == [0, 1, 2, 3, 4, 5]
    assert len({each.key for each in receipt.objects}) == len(receipt.objects) == 5


def test_landing_a_partition_again_replaces_all_of_its_directories(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    path = "${STREAM_NAME}/${PARTITION}/${FIELDS}/"
    adding = orders(["region"], SyncMode.APPEND)
    made = destination(name, s3_path_format=path)
    with target(moto_s3, made) as opened:
        for day, sync_id, records in (("mon", "s1", RECORDS), ("tue", "s2", RECORDS), ("mon", "s3", RECORDS[:1])):
            land([batch_of(records)], opened, adding, sync(sync_id), scope=Scope(adding.id, day))
    keys = Counter(key.split("/")[2] for key in data_keys(moto_s3, name))
    assert keys == {"mon": 1, "tue": 4}


def test_a_sync_of_one_millisecond_after_another_uses_no_key_again(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    adding = orders(["region"], SyncMode.APPEND)
    made = destination(name, s3_path_format=PATH)
    with target(moto_s3, made) as opened:
        for number in range(3):
            land([batch_of(RECORDS)], opened, adding, sync(f"s{number}", START))
    assert len(data_keys(moto_s3, name)) == 12


def test_workers_of_one_sync_stage_directories_side_by_side(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    made = destination(name, s3_path_format=PATH)
    with target(moto_s3, made) as opened:
        order = Order.from_json(begin(opened, orders(), sync("s1")).to_json())
    bucket = moto_s3.open(made)
    parts = enumerate((RECORDS[:3], RECORDS[3:]))
    receipts = [stage(order, [batch_of(records)], shard=number, s3=bucket) for number, records in parts]
    assert data_keys(moto_s3, name) == []
    receipt = commit(order, receipts, s3=bucket)
    found = by_directory(moto_s3, name, receipt, made.format)
    assert {directory: sorted(ids) for directory, ids in found.items()} == DIRECTORIES


# ---------------------------------------------------------------------- what is refused


def test_a_number_of_any_length_is_refused_as_a_number(moto_s3: S3Server) -> None:
    """It lands as its text, of which the user knows nothing."""
    data = pa.RecordBatch.from_pydict({"region": pa.array([10**50], pa.decimal256(60, 0))})
    of = Stream(name="orders", namespace="shop", settings={"partition_by": ["region"]})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="which has the type number with any number of digits, and such values"):
        landed(moto_s3, moto_s3.new_bucket(), [ArrowBatch(data, np.zeros(1, np.int64))], of, format=ParquetFormat())


@pytest.mark.parametrize("records", [[{"id": 1}], [{"id": 1, "region": None}]])
def test_a_field_without_values_and_without_a_schema_is_refused_with_the_cure(
    moto_s3: S3Server, records: list[dict[str, Any]]
) -> None:
    of = Stream(name="orders", namespace="shop", settings={"partition_by": ["region"]})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="if those have no value, declare the field in a schema"):
        landed(moto_s3, moto_s3.new_bucket(), [batch_of(records)], of, format=ParquetFormat())


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (["price"], "partition_by names price, which has the type number"),
        (["tags"], "which has the type array"),
        (["address"], "which has the type object"),
        (
            ["regoin"],
            r"partition_by names regoin, which is not known there. Known are address, at, id, opens, price, region",
        ),
        (["address.land"], "partition_by names address.land, which is not known there. Known are country"),
        (["region.name"], "leads into 'region', whose type is string. Name a field of an object"),
        (["opens"], "has the type time, and such values cannot name directories"),
        (["at"], "is a timestamp, with a directory for every moment. Give `as`: 'day'"),
        ([{"field": "id", "as": "day"}], "has the type integer, and `as` takes a part of a date or a timestamp"),
        ([{"field": "at", "as": "day", "name": "AT"}], "which is also the name of the column 'at'"),
        ([{"field": "address.country", "name": "region"}], "which is also the name of the column 'region'"),
        ([{"field": "region", "name": "_airbyte_data"}], "kept for a column of ours"),
    ],
)
def test_a_field_that_cannot_name_directories_is_refused(moto_s3: S3Server, by: list[Any], message: str) -> None:
    name = moto_s3.new_bucket()
    with pytest.raises(SettingsError, match=message) as refused:
        landed(moto_s3, name, [batch_of(RECORDS)], orders(by))
    assert (refused.value.setting, refused.value.stream) == ("partition_by", "shop.orders")
    assert data_keys(moto_s3, name) == []
    assert open_uploads(moto_s3, name) == 0


@pytest.mark.parametrize(
    ("by", "fields", "message"),
    [
        (["region"], {"exclude": ["region"]}, "fields.exclude hides it"),
        (["region"], {"mask": ["region"]}, "fields.mask hides it"),
        (["region"], {"include": ["id"]}, "fields.include hides it"),
        (["address.country"], {"exclude": ["address"]}, "fields.exclude hides it"),
        ([{"field": "at", "as": "day"}], {"hash": ["at"]}, "there is no day of it"),
    ],
)
def test_a_field_that_does_not_land_is_refused(by: list[Any], fields: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        orders(by, fields=fields)


def test_a_hashed_field_names_directories_by_its_hash(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    hashed = orders(["region"], fields={"hash": ["region"]})
    receipt = landed(moto_s3, name, [batch_of(RECORDS)], hashed, hash_key="a key of 16 bytes or more")
    directories = [each.partition_values["region"] for each in receipt.objects if each.partition_values]
    assert all(value is None or len(value) == 64 for value in directories)
    assert not [key for key in data_keys(moto_s3, name) if "region=eu" in key]


def test_a_template_without_a_place_for_the_directories_is_refused(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with (
        target(moto_s3, destination(name)) as opened,
        pytest.raises(SettingsError, match=r"has no place for its directories. Put \$\{FIELDS\} there"),
    ):
        land([batch_of(RECORDS)], opened, orders(), sync("s1"))


def test_too_many_values_are_refused_with_the_field_the_count_and_examples(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    records = [{"id": number, "region": f"r{number}"} for number in range(20)]
    with pytest.raises(RecordError, match="region of partition_by has 20 values so far, such as 'r0', 'r1'") as refused:
        landed(moto_s3, name, [batch_of(records)], orders(["region"]), max_partition_values=10)
    assert refused.value.setting == "max_partition_values"
    assert data_keys(moto_s3, name) == []
    assert open_uploads(moto_s3, name) == 0


def test_too_many_directories_are_refused(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3dest_dagster.ingest.partitioned_writer.MOST_DIRECTORIES", 3)
    with pytest.raises(
        RecordError, match=r"makes 4 directories so far, .* than the 3 of one sync \(values: at as day 2, region 3\)"
    ):
        landed(moto_s3, moto_s3.new_bucket(), [batch_of(RECORDS)])


def test_a_record_without_a_value_fails_the_sync_if_the_settings_say_so(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with pytest.raises(RecordError, match="has no value of at as day that can be a directory") as refused:
        landed(moto_s3, name, [batch_of(RECORDS)], on_null="fail")
    assert refused.value.setting == "on_null"
    landed(moto_s3, name, [batch_of(RECORDS[:4])], sync_id="s2", on_null="fail")
    assert len(data_keys(moto_s3, name)) == 3


def test_a_key_that_is_too_long_is_refused_before_anything_is_published(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    fields = [f"f{number}" for number in range(6)]
    long = Stream(
        name="orders",
        json_schema={"properties": {field: {"type": "string"} for field in fields}},
        settings={"partition_by": fields},  # type: ignore[arg-type]
    )
    with pytest.raises(TemplateError, match="longer than the 1024 bytes"):
        landed(moto_s3, name, [batch_of([dict.fromkeys(fields, "x" * 200)])], long)
    assert data_keys(moto_s3, name) == []


# ---------------------------------------------------------------------- the rule is a part of the template


def test_another_rule_is_another_template(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    landed(moto_s3, name, [batch_of(RECORDS)])
    for other in (["region"], [], ["region", DAY_AND_REGION[0]], [{**DAY_AND_REGION[0], "tz": "Asia/Tokyo"}, "region"]):
        with pytest.raises(TemplateError, match="lands under") as refused:
            landed(moto_s3, name, [batch_of(RECORDS)], orders(other), "s2")
        assert refused.value.setting == "partition_by"
    accepted = landed(moto_s3, name, [batch_of(RECORDS)], orders(["region"]), "s3", on_template_change="accept")
    assert len(data_keys(moto_s3, name)) == len(accepted.objects) == 4
    landed(moto_s3, name, [batch_of(RECORDS)], orders(["region"]), "s4")


def test_the_rule_is_known_after_the_registry_was_lost(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    landed(moto_s3, name, [batch_of(RECORDS)])
    moto_s3.client().delete_object(Bucket=name, Key="data/_s3dest/shop/orders/~stream.json")
    with pytest.raises(TemplateError, match="lands under"):
        landed(moto_s3, name, [batch_of(RECORDS)], orders(["region"]), "s2")
    landed(moto_s3, name, [batch_of(RECORDS[:1])], sync_id="s3")
    assert len(data_keys(moto_s3, name)) == 1


def test_the_sweep_finds_abandoned_uploads_in_the_directories(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    made = destination(name, s3_path_format=PATH, abandoned_upload_age_s=0)
    for key in (
        "data/shop/orders/dt=2026-01-05/region=eu/0.jsonl",
        "data/shop/orders/dt=2026-01-05/region=ü b/1.jsonl",
    ):
        moto_s3.client().create_multipart_upload(Bucket=name, Key=key)
    moto_s3.client().create_multipart_upload(Bucket=name, Key="data/shop/others/dt=2026-01-05/0.jsonl")
    assert sweep(moto_s3.open(made), made, StreamId("shop", "orders")).aborted == 2
    assert open_uploads(moto_s3, name) == 1


def test_a_full_refresh_takes_over_what_lies_in_the_directories_of_a_lost_manifest(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    keys = ["data/shop/orders/dt=2026-01-05/region=eu/0.jsonl", "data/shop/orders/dt=2026-01-05/city=x/0.jsonl"]
    for key in keys:
        moto_s3.client().put_object(Bucket=name, Key=key, Body=b"{}")
    receipt = landed(moto_s3, name, [batch_of(RECORDS[1:2])])
    assert receipt.removed == (keys[0],)
    assert keys[1] in data_keys(moto_s3, name)


# ---------------------------------------------------------------------- readers

NASTY = [
    "a'b",
    'a"b',
    "a/b",
    "50%",
    "%2F",
    "a=b",
    "ü 中 \u00a0",
    "01234",
    "1",
    "1.0",
    "true",
    "",
    " x ",
    "a\nb",
    ".",
    "..",
    "a+b&c",
    "\u00e9",
    "e\u0301",
    "\U0001f600",
    "x.",
    "...",
    "\t",
    "a\x01b\x7f",
    "\x85\u2028",
    "`$a{b}|;,<>~!()",
    "NULL",
    "nan",
    "_x",
    ".x",
    "2026-01-05",
    "%41",
    NULL_DIRECTORY,
    f"{NULL_DIRECTORY} ",
]
"""Values that go wrong in paths."""


def test_readers_read_nasty_values_right(moto_s3: S3Server, tmp_path: Any) -> None:
    name = moto_s3.new_bucket()
    records = [{"id": number, "region": value} for number, value in enumerate(NASTY)]
    landed(moto_s3, name, [batch_of(records)], orders(["region"]), format=ParquetFormat(compression_codec="SNAPPY"))
    nulls = ("", NULL_DIRECTORY)
    expected = [(number, None if value in nulls else value) for number, value in enumerate(NASTY)]
    for key in data_keys(moto_s3, name):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(moto_s3.client().get_object(Bucket=name, Key=key)["Body"].read())
    root = tmp_path / "data/shop/orders"
    files = f"{root}/*/*.parquet"
    query = (
        f"select id, region from read_parquet('{files}', hive_partitioning = true, "
        "hive_types = {'region': VARCHAR}) order by id"
    )
    assert duckdb.sql(query).fetchall() == expected
    frame = pl.read_parquet(files, hive_partitioning=True, hive_schema={"region": pl.String}).sort("id")
    assert list(zip(frame["id"], frame["region"], strict=True)) == expected
    scheme = ds.partitioning(pa.schema([("region", pa.string())]), flavor="hive")
    table = ds.dataset(root, partitioning=scheme).to_table(columns=["id", "region"]).sort_by("id")
    assert list(zip(table["id"].to_pylist(), table["region"].to_pylist(), strict=True)) == expected
    (empty,) = duckdb.sql(
        f"select region from read_parquet('{files}', hive_partitioning = false) where id = 11"
    ).fetchall()
    assert empty == ("",)


# ---------------------------------------------------------------------- any records

_VALUES = st.one_of(
    st.none(), st.sampled_from(["a", "b", "", "é/%", "x" * 300]), st.integers(0, 3), st.text(max_size=3)
)


@pytest.mark.parametrize("form", FORMATS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.tuples(_VALUES, _VALUES), min_size=1, max_size=30), size=st.integers(1, 30))
def test_the_rows_of_all_directories_are_the_records_read(
    moto_s3: S3Server, form: Any, values: list[tuple[Any, Any]], size: int
) -> None:
    name = moto_s3.new_bucket()
    records = [{"id": n, "region": one, "address": {"country": two}} for n, (one, two) in enumerate(values)]
    batches = [batch_of(records[start : start + size]) for start in range(0, len(records), size)]
    by = orders(["region", {"field": "address.country", "name": "country"}])
    receipt = landed(moto_s3, name, batches, by, format=form)
    assert receipt.rows == receipt.counts.read == len(records)
    seen: list[int] = []
    for each in receipt.objects:
        ids = ids_of(moto_s3, name, each, form)
        assert len(ids) == each.rows
        assert ids == sorted(ids)
        seen += ids
        assert {(value_of(values[n][0]), value_of(values[n][1])) for n in ids} == {
            tuple(each.partition_values.values())
        }  # type: ignore[union-attr]
    assert sorted(seen) == list(range(len(records)))


def value_of(value: Any) -> str | None:
    text = value if isinstance(value, str) else None if value is None else str(value)
    return text if text and is_spelled(text) else None
