"""Whatever syncs with generations land, in whatever order, the rule leaves those that a small model leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from land_and_read import START, batches_of, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.compaction import compaction
from s3dest_dagster.commit.documents import FORMAT_VERSION, VERSION_WITH_GENERATIONS, location_of, segment_name
from s3dest_dagster.commit.generations import generation_of, live, staying
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.segment import Counts, Replacement, Segment, SegmentSchema, SyncPart
from s3dest_dagster.errors import ManifestError, SettingsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.stream import Generation, Scope, StreamId, SyncMode

USERS = Scope(StreamId("public", "users"))
LOCATION = location_of("data/_s3dest/public/users/~/", USERS)


# ---------------------------------------------------------------------- on values only


def objects_of(segment: Segment) -> Iterator[SegmentObject]:
    return iter(segment.objects)


class Documents:
    """A head and its segments, changed as the commit changes them."""

    def __init__(self) -> None:
        self.head = Head(location=LOCATION)
        self.segments: dict[str, Segment] = {}

    def named(self) -> list[Segment]:
        """The segments that the head names, oldest first."""
        return list(self._expanded(self.head.oldest_first))

    def _expanded(self, names):
        for name in names:
            yield from self._expanded(self.segments[name].compaction.compacts)
            yield self.segments[name]

    def keys(self) -> list[str]:
        """The keys of all live objects."""
        segments = live(self.named(), objects_of)
        return sorted(
            item.key for each in segments for one in (*each.compaction.absorbs, each.own_sync) for item in one.objects
        )

    def land(self, number: int, objects: int, generation: Generation | None) -> None:
        """Publishes a sync with so many objects, which are named after it."""
        minimum = generation.minimum if generation is not None else 0
        before = live(self.named(), objects_of)
        kept = staying(before, minimum, objects_of)
        replaced = None
        if minimum and (len(kept) < len(before) or not kept):
            replaced = Replacement(is_partial=bool(kept))
        made = Segment(
            name=segment_name(f"sync-{number}", f"{number:08x}"),
            location=LOCATION,
            sync=SyncPart(
                id=f"sync-{number}",
                mode="append",
                started_at=START + timedelta(minutes=number),
                generation_id=generation.id if generation is not None else None,
                minimum_generation_id=minimum if generation is not None else None,
            ),
            objects=tuple(
                SegmentObject(key=f"{number}/{part}", rows=1, bytes=1, etag="", close_reason="end")
                for part in range(objects)
            ),
            quarantine=None,
            next_part_number=0,
            counts=Counts(read=objects, landed=objects),
            replaced=replaced,
            schema=SegmentSchema(json_schema="{}"),
            state=None,
            format={},
            settings={},
            library_version="0",
        )
        if self.head.newest is not None and not made.replaces and not (made.is_empty and replaced is None):
            made = replace(made, compaction=compaction(made, self.head, self.segments[self.head.newest]))
        self.segments[made.name] = made
        self.head = self.head.decided(made).published(made)


generations = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda pair: Generation(max(pair), min(pair))),
)
histories = st.lists(st.tuples(st.sampled_from([0, 1, 1, 2, 20]), generations), max_size=40)


def of_model(history: list[tuple[int, Generation | None]]) -> list[str]:
    """The keys of the objects that stay, by the rule in its plain form."""
    found: list[tuple[int, str]] = []
    for number, (objects, generation) in enumerate(history):
        minimum = generation.minimum if generation is not None else 0
        own = generation.id if generation is not None else 0
        found = [each for each in found if each[0] >= minimum]
        found += [(own, f"{number}/{part}") for part in range(objects)]
    return sorted(key for _, key in found)


@given(histories)
def test_the_live_objects_are_those_of_the_model(history):
    documents = Documents()
    for number, (objects, generation) in enumerate(history):
        documents.land(number, objects, generation)
        assert documents.keys() == of_model(history[: number + 1])
    assert len([name for level in documents.head.segments for name in level]) <= 4 * len(documents.head.segments)


@given(histories)
def test_no_segment_has_objects_of_two_generations(history):
    documents = Documents()
    for number, (objects, generation) in enumerate(history):
        documents.land(number, objects, generation)
    for segment in documents.segments.values():
        assert {each.generation_id or 0 for each in segment.compaction.absorbs} <= {generation_of(segment)}


def adoption(minute: int, *generation_ids: int | None) -> Segment:
    """An adoption with an object of each generation."""
    documents = Documents()
    documents.land(minute, len(generation_ids), None)
    (made,) = documents.segments.values()
    pairs = zip(made.objects, generation_ids, strict=True)
    return replace(made, kind="adoption", objects=tuple(replace(item, generation_id=each) for item, each in pairs))


def test_adopted_objects_leave_one_by_one_and_only_by_later_syncs():
    documents = Documents()
    documents.land(1, 1, Generation(12))
    documents.land(2, 1, Generation(13))
    documents.land(3, 1, Generation(14, minimum=13))
    named = documents.named()
    before, after = (adoption(minute, None, 12, 13, 14) for minute in (0, 9))
    assert [each.key for each in live([before, *named], objects_of)[0].objects] == ["0/2", "0/3"]
    assert len(live([after, *named], objects_of)[0].objects) == 4
    assert len(live([before, *named], objects_of)) == 3


@pytest.mark.parametrize(("number", "minimum"), [(1, 2), (-1, 0), (1, -1)])
def test_a_minimum_above_the_generation_is_refused(number, minimum):
    with pytest.raises(SettingsError, match="not possible"):
        Generation(number, minimum)


# ---------------------------------------------------------------------- on a server


@settings(max_examples=4)
@given(st.lists(st.tuples(st.integers(0, 2), generations), min_size=3, max_size=6))
def test_histories_on_a_server_hold_what_the_model_holds(moto_s3: S3Server, history):
    """Readers of the bucket, readers of the manifest and the counts agree. The records of each sync have its number."""
    lake = destination(moto_s3.new_bucket())
    with target(moto_s3, lake) as opened:
        for number, (records, generation) in enumerate(history):
            described = replace(stream(mode=SyncMode.APPEND), generation=generation)
            receipt = land(
                batches_of(users(number, number) * records) if records else (), opened, described, sync(f"s{number}")
            )
            expected = sorted(int(key.partition("/")[0]) for key in of_model(history[: number + 1]))
            assert ids_by_listing(moto_s3, lake.s3_bucket_name) == expected
            assert receipt.total_rows == len(expected)
        verified = verify(opened.bucket, lake.template, USERS, deep=True)
    assert (verified.problems, verified.rows) == ((), len(expected))


@pytest.mark.parametrize("grace", [0, 3600])
def test_what_leaves_is_deleted_after_its_grace_and_no_earlier(moto_s3: S3Server, grace):
    lake = destination(moto_s3.new_bucket(), delete_grace_s=grace)
    appended = stream(mode=SyncMode.APPEND)
    with target(moto_s3, lake) as opened:
        for number in (1, 2):
            land(
                batches_of(users(number, number)),
                opened,
                replace(appended, generation=Generation(number)),
                sync(f"{number}"),
            )
        made = replace(appended, generation=Generation(3, minimum=2))
        receipt = land(batches_of(users(3, 3)), opened, made, sync("3"))
        head = CommitLog.of(opened.bucket, lake.template, USERS).read_head().head
    assert len(receipt.removed) == 1
    assert not receipt.replaces
    assert ids_by_listing(moto_s3, lake.s3_bucket_name) == ([1, 2, 3] if grace else [2, 3])
    assert len(head.retired) == (1 if grace else 0)


@pytest.mark.parametrize("minimum", [13, 14])
def test_a_reader_that_ignores_generations_refuses_a_scope_from_which_some_have_left(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, minimum: int
):
    """It would list what has left. Syncs that leave nothing behind them have the version that every reader knows."""
    lake = destination(moto_s3.new_bucket())
    for number in (12, 13, 14):
        described = replace(stream(mode=SyncMode.APPEND), generation=Generation(number, minimum if number == 14 else 0))
        with target(moto_s3, lake) as opened:
            land(batches_of(users(number, number)), opened, described, sync(f"{number}"))
    commit_log = CommitLog.of(moto_s3.open(lake), lake.template, USERS)
    versions = {each.format_version for each in commit_log.live_segments(commit_log.read_head().head)}
    assert versions == ({FORMAT_VERSION, VERSION_WITH_GENERATIONS} if minimum == 13 else {FORMAT_VERSION})
    monkeypatch.setattr("s3dest_dagster.commit.documents.NEWEST_VERSION", VERSION_WITH_GENERATIONS - 1)
    older = CommitLog.of(moto_s3.open(lake), lake.template, USERS)
    if minimum == 14:
        assert len(older.live_segments(older.read_head().head)) == 1
        return
    with pytest.raises(ManifestError, match=r"format version 3; this library knows up to 2.*Install a newer"):
        older.live_segments(older.read_head().head)


def test_a_segment_that_absorbs_another_one_keeps_its_version(moto_s3: S3Server):
    lake = destination(moto_s3.new_bucket())
    for number, generation in enumerate([Generation(12), Generation(13), Generation(14, 13), Generation(14)]):
        described = replace(stream(mode=SyncMode.APPEND), generation=generation)
        with target(moto_s3, lake) as opened:
            land(batches_of(users(number, number)), opened, described, sync(f"{number}"))
    commit_log = CommitLog.of(moto_s3.open(lake), lake.template, USERS)
    newest = commit_log.live_segments(commit_log.read_head().head)[-1]
    assert [each.sync_id for each in newest.compaction.absorbs] == ["2"]
    assert (newest.replaced, newest.format_version) == (None, VERSION_WITH_GENERATIONS)


def test_a_partition_is_landed_again_as_a_whole_whatever_its_generation(moto_s3: S3Server):
    lake = destination(moto_s3.new_bucket(), s3_path_format="${STREAM_NAME}/${PARTITION}/")
    described = replace(stream(mode=SyncMode.APPEND), generation=Generation(1))
    with target(moto_s3, lake) as opened:
        for number in (1, 2):
            scope = Scope(described.id, "2026-01-05")
            land(batches_of(users(number, number)), opened, described, sync(f"{number}"), scope=scope)
    assert ids_by_listing(moto_s3, lake.s3_bucket_name) == [2]
