"""A value lands the same way in a dict and in a frame, in every format, if the stream declares no schema."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

import fastavro
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from land_and_read import data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.batch import TARGET_BATCH_BYTES, JsonBatch, ValueType
from s3dest_dagster.errors import RecordError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.sources.python import batches, batches_and_bad_records
from s3dest_dagster.stream import Scope, Stream, SyncMode

PLAIN = TextCompression.NONE
FORMATS = [
    JsonlFormat(compression=PLAIN),
    JsonlFormat(compression=PLAIN, flattening=Flattening.ROOT),
    CsvFormat(compression=PLAIN),
    CsvFormat(compression=PLAIN, flattening=Flattening.ROOT),
    AvroFormat(),
    ParquetFormat(),
]
NAMES = ["jsonl", "flat jsonl", "csv", "flat csv", "avro", "parquet"]
DAY, MOMENT = date(2024, 1, 2), datetime(2024, 1, 2, 3, 4, 5)
WAIT = timedelta(days=1, microseconds=2)
ID = UUID("12345678-9abc-def0-1234-56789abcdef0")


class Colour(enum.Enum):
    RED = "red"


VALUES: dict[str, tuple[Any, pa.Array, str, Any]] = {
    "date": (DAY, pa.array([DAY]), '"2024-01-02"', pa.date32()),
    "date64": (np.datetime64("2024-01-02"), pa.array([DAY], pa.date64()), '"2024-01-02"', pa.date32()),
    "naive": (MOMENT, pa.array([MOMENT]), '"2024-01-02T03:04:05"', "utc"),
    "micros": (
        MOMENT.replace(microsecond=120_000),
        pa.array([MOMENT.replace(microsecond=120_000)]),
        '"2024-01-02T03:04:05.120000"',
        "utc",
    ),
    "aware": (MOMENT.replace(tzinfo=UTC), pa.array([MOMENT.replace(tzinfo=UTC)]), '"2024-01-02T03:04:05Z"', "utc"),
    "stamp": (pd.Timestamp(MOMENT), pa.array([MOMENT], pa.timestamp("ns")), '"2024-01-02T03:04:05"', "utc"),
    "minute": (
        np.datetime64("2024-01-02T03:04"),
        pa.array([MOMENT.replace(second=0)], pa.timestamp("ms")),
        '"2024-01-02T03:04:00"',
        "utc",
    ),
    "time": (time(3, 4, 5), pa.array([time(3, 4, 5)]), '"03:04:05"', pa.time64("us")),
    "late": (time(3, 4, 5, 120), pa.array([time(3, 4, 5, 120)]), '"03:04:05.000120"', pa.time64("us")),
    "wait": (
        timedelta(days=1, microseconds=2),
        pa.array([timedelta(days=1, microseconds=2)]),
        "86400000002",
        pa.int64(),
    ),
    "hours": (np.timedelta64(2, "h"), pa.array([7200], pa.duration("s")), "7200", pa.int64()),
    "gap": (np.timedelta64(5, "ms"), pa.array([5], pa.duration("ms")), "5", pa.int64()),
    "pause": (pd.Timedelta(5, "ns"), pa.array([5], pa.duration("ns")), "5", pa.int64()),
    "uuid": (ID, pa.array([str(ID)]), f'"{ID}"', pa.string()),
    "price": (Decimal("1.10"), pa.array([Decimal("1.10")]), "1.10", pa.decimal128(3, 2)),
    "bytes": (b"\x00\xff", pa.array([b"\x00\xff"]), '"AP8="', pa.binary()),
    "array": (bytearray(b"\x01"), pa.array([b"\x01"]), '"AQ=="', pa.binary()),
    "enum": (Colour.RED, pa.array(["red"]).dictionary_encode(), '"red"', pa.string()),
    "int8": (np.int8(5), pa.array([5], pa.int8()), "5", pa.int64()),
    "flag": (np.bool_(True), pa.array([True]), "true", pa.bool_()),
    "double": (np.float64(0.1), pa.array([0.1]), "0.1", pa.float64()),
    "float": (np.float32(0.1), pa.array([0.1], pa.float32()), "0.1", pa.float32()),
    "days": ([DAY, None], pa.array([[DAY, None]]), '["2024-01-02",null]', pa.list_(pa.date32())),
    "text": ("2024-01-02", pa.array(["2024-01-02"]), '"2024-01-02"', pa.string()),
}
"""Values in a dict and in a frame, their JSON text, and their type in Parquet ("utc": a moment in UTC)."""
DICTS: list[dict[str, Any]] = [{name: value for name, (value, *_) in VALUES.items()}]
FRAME = pa.table({name: column for name, (_, column, *_) in VALUES.items()})


def landed(server: S3Server, format: FormatSettings, *syncs: Any, overflowed: int = 0, **settings: Any) -> list[bytes]:
    """The objects of a stream without a schema after these syncs."""
    chosen = destination(server.new_bucket(), format=format, envelope="none", **settings)
    stream = Stream(name="mixed", json_schema=None, sync_mode=SyncMode.APPEND)
    for number, records in enumerate(syncs):
        with target(server, chosen) as opened:
            receipt = land(batches(records, emitted_at=lambda: 7), opened, stream, sync(f"s{number}"))
            assert sum(receipt.counts.tally.overflowed.values()) == overflowed
    keys = data_keys(server, chosen.s3_bucket_name)
    return [server.client().get_object(Bucket=chosen.s3_bucket_name, Key=key)["Body"].read() for key in keys]


def rows_of(format: FormatSettings, content: bytes) -> Any:
    if isinstance(format, AvroFormat):
        reader = fastavro.reader(BytesIO(content))
        return reader.writer_schema, list(reader)
    if isinstance(format, ParquetFormat):
        table = pq.read_table(BytesIO(content))
        return table.schema, table.to_pylist()
    return content


@pytest.mark.parametrize("format", FORMATS, ids=NAMES)
def test_dicts_and_frames_leave_the_same_objects(moto_s3: S3Server, format: FormatSettings) -> None:
    dicts, frames = (landed(moto_s3, format, each, each) for each in (DICTS, FRAME))
    mixed = landed(moto_s3, format, FRAME, DICTS)
    assert len(dicts) == len(frames) == len(mixed) == 2
    found = [rows_of(format, each) for each in (*dicts, *frames, *mixed)]
    assert all(each == found[0] for each in found)


def test_a_value_has_its_text_in_json_lines(moto_s3: S3Server) -> None:
    (content,) = landed(moto_s3, FORMATS[0], DICTS)
    members = ",".join(f'"{name}":{text}' for name, (_, _, text, _) in VALUES.items())
    assert content.decode() == f"{{{members}}}\n"


@pytest.mark.parametrize("policy", ["utc", "keep"])
def test_a_value_has_its_type_in_parquet(moto_s3: S3Server, policy: str) -> None:
    (content,) = landed(moto_s3, ParquetFormat(), DICTS, naive_moments=policy)
    schema = pq.read_schema(BytesIO(content))
    moment = pa.timestamp("us", "UTC" if policy == "utc" else None)
    expected = {name: moment if type_ == "utc" else type_ for name, (_, _, _, type_) in VALUES.items()}
    expected["aware"] = pa.timestamp("us", "UTC")
    assert {name: schema.field(name).type for name in VALUES} == expected


@pytest.mark.parametrize("format", FORMATS, ids=NAMES)
def test_nanoseconds_are_the_same_on_both_ways(moto_s3: S3Server, format: FormatSettings) -> None:
    stamp = pd.Timestamp("2024-01-02T03:04:05.000000120")
    row = {"id": 1, "v": stamp}
    ways = ([row], pa.table({"id": [1], "v": pa.array([stamp], pa.timestamp("ns"))}), pd.DataFrame([row]))
    found = [
        rows_of(format, landed(moto_s3, format, way, overflowed=int(isinstance(format, ParquetFormat)))[0])
        for way in ways
    ]
    assert found[0] == found[1] == found[2]
    assert "2024-01-02T03:04:05.000000120" in str(found[0])


@pytest.mark.parametrize("missing", [pd.NaT, pd.NA, np.datetime64("NaT"), np.timedelta64("NaT"), None], ids=repr)
def test_a_missing_value_of_pandas_or_numpy_is_null(moto_s3: S3Server, missing: Any) -> None:
    records = [{"n": 1, "day": missing}, {"n": 2, "day": DAY}]
    (content,) = landed(moto_s3, ParquetFormat(), records)
    table = pq.read_table(BytesIO(content))
    assert table.schema.field("day").type == pa.date32()
    assert table["day"].to_pylist() == [None, DAY]


@pytest.mark.parametrize(
    "values",
    [(DAY, "soon"), (b"\x01", "AQ=="), (MOMENT, DAY), (MOMENT, MOMENT.replace(tzinfo=UTC)), ("2024-01-02", DAY)],
    ids=str,
)
def test_values_of_several_types_are_text(moto_s3: S3Server, values: tuple[Any, Any]) -> None:
    (content,) = landed(moto_s3, ParquetFormat(), [{"v": value} for value in values])
    assert pq.read_schema(BytesIO(content)).field("v").type == pa.string()


def test_floats_of_32_bits_among_others_are_doubles(moto_s3: S3Server) -> None:
    (content,) = landed(moto_s3, ParquetFormat(), [{"v": np.float32(0.1)}, {"v": 0.30000000000000004}])
    assert pq.read_table(BytesIO(content))["v"].to_pylist() == [0.1, 0.30000000000000004]


def test_a_double_after_floats_of_32_bits_is_never_rounded(moto_s3: S3Server) -> None:
    """Not even if it comes where only a sample of the records is searched for types."""
    records = [{"v": np.float32(0.1), "n": number} for number in range(3000)]
    records[2001]["v"] = 0.30000000000000004
    contents = landed(moto_s3, ParquetFormat(), records)
    rows = [row for content in contents for row in pq.read_table(BytesIO(content)).to_pylist()]
    assert 0.30000000000000004 in {value for row in rows for name, value in row.items() if name.startswith("v")}


@pytest.mark.parametrize("format", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
@pytest.mark.parametrize(
    ("first", "then", "columns"),
    [
        (DAY, MOMENT, ["v"]),
        (DAY, datetime(2024, 1, 2), ["v"]),
        (MOMENT, DAY, ["v", "v_date"]),
        (DAY, "soon", ["v", "v_string"]),
        (np.float32(0.1), 0.1, ["v", "v_number"]),
        (b"\x01", "AQ==", ["v", "v_string"]),
    ],
    ids=str,
)
def test_another_type_gets_the_same_columns_within_a_sync_and_in_the_next(
    moto_s3: S3Server, format: FormatSettings, first: Any, then: Any, columns: list[str]
) -> None:
    filler = "x" * TARGET_BATCH_BYTES
    records = [{"filler": filler, "v": first}, {"filler": filler, "v": then}]
    found = []
    for syncs in ([records], [records[:1], records[1:]]):
        settings = destination(moto_s3.new_bucket(), format=format)
        stream = Stream(name="mixed", json_schema=None, sync_mode=SyncMode.APPEND)
        for number, each in enumerate(syncs):
            with target(moto_s3, settings) as opened:
                land(batches(each, emitted_at=lambda: 7), opened, stream, sync(f"s{number}"))
        table = read_scope(moto_s3.open(settings), settings.template, Scope(stream.id))
        found.append(table.drop_columns(["_airbyte_ab_id", "_airbyte_emitted_at", "filler"]))
    assert found[0].column_names[:-1] == columns
    assert found[0] == found[1]


def test_a_moment_with_an_offset_is_the_same_instant_on_both_ways(moto_s3: S3Server) -> None:
    stamp = pd.Timestamp("2024-01-02T03:04:05", tz="Europe/Berlin")
    ways: list[Callable[[list[dict[str, Any]]], Any]] = [list, pd.DataFrame]
    tables = [pq.read_table(BytesIO(landed(moto_s3, ParquetFormat(), way([{"v": stamp}]))[0])) for way in ways]
    assert tables[0] == tables[1]


def test_types_outlive_private_fields_and_records_with_nan(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), format=ParquetFormat(), on_non_finite="null")
    stream = Stream(
        name="mixed",
        json_schema=None,
        sync_mode=SyncMode.APPEND,
        settings=StreamSettings.of({"fields": {"exclude": ["secret"], "mask": ["birthday"]}}),
    )
    records = [{"day": DAY, "price": Decimal("1.5"), "x": float("nan"), "secret": DAY, "birthday": DAY}]
    with target(moto_s3, settings) as opened:
        land(batches_and_bad_records(records, emitted_at=lambda: 7), opened, stream, sync("s"))
    (key,) = data_keys(moto_s3, settings.s3_bucket_name)
    content = moto_s3.client().get_object(Bucket=settings.s3_bucket_name, Key=key)["Body"].read()
    schema = pq.read_schema(BytesIO(content))
    assert schema.field("day").type == pa.date32()
    assert schema.field("price").type == pa.decimal128(2, 1)
    assert schema.field("birthday").type == pa.string()


def test_python_objects_in_a_polars_frame_are_refused() -> None:
    """Arrow data would have their addresses in memory."""
    frame = pl.DataFrame({"n": [1], "v": [ID]}, schema={"n": pl.Int64, "v": pl.Object})
    with pytest.raises(RecordError, match=r"'v'.*Python objects"):
        list(batches(frame, emitted_at=lambda: 7))


class _Point(msgspec.Struct, array_like=True):
    x: int
    wait: timedelta = timedelta(0)


class _Shop(msgspec.Struct, rename="camel", tag="shop", omit_defaults=True):
    opened_on: date
    price: Decimal
    note: str = ""


@dataclasses.dataclass
class _Trip:
    pause: timedelta
    stops: list[_Point]
    shop: _Shop
    text: str = "P1D"


def test_structs_and_dataclasses_keep_their_own_form_and_their_types() -> None:
    shop = _Shop(DAY, Decimal("1.10"))
    trips = [_Trip(timedelta(days=-1), [_Point(1, timedelta(seconds=1)), _Point(2)], shop), _Trip(WAIT, [], shop)]
    (batch,) = batches(trips, emitted_at=lambda: 7)
    assert isinstance(batch, JsonBatch)
    common = '"shop":{"type":"shop","openedOn":"2024-01-02","price":1.10},"text":"P1D"}'
    assert [raw.decode() for raw in batch.raws] == [
        f'{{"pause":-86400000000,"stops":[[1,1000000],[2,0]],{common}',
        f'{{"pause":86400000002,"stops":[],{common}',
    ]
    assert batch.types == {(("shop", "openedOn"), ValueType.DATE), (("shop", "price"), ValueType.DECIMAL)}
