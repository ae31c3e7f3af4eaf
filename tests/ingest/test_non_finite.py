"""NaN and infinities fail the sync, are quarantined, or land as null: the same from every source, in every format.

Every source is tried with two formats, and with all of them with S3DEST_EVERY_PAIR.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from land_and_read import destination, stream, sync, target
from servers import S3Server

from s3dest_dagster.batch import BadRecord, Batch, StreamBatch
from s3dest_dagster.errors import RecordError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, Flattening, JsonlFormat, ParquetFormat
from s3dest_dagster.settings.stream_settings import FieldSelection, StreamSettings
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.sources.python import batches_and_bad_records
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, SyncMode

NUMBER = {"type": ["null", "number"]}
SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "x": NUMBER,
        "l": {"type": "array", "items": NUMBER},
    },
}
STREAM = Stream(name="users", namespace="public", json_schema=SCHEMA, sync_mode=SyncMode.APPEND)
SCOPE = Scope(stream().id)
ROWS: list[dict[str, Any]] = [
    {"id": 1, "x": 1.5, "l": [1.0]},
    {"id": 2, "x": math.nan, "l": None},
    {"id": 3, "x": None, "l": [2.0, math.inf]},
    {"id": 4, "x": -math.inf, "l": []},
    {"id": 5, "x": 0.25, "l": []},
]
NULLED = [
    {"id": 1, "x": 1.5, "l": [1.0]},
    {"id": 2, "x": None, "l": None},
    {"id": 3, "x": None, "l": [2.0, None]},
    {"id": 4, "x": None, "l": []},
    {"id": 5, "x": 0.25, "l": []},
]
Items = Iterable[StreamBatch | BadRecord | Batch]


def _text() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def _messages(tmp_path: Path) -> Items:
    record = {"stream": "users", "namespace": "public", "emitted_at": 7}
    lines = (json.dumps({"type": "RECORD", "record": {**record, "data": row}}) for row in ROWS)
    return read_messages(BytesIO("".join(f"{line}\n" for line in lines).encode()), [STREAM.id])


def _file(tmp_path: Path) -> Items:
    (tmp_path / "rows.jsonl").write_bytes(_text())
    return FileSource(str(tmp_path / "*.jsonl")).read(emitted_at=lambda: 7)


def _zipped_file(tmp_path: Path) -> Items:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(_text()))
    return FileSource(str(tmp_path / "*.jsonl.gz")).read(emitted_at=lambda: 7)


def _dicts(tmp_path: Path) -> Items:
    return batches_and_bad_records(ROWS, emitted_at=lambda: 7)


def _decimals(tmp_path: Path) -> Items:
    rows = [{**row, "x": Decimal(str(row["x"])) if row["x"] is not None else None} for row in ROWS]
    return batches_and_bad_records((row for row in rows), emitted_at=lambda: 7)


def _table(tmp_path: Path) -> Items:
    return batches_and_bad_records(pa.Table.from_pylist(ROWS), emitted_at=lambda: 7)


def _frame(tmp_path: Path) -> Items:
    return batches_and_bad_records(pl.DataFrame(ROWS, infer_schema_length=None), emitted_at=lambda: 7)


ROADS = [_messages, _file, _zipped_file, _dicts, _decimals, _table, _frame]
FORMATS = [JsonlFormat(), CsvFormat(flattening=Flattening.ROOT), AvroFormat(), ParquetFormat()]
FORMATS_EACH = len(FORMATS) if os.environ.get("S3DEST_EVERY_PAIR") else 2
EVERYWHERE = [
    pytest.param(road, settings, id=f"{road.__name__[1:]}-{type(settings).__name__}")
    for number, road in enumerate(ROADS)
    for settings in (FORMATS * 2)[number % len(FORMATS) :][:FORMATS_EACH]
]


def _land(server: S3Server, place: S3Destination, items: Items, sync_id: str) -> Receipt:
    with target(server, place) as opened:
        return land(_own(items), opened, STREAM, sync(sync_id))


def _own(items: Items) -> Iterator[Any]:
    return (item.batch if isinstance(item, StreamBatch) else item for item in items)


def _rows(server: S3Server, place: S3Destination) -> list[dict[str, Any]]:
    table = read_scope(Bucket(server.client(), place.s3_bucket_name), place.template, SCOPE)
    assert table is not None
    return sorted(table.select(["id", "x", "l"]).to_pylist(), key=lambda row: row["id"])


@pytest.mark.parametrize(("road", "settings"), EVERYWHERE)
def test_null_takes_their_place_and_they_are_counted(moto_s3: S3Server, tmp_path: Path, road, settings) -> None:
    place = destination(moto_s3.new_bucket(), format=settings, on_non_finite="null")
    for number in ("1", "2"):
        receipt = _land(moto_s3, place, road(tmp_path), number)
        assert receipt.counts.read == receipt.counts.landed == 5
        assert dict(receipt.counts.tally.non_finite) == {"x": 2, "l[]": 1}
        assert not receipt.quarantine
    assert _rows(moto_s3, place) == [row for row in NULLED for _ in range(2)]


@pytest.mark.parametrize(("road", "settings"), EVERYWHERE)
def test_their_records_are_quarantined(moto_s3: S3Server, tmp_path: Path, road, settings) -> None:
    place = destination(moto_s3.new_bucket(), format=settings, on_non_finite="quarantine")
    for number in ("1", "2"):
        receipt = _land(moto_s3, place, road(tmp_path), number)
        assert (receipt.counts.read, receipt.counts.landed, receipt.counts.quarantined) == (5, 2, 3)
        assert not receipt.counts.tally.non_finite
    assert _rows(moto_s3, place) == [NULLED[0], NULLED[0], NULLED[4], NULLED[4]]
    lines = moto_s3.client().get_object(Bucket=place.s3_bucket_name, Key=receipt.quarantine[0])["Body"].read()
    kept = [json.loads(line) for line in lines.splitlines()]
    assert ["NaN" in kept[0]["line"], "Infinity" in kept[1]["line"]] == [True, True]
    assert all(each["reason"] for each in kept)


@pytest.mark.parametrize(("road", "settings"), EVERYWHERE)
def test_they_fail_the_sync(moto_s3: S3Server, tmp_path: Path, road, settings) -> None:
    place = destination(moto_s3.new_bucket(), format=settings, on_non_finite="fail", on_bad_record="quarantine")
    with pytest.raises(RecordError, match=r"nan|NaN|not a finite"):
        _land(moto_s3, place, road(tmp_path), "1")


def test_by_default_they_make_a_record_bad_where_the_format_cannot_hold_them(moto_s3: S3Server, tmp_path: Path) -> None:
    for road in (_messages, _dicts, _table):
        place = destination(moto_s3.new_bucket(), on_bad_record="quarantine")
        assert _land(moto_s3, place, road(tmp_path), "1").counts.quarantined == 3
        with pytest.raises(RecordError):
            _land(moto_s3, destination(moto_s3.new_bucket()), road(tmp_path), "1")
    place = destination(moto_s3.new_bucket(), format=ParquetFormat())
    assert _land(moto_s3, place, _table(tmp_path), "1").counts.landed == 5
    assert math.isnan(_rows(moto_s3, place)[1]["x"])


def test_a_line_that_is_wrong_in_another_way_stays_a_bad_record(moto_s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"id":1,"x":NaN,"l":[}\n{"id":2,"x":NaN}\n')
    place = destination(moto_s3.new_bucket(), on_non_finite="null", on_bad_record="quarantine")
    counts = _land(moto_s3, place, FileSource(str(tmp_path / "*.jsonl")).read(emitted_at=lambda: 7), "1").counts
    assert (counts.landed, counts.quarantined) == (1, 1)
    assert dict(counts.tally.non_finite) == {"x": 1}


def test_thousands_of_such_records_land_in_few_steps(moto_s3: S3Server) -> None:
    place = destination(moto_s3.new_bucket(), on_non_finite="null")
    rows = ({"id": number, "x": math.nan} for number in range(2_000))
    receipt = _land(moto_s3, place, batches_and_bad_records(rows, emitted_at=lambda: 7), "1")
    assert receipt.counts.landed == sum(receipt.counts.tally.non_finite.values()) == 2_000


@pytest.mark.parametrize("road", ROADS)
def test_private_fields_stay_private(moto_s3: S3Server, tmp_path: Path, road) -> None:
    """A record without its non-finite numbers lands by the rules for fields, and a quarantined one has no text."""
    private = replace(STREAM, settings=StreamSettings(fields=FieldSelection(exclude=("id",))))
    for policy in ("null", "quarantine"):
        place = destination(moto_s3.new_bucket(), on_non_finite=policy)
        with target(moto_s3, place) as opened:
            receipt = land(_own(road(tmp_path)), opened, private, sync("1"))
        table = read_scope(Bucket(moto_s3.client(), place.s3_bucket_name), place.template, SCOPE)
        assert table is not None
        assert "id" not in table.column_names
        assert len(table) == (5 if policy == "null" else 2)
        for key in receipt.quarantine:
            text = moto_s3.client().get_object(Bucket=place.s3_bucket_name, Key=key)["Body"].read()
            assert all(not json.loads(line).get("line") for line in text.splitlines())
            assert b'"id"' not in text
