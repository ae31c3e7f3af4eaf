"""All streams of a target share one memory budget. Objects that end early because of it are reported, and the process
stays within it.

With S3DEST_LARGE=1 the tests also land more than the default budget can hold.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from land_and_read import PLAIN_JSONL, batch_of, destination, ids_by_listing, stream, sync, target
from servers import S3Server

from s3dest_dagster.batch import JsonBatch
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.target import MemoryBudget, open_target
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import FormatSettings, ParquetFormat

SCRIPT = Path(__file__).with_name("interleaved_sync.py")
LEAST = {"upload_threads": 1, "part_size_mb": 5, "encode_workers": 1, "memory_mb": 79}
"""Leaves 16 MiB for open objects."""
NOT_COMPRESSED = {"compression_type": "No Compression"}
LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")
LARGE = pytest.mark.skipif("S3DEST_LARGE" not in os.environ, reason="takes a minute; S3DEST_LARGE=1 runs it")
NAMES = ("a", "b", "c", "d")
ROWS = 5_000


class Held:
    """Holds bytes, and spills half of them, or the last one."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget = budget
        self.nbytes = 0

    def grow(self, nbytes: int) -> None:
        self.nbytes += nbytes
        self.budget.hold(self, self.nbytes)

    def spill(self) -> int:
        self.nbytes //= 2
        return self.nbytes


def test_the_largest_spills_first_and_only_as_far_as_needed() -> None:
    budget = MemoryBudget(100)
    small, large = Held(budget), Held(budget)
    large.grow(60)
    small.grow(50)
    assert (small.nbytes, large.nbytes) == (50, 30)
    large.grow(5)
    assert (small.nbytes, large.nbytes) == (50, 35)


def test_the_sum_never_exceeds_the_limit_whatever_grows() -> None:
    budget, chance = MemoryBudget(1_000), Random(5)
    holders = [Held(budget) for _ in range(20)]
    for _ in range(2_000):
        chance.choice(holders).grow(chance.randrange(120))
        assert sum(each.nbytes for each in holders) <= 1_000


def test_reserved_memory_is_unavailable_to_others_until_it_is_released() -> None:
    budget = MemoryBudget(100)
    held = Held(budget)
    held.grow(80)
    budget.reserve("a part", 50)
    held.grow(0)
    assert held.nbytes == 40
    budget.reserve("a part", 0)
    held.grow(55)
    assert held.nbytes == 95


def test_a_budget_without_room_for_objects_is_refused_with_the_required_amount() -> None:
    with pytest.raises(SettingsError, match=r"upload_threads=4, part_size_mb=8.*needs 128") as refused:
        S3Destination(s3_bucket_name="lake", memory_mb=100)
    assert refused.value.setting == "memory_mb"
    assert S3Destination(s3_bucket_name="lake", memory_mb=128).memory_mb == 128


@pytest.fixture(scope="module")
def noise() -> list[JsonBatch]:
    """5 MB of records with texts that hardly compress, in batches of half a megabyte."""
    texts = [Random(number).randbytes(480).hex() for number in range(ROWS)]
    records = [{"id": number, "name": text} for number, text in enumerate(texts)]
    return [batch_of(records[first : first + 500]) for first in range(0, ROWS, 500)]


def landed_in_turn(server: S3Server, bucket: str, batches: Sequence[JsonBatch], **settings: Any) -> list[Receipt]:
    """Lands four streams, one batch of each in turn, with a budget of 16 MiB for their objects. Equal input gives
    equal bytes."""
    chosen = destination(bucket, **{**LEAST, **settings})
    opened = open_target(chosen, server.open(chosen), clock=lambda: datetime.now(UTC), entropy=bytes)
    with opened as target_:
        landings = [Landing(target_, stream(name), sync("once")) for name in NAMES]
        for batch in batches:
            for landing in landings:
                landing.append_batch(batch)
        return [landing.commit() for landing in landings]


def test_objects_that_end_early_for_lack_of_memory_are_reported(
    moto_s3: S3Server, noise: list[JsonBatch], caplog: pytest.LogCaptureFixture
) -> None:
    bucket = moto_s3.new_bucket()
    with caplog.at_level(logging.WARNING, "s3dest_dagster.ingest"):
        receipts = landed_in_turn(moto_s3, bucket, noise)
    early = [each for receipt in receipts for each in receipt.objects if each.close_reason == "memory"]
    assert 0 < len(early) == sum(each.ended_early for each in receipts)
    assert sum("memory_mb is used up" in each.message for each in caplog.records) == 1
    assert ids_by_listing(moto_s3, bucket) == sorted(list(range(ROWS)) * len(NAMES))


