"""Objects by field under one memory budget: few open objects, no objects of a few records, and no memory held twice."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import wait
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from benchmarks.local_client import local_bucket
from s3dest_dagster.batch import JsonBatch
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.partition_values import RecordGrouper
from s3dest_dagster.formats import encoder
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Progress, Receipt
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat, TextCompression
from s3dest_dagster.settings.partition_fields import partition_rule
from s3dest_dagster.storage import PartPool, Upload
from s3dest_dagster.stream import Stream

SCHEMA = {"properties": {"id": {"type": "integer"}, "value": {"type": "string"}, "text": {"type": "string"}}}
EVENTS = Stream(name="events", json_schema=SCHEMA, settings={"partition_by": ["value"]})  # type: ignore[arg-type]
PATH = "${STREAM_NAME}/${FIELDS}/"
LEAST_MEMORY = {"memory_mb": 80, "part_size_mb": 5, "upload_threads": 1, "encode_workers": 1}
"""Leaves 17 MB for open objects."""
FORMATS = [
    pytest.param(JsonlFormat(compression=TextCompression.NONE), id="jsonl"),
    pytest.param(ParquetFormat(), id="parquet"),
]
ALL_FORMATS = [JsonlFormat(), CsvFormat(), AvroFormat(), ParquetFormat()]


def events(count: int, values: int, *, in_order: bool = False, text: str = "x" * 2_000) -> Iterator[JsonBatch]:
    """Records, of 2 kB if no text is given, in batches of 500."""
    for start in range(0, count, 500):
        rows = [
            {"id": number, "value": f"v{number * values // count if in_order else number % values}", "text": text}
            for number in range(start, start + 500)
        ]
        raws = [json.dumps(each).encode() for each in rows]
        yield JsonBatch(raws, np.zeros(len(raws), np.int64), sum(map(len, raws)))


def landed(folder: Path, batches: Iterator[JsonBatch], form: Any) -> Receipt:
    settings = destination("lake", s3_path_format=PATH, format=form, max_partition_values=3_000, **LEAST_MEMORY)
    bucket = local_bucket(folder, keep=False)
    with open_target(settings, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as opened:
        return land(batches, opened, EVENTS, sync("s1"))


@pytest.mark.parametrize("form", FORMATS)
def test_values_that_come_in_turns_make_no_objects_of_a_few_records(tmp_path: Path, form: Any) -> None:
    receipt = landed(tmp_path, events(15_000, 150), form)
    assert receipt.rows == 15_000
    by_reason = [each.close_reason for each in receipt.objects]
    assert "memory" in by_reason
    assert len(receipt.objects) < 15_000 / 15
    early = [each.rows for each in receipt.objects if each.close_reason == "memory"]
    assert min(early) >= 20
    assert receipt.ended_early == len(early)


@pytest.mark.parametrize("form", ALL_FORMATS, ids=lambda each: each.format_type)
def test_directories_of_a_few_small_records_do_not_use_up_the_memory(tmp_path: Path, form: Any) -> None:
    """What surrounds the values of a piece must not count for more than the values."""
    receipt = landed(tmp_path, events(12_000, 3_000, text="x" * 20), form)
    assert receipt.rows == 12_000
    assert len(receipt.objects) == 3_000
    assert receipt.ended_early == 0


def test_many_directories_stay_within_the_memory_for_open_objects(tmp_path: Path) -> None:
    """The memory of the directories themselves and of finished objects counts, and not only that of records."""
    settings = destination("lake", s3_path_format=PATH, max_partition_values=2_000, **LEAST_MEMORY)
    held: list[int] = []
    with open_target(
        settings, local_bucket(tmp_path, keep=False), clock=lambda: datetime.now(UTC), entropy=os.urandom
    ) as opened:
        tracemalloc.start()
        try:

            def measure(_: Progress) -> None:
                held.append(tracemalloc.get_traced_memory()[0])

            records = events(30_000, 2_000, text="x" * 600)
            receipt = land(records, opened, EVENTS, sync("s1"), on_progress=measure)
        finally:
            tracemalloc.stop()
    assert receipt.rows == 30_000
    assert receipt.ended_early > 0
    assert max(held) <= 1.1 * settings.open_bytes


@pytest.mark.parametrize("form", FORMATS)
def test_values_in_order_make_one_object_each(tmp_path: Path, form: Any) -> None:
    receipt = landed(tmp_path, events(15_000, 15, in_order=True), form)
    assert len(receipt.objects) <= 2 * 15
    assert receipt.partitions is not None
    assert receipt.partitions.directories == 15


@pytest.mark.parametrize("form", ALL_FORMATS, ids=lambda each: each.format_type)
def test_a_piece_holds_no_memory_of_other_pieces(form: Any) -> None:
    record = record_type(SCHEMA, "events", None)
    made = encoder(form, EVENTS, record, grouper=RecordGrouper(partition_rule(["value"]), record, "events"))
    batches = [made.encode_groups(each, os.urandom(16 * each.num_rows)) for each in events(1_000, 10)]
    pieces = list(made.pieces(batches))
    assert [piece.rows for _, piece in pieces] == [100] * 10
    for _, piece in pieces:
        payload = piece.payload
        is_arrow = isinstance(payload, pa.RecordBatch | pa.Array)
        held = payload.get_total_buffer_size() if is_arrow else sum(map(len, payload))
        assert held <= 1.3 * piece.nbytes


def test_a_staged_upload_keeps_little_in_memory(tmp_path: Path) -> None:
    """A sync may have 50,000 of them, and they wait for the decision."""
    count, cancelled, bucket = 300, Event(), local_bucket(tmp_path, keep=False)
    keys = [f"events/value={number}/0.parquet" for number in range(count)]
    with PartPool(1) as pool:
        tracemalloc.start()
        try:
            uploads = [Upload(bucket, key, pool, part_bytes=5 << 20, metadata={}, cancelled=cancelled) for key in keys]
            for upload in uploads:
                upload.write(b"x")
                upload.finish()
                wait(upload.parts)
                upload.settle()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert [upload.staged().size for upload in uploads] == [1] * count
    assert held / count < 1_000


def test_records_with_a_new_column_begin_other_objects_in_their_directories(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    made = destination(name, s3_path_format=PATH, format=ParquetFormat())
    of = Stream(name="events", settings={"partition_by": ["value"]})  # type: ignore[arg-type]
    batches = [
        batch_of([{"id": 1, "value": "a"}, {"id": 2, "value": "b"}]),
        batch_of([{"id": 3, "value": "a", "more": 1.5}]),
        batch_of([{"id": 4, "value": "b"}, {"id": 5, "value": 7}]),
    ]
    with target(moto_s3, made) as opened:
        receipt = land(batches, opened, of, sync("s1"))
    table = read_scope(moto_s3.open(made), made.template, receipt.scope)
    assert table is not None
    rows = {row["id"]: (row["value"], row["more"]) for row in table.to_pylist()}
    assert rows == {1: ("a", None), 2: ("b", None), 3: ("a", 1.5), 4: ("b", None), 5: ("7", None)}
    assert sorted({key.split("/")[2] for key in data_keys(moto_s3, name)}) == ["value=7", "value=a", "value=b"]


@pytest.mark.parametrize("form", ALL_FORMATS, ids=lambda each: each.format_type)
def test_records_of_one_directory_are_not_copied(form: Any) -> None:
    """Input in the order of its values costs no more than other input."""
    record = record_type(SCHEMA, "events", None)
    made = encoder(form, EVENTS, record, grouper=RecordGrouper(partition_rule(["value"]), record, "events"))
    (batch,) = [made.encode_groups(each, os.urandom(16 * each.num_rows)) for each in events(500, 1)]
    (((value,), piece),) = made.pieces([batch])
    assert value == "v0"
    whole = [batch.payload] if isinstance(batch.payload, pa.RecordBatch | pa.Array) else batch.payload
    given = [piece.payload] if isinstance(piece.payload, pa.RecordBatch | pa.Array) else piece.payload
    assert all(one is other for one, other in zip(whole, given, strict=True))


@pytest.mark.parametrize(("values", "begun"), [(1, 1), (2, 0)])
def test_a_batch_of_one_directory_is_written_without_waiting_for_more(tmp_path: Path, values: int, begun: int) -> None:
    settings = destination("lake", s3_path_format=PATH, format=JsonlFormat(), encode_workers=1)
    bucket = local_bucket(tmp_path, keep=False)
    objects: list[int] = []
    with open_target(settings, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as opened:
        land(events(500, values), opened, EVENTS, sync("s1"), on_progress=lambda at: objects.append(at.objects))
    assert objects == [begun]
