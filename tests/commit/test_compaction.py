"""Heads stay small, commits cost the same and readers make few requests, no matter how many syncs a scope has had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from failing_clients import CountedClient
from hypothesis import given
from hypothesis import strategies as st
from land_and_read import START, batches_of, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.compaction import FULL_SEGMENT, compaction
from s3dest_dagster.commit.documents import head_key, location_of, segment_key, segment_name
from s3dest_dagster.commit.head import HEADS, Head
from s3dest_dagster.commit.landed_objects import MultipartUpload, SegmentObject
from s3dest_dagster.commit.segment import SEGMENTS, Counts, Replacement, Segment, SegmentSchema, SyncPart
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import live_objects
from s3dest_dagster.keys import scope_root
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

APPEND = SyncMode.APPEND
USERS = Scope(StreamId("public", "users"))
LOCATION = location_of("data/_s3dest/public/users/~/", USERS)


# ---------------------------------------------------------------------- on values only


def schema_of(json_schema: str) -> SegmentSchema:
    return SegmentSchema(fingerprint="f", avro_schema="{}", json_schema=json_schema)


def segment_of(number: int, objects: int = 1, **changes: Any) -> Segment:
    """The receipt of sync `number`, with its own objects."""
    name = segment_name(f"6e1c2f0a-7d3b-4c55-9a10-{number:012}", f"{number:08x}")
    made = Segment(
        name=name,
        location=LOCATION,
        sync=SyncPart(id=f"sync-{number}", mode="append", started_at=START + timedelta(minutes=5 * number)),
        objects=tuple(
            SegmentObject(
                key=f"data/public/users/2026_01_05_{number:013}_{part}.jsonl",
                rows=1,
                bytes=100,
                etag="59adb24ef3cdbe0297f05b395827453f-1",
                close_reason="end",
                upload=MultipartUpload(f"upload-{number}-{part}", ("d41d8cd98f00b204e9800998ecf8427e",)),
            )
            for part in range(objects)
        ),
        quarantine=None,
        next_part_number=0,
        counts=Counts(read=objects, landed=objects),
        total_rows=objects * (number + 1),
        schema=schema_of("{}"),
        format={"format_type": "JSONL"},
        settings={},
        state=None,
        library_version="1",
    )
    return replace(made, **changes)


def published(syncs: Sequence[Segment], partition: str | None = None) -> Iterator[tuple[Head, dict[str, Segment]]]:
    """The head after these syncs, and all segments written so far."""
    head, written = Head(location=replace(LOCATION, partition=partition)), {}
    for each in syncs:
        segment = each
        if head.newest is not None and not each.replaces and not each.is_empty:
            segment = replace(each, compaction=compaction(each, head, written[head.newest]))
        written[segment.name] = segment
        head = head.published(segment)
        yield head, written


def listed_keys(names: Sequence[str], written: dict[str, Segment]) -> list[str]:
    """The keys that the segments with these names list, read as the documentation describes."""
    keys = []
    for name in names:
        keys += listed_keys(written[name].compaction.compacts, written)
        keys += [each.key for absorbed in written[name].compaction.absorbs for each in absorbed.objects]
        keys += [each.key for each in written[name].objects]
    return keys


@given(
    st.lists(
        st.tuples(
            st.integers(0, FULL_SEGMENT + 2),
            st.sampled_from(["add"] * 8 + ["replace"]),
            st.sampled_from(["{}"] * 4 + ["[]"]),
        ),
        max_size=60,
    )
)
def test_compaction_lists_every_object_once_and_in_order(syncs):
    made, expected = [], []
    for number, (objects, what, schema) in enumerate(syncs):
        replaced = Replacement() if what == "replace" else None
        made.append(segment_of(number, objects, replaced=replaced, schema=schema_of(schema)))
        mine = [each.key for each in made[-1].objects]
        expected.append(mine if what == "replace" or not expected else expected[-1] + mine)
    for (head, written), keys in zip(published(made), expected, strict=True):
        assert listed_keys([name for level in reversed(head.segments) for name in level], written) == keys


def test_an_absorbed_sync_has_the_schema_and_format_of_the_segment_that_absorbs_it():
    syncs = [segment_of(number, schema=schema_of("{}" if number % 3 else "[]")) for number in range(40)]
    own = {each.name: each.schema for each in syncs}
    *_, (_, written) = published(syncs)
    for segment in written.values():
        assert {own[each.segment] for each in segment.compaction.absorbs} <= {segment.schema}


def test_an_absorbed_object_keeps_the_etag_of_the_server(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), part_size_mb=5)
    long = [{"id": number, "name": "x" * 1_000_000} for number in range(6)]
    with target(moto_s3, settings) as opened:
        land(batches_of(long), opened, stream(mode=APPEND), sync("large"))
        land(batches_of(users(2, 2)), opened, stream(mode=APPEND), sync("small"))
        large, _ = live_objects(opened.bucket, settings.template, USERS)
        assert large.segment.sync_id == "small"
        assert large.item.etag == opened.bucket.head(large.item.key).etag
        assert large.item.etag.endswith("-2")


# ---------------------------------------------------------------------- a scope with 10,000 syncs


def bytes_of_a_commit(head: Head, segment: Segment) -> int:
    """The size of the manifests of one sync: its segment, and the head when it is decided and when it is published."""
    return len(SEGMENTS.encode(segment)) + sum(
        len(HEADS.encode(each)) for each in (head.decided(segment), head.published(segment))
    )


def test_the_manifests_of_the_ten_thousandth_commit_are_at_most_twice_as_large_as_those_of_the_tenth():
    states = list(published([segment_of(number) for number in range(10_000)]))
    sizes = [
        bytes_of_a_commit(before, written[after.newest])
        for number, ((before, _), (after, written)) in enumerate(pairwise(states), 1)
        if number == 9 or number > 9_000
    ]
    assert max(sizes[1:]) <= 2 * sizes[0]


def scope_after(server: S3Server, scope: Scope, number: int, *, readable: bool = False) -> Bucket:
    """A bucket in which a scope of `users` has had this many syncs, represented by its head and its newest segment.
    If `readable`, then it contains all live segments."""
    settings = destination(server.new_bucket())
    bucket = server.open(settings)
    root = scope_root(settings.template.literal_root, scope)
    with target(server, settings, bucket) as opened:
        land(batches_of(users(0, 0)), opened, stream(mode=APPEND), sync("the first"), scope=scope)
    kept = HEADS.decode(bucket.get(head_key(root))[0], "")
    first = SEGMENTS.decode(bucket.get(segment_key(root, kept.newest))[0], "")
    *_, (head, written) = published(
        [replace(each, **alike(first)) for each in map(segment_of, range(number))], kept.location.partition
    )
    for name in live_segments(head.oldest_first, written) if readable else [head.newest]:
        bucket.put(segment_key(root, name), SEGMENTS.encode(written[name]))
    bucket.put(head_key(root), HEADS.encode(head))
    return bucket


def alike(segment: Segment) -> dict[str, Any]:
    """What the segments of syncs with the same settings and schema have in common."""
    names = ("location", "replaced", "schema", "format", "settings")
    return {name: getattr(segment, name) for name in names}


def live_segments(names: Sequence[str], written: dict[str, Segment]) -> list[str]:
    """The names of all live segments."""
    return [each for name in names for each in (*live_segments(written[name].compaction.compacts, written), name)]


def cost_of_a_sync(server: S3Server, bucket: Bucket, scope: Scope) -> tuple[list[str], int]:
    """The calls of one more append, and the bytes that it puts in addition to the data."""
    client = CountedClient(server.client())
    counted = Bucket(client, bucket.name)
    assert counted.with_root("data/_s3dest/").abilities
    client.calls.clear()
    client.bytes = 0
    with target(server, destination(bucket.name), counted) as opened:
        sync_id = "6e1c2f0a-7d3b-4c55-9a10-999999999999"
        land(batches_of(users(1, 1)), opened, stream(mode=APPEND), sync(sync_id), scope=scope)
    return client.calls, client.bytes


@pytest.mark.parametrize("scope", [USERS, Scope(USERS.stream, "2026-01-05")], ids=["append", "replaced-partition"])
def test_the_ten_thousandth_sync_makes_the_same_calls_as_the_tenth(moto_s3: S3Server, scope: Scope) -> None:
    young, old = (scope_after(moto_s3, scope, number) for number in (9, 9_999))
    calls, size = cost_of_a_sync(moto_s3, young, scope)
    calls_then, size_then = cost_of_a_sync(moto_s3, old, scope)
    # The sync looks for a mark of its own id, and writes a mark for the sync that the head forgets.
    assert len(calls_then) <= len(calls) + 2, calls_then
    assert size_then <= 2 * size


def test_a_reader_requests_one_segment_per_sixteen_syncs(moto_s3: S3Server) -> None:
    bucket = scope_after(moto_s3, USERS, 500, readable=True)
    client = CountedClient(moto_s3.client())
    found = live_objects(Bucket(client, bucket.name), destination(bucket.name).template, USERS)
    assert [each.sync.sync_id for each in found] == [segment_of(number).own_sync.sync_id for number in range(500)]
    assert client.calls.count("get_object") == 1 + -(-500 // FULL_SEGMENT)