def test_row_groups_end_early_before_objects_do(moto_s3: S3Server, noise: list[JsonBatch]) -> None:
    bucket = moto_s3.new_bucket()
    receipts = landed_in_turn(moto_s3, bucket, noise, format=ParquetFormat(), memory_mb=95)
    objects = [each for receipt in receipts for each in receipt.objects]
    assert {each.close_reason for each in objects} == {"end"}
    short = [each for each in objects if each.short_row_groups]
    assert short
    for each in short:
        at_the_end = parquet_file(moto_s3, bucket, each.key).num_row_groups - each.short_row_groups
        assert at_the_end in (0, 1)
    assert sum(each.ended_early for each in receipts) == sum(each.short_row_groups for each in objects)


def test_row_groups_have_the_block_size_if_memory_allows(moto_s3: S3Server, noise: list[JsonBatch]) -> None:
    bucket = moto_s3.new_bucket()
    settings = destination(bucket, format=ParquetFormat(dictionary_encoding=False, block_size_mb=2))
    with target(moto_s3, settings) as opened:
        receipt = land(noise, opened, stream(), sync("once"))
    assert receipt.ended_early == 0
    metadata = parquet_file(moto_s3, bucket, receipt.objects[0].key)
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    assert len(sizes) == 3
    assert sizes[:2] == pytest.approx([2 << 20] * 2, rel=0.05)


def parquet_file(server: S3Server, bucket: str, key: str) -> pq.FileMetaData:
    return pq.read_metadata(io.BytesIO(server.client().get_object(Bucket=bucket, Key=key)["Body"].read()))


@pytest.mark.parametrize("settings", [PLAIN_JSONL, ParquetFormat()], ids=["jsonl", "parquet"])
def test_early_ends_do_not_depend_on_the_workers(
    moto_s3: S3Server, noise: list[JsonBatch], settings: FormatSettings
) -> None:
    seen = []
    for workers in (1, 3):
        room = {"encode_workers": workers, "memory_mb": 63 + 16 * workers}
        receipts = landed_in_turn(moto_s3, moto_s3.new_bucket(), noise, format=settings, **room)
        objects = [each for receipt in receipts for each in receipt.objects]
        seen.append([(each.rows, each.close_reason, each.short_row_groups, each.crc32) for each in objects])
    assert seen[0] == seen[1]


@LINUX
@pytest.mark.parametrize(
    ("streams", "memory_mb", "format_"),
    [
        pytest.param(30, 192, {"format_type": "Parquet"}, marks=LARGE),
        pytest.param(200, 256, {"format_type": "JSONL", "compression": NOT_COMPRESSED}, marks=LARGE),
        pytest.param(30, 512, {"format_type": "Parquet"}, marks=LARGE),
        pytest.param(200, 512, {"format_type": "Parquet", "compression_codec": "SNAPPY"}, marks=LARGE),
        pytest.param(200, 512, {"format_type": "JSONL"}, marks=LARGE),
    ],
    ids=str,
)
def test_a_process_stays_within_its_budget(
    rclone_s3: S3Server, streams: int, memory_mb: int, format_: dict[str, Any]
) -> None:
    """The extra memory of the allocators counts as part of `memory_mb`."""
    room = {"memory_mb": memory_mb}
    answer = landed_by_a_process(rclone_s3, format_, room, streams=streams, megabytes=2 * memory_mb)
    assert answer["ended_early"] > 0
    assert answer["added_mb"] <= memory_mb


@LINUX
@pytest.mark.parametrize(
    ("format_", "most_mb"),
    [
        ({"format_type": "JSONL"}, 150),
        pytest.param({"format_type": "Avro", "compression_codec": {"codec": "Deflate"}}, 150, marks=LARGE),
        pytest.param({"format_type": "Parquet", "block_size_mb": 16}, 150 + 2 * 16, marks=LARGE),
    ],
    ids=["jsonl", "avro", "parquet"],
)
def test_one_stream_adds_little_memory_however_large_it_is(
    rclone_s3: S3Server, format_: dict[str, Any], most_mb: int
) -> None:
    answer = landed_by_a_process(rclone_s3, format_, {}, streams=1, megabytes=2 * most_mb)
    assert answer["ended_early"] == 0
    assert answer["added_mb"] <= most_mb


def landed_by_a_process(
    server: S3Server, format_: dict[str, Any], own: dict[str, Any], *, streams: int, megabytes: int
) -> dict[str, Any]:
    """The report of a process that has landed this much."""
    order = {
        "connection": {
            "endpoint": server.endpoint,
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
            "region": "us-east-1",
        },
        "config": {
            "s3_bucket_name": server.new_bucket(),
            "s3_bucket_path": "data",
            "s3_bucket_region": "us-east-1",
            "format": format_,
            "s3dest": own,
        },
        "streams": streams,
        "megabytes": megabytes,
        "record_bytes": 2_000,
    }
    told = subprocess.run(
        [sys.executable, SCRIPT], input=json.dumps(order), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(told.stdout)
