"""An order carries the generation of its sync: what leaves, leaves at the commit, and once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from land_and_read import batch_of, destination, ids_by_listing, open_uploads, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.generations import GENERATION_METADATA
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards import Order, ShardReceipt, begin, commit, stage
from s3dest_dagster.stream import Generation, Scope, Stream, SyncMode

SCOPE = Scope(stream().id)


def _of_generation(number: int, minimum: int = 0, mode: SyncMode = SyncMode.APPEND) -> Stream:
    return replace(stream(mode=mode), generation=Generation(number, minimum, sync_id=99))


def _land(server: S3Server, lake: S3Destination, numbers: Iterable[int], of: Stream) -> None:
    """A sync of one record for each number."""
    with target(server, lake) as opened:
        for number in numbers:
            land([batch_of(users(number, number))], opened, of, sync(f"landed {number}"))


def _begun(server: S3Server, lake: S3Destination, of: Stream, sync_id: str = "new") -> Order:
    with target(server, lake) as opened:
        return Order.from_json(begin(opened, of, sync(sync_id)).to_json())


def _staged(server: S3Server, lake: S3Destination, order: Order) -> list[ShardReceipt]:
    """Two shards, with the records 10, 11 and 20, 21."""
    bucket = server.open(lake)
    return [stage(order, users(10 * shard, 10 * shard + 1), shard=shard, s3=bucket) for shard in (1, 2)]


def _ordered(server: S3Server, lake: S3Destination, of: Stream, sync_id: str = "new") -> Any:
    order = _begun(server, lake, of, sync_id)
    receipts = [] if order.complete else _staged(server, lake, order)
    return commit(order, receipts, shards=len(receipts), s3=server.open(lake))


def _holds(server: S3Server, lake: S3Destination, expected: list[int]) -> None:
    """The bucket, the manifest and its counts agree."""
    assert ids_by_listing(server, lake.s3_bucket_name) == expected
    verified = verify(server.open(lake), lake.template, SCOPE, deep=True)
    assert (verified.problems, verified.rows) == ((), len(expected))
    assert open_uploads(server, lake.s3_bucket_name) == 0


NEW = [10, 11, 20, 21]


@pytest.mark.parametrize("mode", SyncMode)
@pytest.mark.parametrize(
    ("minimum", "stays"), [(0, [1, 2, 3]), (12, [1, 2, 3]), (13, [3]), (14, [])], ids=["0", "12", "13", "14"]
)
def test_a_commit_removes_the_generations_below_the_minimum_and_a_second_one_nothing(
    moto_s3: S3Server, minimum: int, stays: list[int], mode: SyncMode
) -> None:
    lake = destination(moto_s3.new_bucket())
    _land(moto_s3, lake, [1, 2], _of_generation(12))
    _land(moto_s3, lake, [3], _of_generation(13))
    landed = _of_generation(14, minimum, mode)
    receipts = [_ordered(moto_s3, lake, landed) for _ in range(2)]
    assert [receipt.rows for receipt in receipts] == [4, 4]
    _holds(moto_s3, lake, [*stays, *NEW])


def test_objects_and_manifest_know_the_generation_of_the_order(moto_s3: S3Server) -> None:
    lake = destination(moto_s3.new_bucket())
    receipt = _ordered(moto_s3, lake, _of_generation(14, 14))
    bucket = moto_s3.open(lake)
    assert {bucket.head(each.key).metadata[GENERATION_METADATA] for each in receipt.objects} == {"14"}
    commit_log = CommitLog.of(bucket, lake.template, SCOPE)
    (segment,) = commit_log.live_segments(commit_log.read_head().head)
    found = segment.sync
    assert (found.generation_id, found.minimum_generation_id, found.source_sync_id) == (14, 14, 99)


def test_a_later_attempt_adds_to_what_an_earlier_one_has_published_of_its_generation(moto_s3: S3Server) -> None:
    """A platform gives another attempt the same generation, and Dagster another sync id."""
    lake = destination(moto_s3.new_bucket())
    _land(moto_s3, lake, [1], _of_generation(13))
    _land(moto_s3, lake, [2], _of_generation(14, 14))
    _ordered(moto_s3, lake, _of_generation(14, 14))
    _holds(moto_s3, lake, [2, *NEW])


def test_until_the_commit_the_older_generation_stays(moto_s3: S3Server) -> None:
    """A driver that dies after its workers are done leaves the old records, and the next attempt lands the new ones."""
    lake = destination(moto_s3.new_bucket())
    _land(moto_s3, lake, [1], _of_generation(13))
    _staged(moto_s3, lake, _begun(moto_s3, lake, _of_generation(14, 14)))
    assert ids_by_listing(moto_s3, lake.s3_bucket_name) == [1]
    _ordered(moto_s3, lake, _of_generation(14, 14))
    _holds(moto_s3, lake, NEW)


def test_a_commit_of_listed_objects_removes_older_generations_too(moto_s3: S3Server) -> None:
    lake = destination(moto_s3.new_bucket())
    _land(moto_s3, lake, [1], _of_generation(12))
    _land(moto_s3, lake, [2], _of_generation(13))
    order = msgspec.structs.replace(_begun(moto_s3, lake, _of_generation(14, 13)), objects_of_a_list=1)
    commit(order, _staged(moto_s3, lake, order), shards=2, s3=moto_s3.open(lake))
    _holds(moto_s3, lake, [2, *NEW])


def test_ids_that_may_be_a_constant_count_only_over_a_stream_with_generations(moto_s3: S3Server) -> None:
    """The driver decides it for all workers."""
    lake = destination(moto_s3.new_bucket())
    ambiguous = replace(stream(mode=SyncMode.APPEND), generation=Generation(1, 1, 1, is_ambiguous=True))
    assert _begun(moto_s3, lake, ambiguous).generation is None
    _ordered(moto_s3, lake, ambiguous, "first")
    _holds(moto_s3, lake, NEW)
    _land(moto_s3, lake, [1], replace(stream(), generation=Generation(1, 1, 1)))
    assert _begun(moto_s3, lake, ambiguous, "second").generation == Generation(1, 1, 1)
