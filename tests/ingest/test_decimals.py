"""Decimals of a stream over many syncs: the digits only grow, and every value is found again exactly."""

from __future__ import annotations

import gzip
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from typing import Any

import duckdb
import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from land_and_read import data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
)
from s3dest_dagster.sources.python import batches
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

TYPED = pytest.mark.parametrize("format", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
BIG: dict[str, Any] = {"type": ["null", "number"], "airbyte_type": "big_number"}
LONG = "12345678901234567.891"


class Lake:
    """An appended stream with the field `price`, landed sync by sync."""

    def __init__(self, server: S3Server, format: FormatSettings) -> None:
        self.server = server
        self.bucket = server.new_bucket()
        self.settings = destination(self.bucket, format=format)
        self._syncs = 0

    def land(self, definition: dict[str, Any] | None, *groups: Any) -> Receipt:
        self._syncs += 1
        schema = definition and {"properties": {"price": definition}}
        stream = Stream(name="sales", json_schema=schema, sync_mode=SyncMode.APPEND)
        items = [batch for group in groups for batch in batches(group, emitted_at=lambda: 7)]
        with target(self.server, self.settings) as opened:
            return land(items, opened, stream, sync(f"s{self._syncs}"))

    def land_declared(self, properties: dict[str, Any], records: Any) -> None:
        self._syncs += 1
        stream = Stream(name="sales", json_schema={"properties": properties}, sync_mode=SyncMode.APPEND)
        with target(self.server, self.settings) as opened:
            land(batches(records, emitted_at=lambda: 7), opened, stream, sync(f"s{self._syncs}"))

    def rows(self) -> list[dict[str, Any]]:
        """The records in the objects, as another library reads them."""
        is_avro = isinstance(self.settings.format, AvroFormat)
        read = fastavro.reader if is_avro else lambda content: pq.read_table(content).to_pylist()
        return [row for content in self.files() for row in read(BytesIO(content))]

    def table(self) -> pa.Table:
        return read_scope(self.server.open(self.settings), self.settings.template, Scope(StreamId(None, "sales")))

    def files(self) -> list[bytes]:
        client = self.server.client()
        keys = data_keys(self.server, self.bucket)
        return [client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys]


def prices(*texts: str | None) -> list[dict[str, Any]]:
    return [{"price": None if text is None else Decimal(text)} for text in texts]


def frame(*texts: str | None) -> pa.Table:
    return pa.table({"price": pa.array([None if text is None else Decimal(text) for text in texts])})


def found(lake: Lake) -> list[str | None]:
    return [None if value is None else f"{value:f}" for value in lake.table()["price"].to_pylist()]


def in_files(lake: Lake) -> list[Any]:
    """The values in the objects, as another library reads them."""
    values = []
    for content in lake.files():
        is_avro = isinstance(lake.settings.format, AvroFormat)
        rows = fastavro.reader(BytesIO(content)) if is_avro else pq.read_table(BytesIO(content)).to_pylist()
        values += [row.get("price") for row in rows]
    return values


@TYPED
@pytest.mark.parametrize("rows", [prices, frame], ids=["dicts", "frames"])
@pytest.mark.parametrize("definition", [BIG, None], ids=["declared", "inferred"])
def test_the_digits_grow_from_sync_to_sync(
    moto_s3: S3Server, format: FormatSettings, rows: Any, definition: Any
) -> None:
    lake = Lake(moto_s3, format)
    lake.land(definition, rows("1.10", None))
    receipt = lake.land(definition, rows(LONG, "2"))
    assert not receipt.counts.tally.overflowed
    assert lake.table().schema.field("price").type == pa.decimal128(20, 3)
    assert found(lake) == ["1.100", None, LONG, "2.000"]
    assert in_files(lake) == [Decimal("1.10"), None, Decimal(LONG), Decimal("2.000")]


@TYPED
@pytest.mark.parametrize("rows", [prices, frame], ids=["dicts", "frames"])
@pytest.mark.parametrize("definition", [BIG, None], ids=["declared", "inferred"])
def test_the_digits_grow_within_a_sync(moto_s3: S3Server, format: FormatSettings, rows: Any, definition: Any) -> None:
    lake = Lake(moto_s3, format)
    receipt = lake.land(definition, rows(None), rows("1.10"), rows("2.25"), rows(LONG), rows("3.5"))
    assert not receipt.counts.tally
    assert [each.rows for each in receipt.objects] == [1, 2, 2]
    assert [each.close_reason for each in receipt.objects] == ["schema", "schema", "end"]
    assert found(lake) == [None, "1.100", "2.250", LONG, "3.500"]


@TYPED
def test_texts_that_are_no_numbers_do_not_stop_the_growth(moto_s3: S3Server, format: FormatSettings) -> None:
    lake = Lake(moto_s3, format)
    receipt = lake.land(BIG, prices("1.5"), [{"price": "n/a"}], prices("22.25"))
    assert receipt.counts.tally.overflowed == {"price": 1}
    assert found(lake) == ["1.50", None, "22.25"]


@TYPED
def test_a_declared_precision_is_fixed(moto_s3: S3Server, format: FormatSettings) -> None:
    lake = Lake(moto_s3, format)
    declared = {"type": "number", "x-decimal": {"precision": 5, "scale": 2}}
    receipts = [lake.land(declared, prices("1.10", LONG)) for _ in range(2)]
    assert [receipt.counts.tally.overflowed for receipt in receipts] == [{"price": 1}] * 2
    assert lake.table().schema.field("price").type == pa.decimal128(5, 2)
    assert found(lake) == ["1.10", None] * 2


@TYPED
def test_more_than_38_digits_are_a_text_column_for_good(moto_s3: S3Server, format: FormatSettings) -> None:
    lake, many = Lake(moto_s3, format), "1" * 39
    lake.land(BIG, prices("1.10"))
    lake.land(BIG, prices(many, "2.5"))
    lake.land(BIG, prices("3.5"))
    table = lake.table()
    assert table["price"].to_pylist() == [Decimal("1.10"), None, None, None]
    assert table["price_text"].to_pylist() == [None, many, "2.5", "3.5"]


def test_numbers_and_decimals_of_an_inferred_stream_share_a_column(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    lake.land(None, prices("1.10"), [{"price": 2}, {"price": 12345}], [{"price": 2.125}])
    assert found(lake) == ["1.100", "2.000", "12345.000", "2.125"]


def test_a_text_format_keeps_the_spelling(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, JsonlFormat(compression="No Compression"))
    for _ in range(2):
        lake.land(BIG, prices("1.10", "100"), [{"price": "7.0"}])
    assert all(b'"price":1.10}' in content and b'"price":"7.0"}' in content for content in lake.files())
    assert lake.table()["price"].to_pylist() == ["1.10", "100", "7.0"] * 2


def test_duckdb_and_polars_read_both_scales(moto_s3: S3Server, tmp_path: Any) -> None:
    lake = Lake(moto_s3, ParquetFormat())
    lake.land(None, prices("1.10"))
    lake.land(None, prices(LONG))
    for number, content in enumerate(lake.files()):
        (tmp_path / f"{number}.parquet").write_bytes(content)
    files = str(tmp_path / "*.parquet")
    read = duckdb.sql(f"SELECT price FROM read_parquet('{files}', union_by_name=true) ORDER BY price").fetchall()
    assert [value for (value,) in read] == [Decimal("1.100"), Decimal(LONG)]
    parts = [pl.read_parquet(file) for file in sorted(tmp_path.glob("*.parquet"))]
    columns = [part.select("price") for part in parts]
    assert pl.concat(columns, how="vertical_relaxed")["price"].to_list() == [Decimal("1.100"), Decimal(LONG)]
    with pytest.raises(pl.exceptions.SchemaError):
        pl.scan_parquet(files).select("price").collect()


decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=4)
lossy = decimals.map(lambda value: value.normalize())


@TYPED
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 4)
@given(groups=st.lists(st.lists(decimals | lossy | st.none(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_every_decimal_is_found_again(moto_s3: S3Server, format: FormatSettings, groups: Any) -> None:
    lake = Lake(moto_s3, format)
    for group in groups:
        lake.land(None, [{"id": 1, "price": value} for value in group])
    values = [value for group in groups for value in group]
    if all(value is None for value in values):
        return
    assert lake.table()["price"].to_pylist() == values
    assert in_files(lake) == values


DECLARED: dict[str, Any] = {
    "cents": {"type": "number", "multipleOf": 0.01},
    "big": {"type": "number", "airbyte_type": "big_number"},
    "text": {"type": "string", "airbyte_type": "big_number"},
    "own": {"type": "number", "x-decimal": {"precision": 10, "scale": 2}},
}
NUMBERS = [{"cents": Decimal("1.10"), "big": Decimal("2.50"), "text": "3.10", "own": Decimal("4.20")}]


@TYPED
@pytest.mark.parametrize("setting", ["exact", "connector"])
def test_declared_decimals_can_be_what_the_connector_makes_of_them(
    moto_s3: S3Server, format: FormatSettings, setting: str
) -> None:
    lake = Lake(moto_s3, format)
    lake.settings = replace(lake.settings, decimals=setting)
    for _ in range(2):
        lake.land_declared(DECLARED, NUMBERS)
    row: dict[str, Any] = {"cents": Decimal("1.10"), "big": Decimal("2.5"), "text": Decimal("3.1")}
    if setting == "connector":
        row = {"cents": 1.1, "big": 2.5, "text": "3.10"}
    row["own"] = Decimal("4.20")
    assert lake.table().select(list(row)).to_pylist() == [row, row]
    assert [{name: type(value) for name, value in each.items() if name in row} for each in lake.rows()] == [
        {name: type(value) for name, value in row.items()}
    ] * 2


@pytest.mark.parametrize("format", [JsonlFormat(), CsvFormat(flattening=Flattening.ROOT)], ids=["jsonl", "csv"])
def test_text_formats_keep_the_digits_of_decimals_in_any_case(moto_s3: S3Server, format: FormatSettings) -> None:
    found = []
    for setting in ("exact", "connector"):
        lake = Lake(moto_s3, format)
        lake.settings = replace(lake.settings, decimals=setting, envelope="none")
        lake.land_declared(DECLARED, NUMBERS)
        found.append(gzip.decompress(lake.files()[0]))
    assert found[0] == found[1]
    assert b"1.10" in found[0]
    assert b"2.50" in found[0]


@TYPED
def test_a_stream_with_decimals_goes_on_beside_them(moto_s3: S3Server, format: FormatSettings) -> None:
    lake = Lake(moto_s3, format)
    lake.land(BIG, prices("1.10"))
    lake.settings = replace(lake.settings, decimals="connector")
    lake.land(BIG, prices("2.5"))
    table = lake.table()
    values = [value for name in table.column_names if name.startswith("price") for value in table[name].to_pylist()]
    assert sorted(float(value) for value in values if value is not None) == [1.1, 2.5]
