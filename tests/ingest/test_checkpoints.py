"""Checkpoints of a long append: records and the state that they reach are published together, and a retry resumes from
there.

The source of these tests is reliable: from a given state it yields each later record once, as a connector does.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count

import pytest
from failing_clients import EVERY_CRASH, OvertakenClient, failing_in_turn
from land_and_read import START, batch_of, data_keys, destination, open_uploads, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import BadRecord, SourceItem, State
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.head import REMEMBERED_SYNCS, Head
from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.errors import S3DestError, SettingsError, SupersededError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import last_sync
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

APPEND = SyncMode.APPEND
EVERY_STATE = 0.000_001
"""A `checkpoint_mb` that one record exceeds."""
ALL = 4
_streams = count()


class SourceDiedError(Exception):
    """The connector has died."""


def reached(number: int, name: str = "users") -> State:
    """The state after the records up to this number."""
    text = json.dumps({"cursor": number}).encode()
    return State(StreamId("public", name), text, b'{"type":"STATE","state":' + text + b"}")


def after(state: str | None, *, until: int = ALL, dies: bool = False) -> Iterator[SourceItem]:
    """Yields what the source sends after a state: a record, its state, and so on. Then it ends, or dies."""
    for number in range(cursor(state) + 1, until + 1):
        yield batch_of(users(number, number))
        yield reached(number)
    if dies:
        yield batch_of(users(99, 99))
        raise SourceDiedError


def cursor(state: str | None) -> int:
    return json.loads(state)["cursor"] if state is not None else 0


class Lake:
    """A bucket with a checkpoint at every state, with access through the library and an independent reader."""

    def __init__(self, server: S3Server, **settings) -> None:
        self.server = server
        self.settings = destination(server.new_bucket(), **{"checkpoint_mb": EVERY_STATE, **settings})
        self.client = server.client()
        self.bucket = Bucket(self.client, self.settings.s3_bucket_name)

    def run(self, sync_id: str, client=None, *, name: str = "users", **source) -> Receipt:
        """Runs one attempt at a sync, whose source starts from the state that the scope has reached."""
        with (
            self.target(client) as opened,
            Landing(opened, stream(name, APPEND), sync(sync_id)) as landing,
        ):
            if not landing.recorded:
                for item in after(landing.last_state and landing.last_state.text, **source):
                    landing.append(item)
            return landing.commit()

    def target(self, client=None):
        bucket = self.bucket if client is None else Bucket(client, self.settings.s3_bucket_name)
        bucket.__dict__["_conditional"] = self.server.root is None
        return target(self.server, self.settings, bucket)

    def commit_log(self, name: str = "users") -> CommitLog:
        return CommitLog(self.bucket, f"data/_s3dest/public/{name}/~/", Scope(stream(name).id))

    def head(self, name: str = "users") -> Head:
        return self.commit_log(name).read_head().head

    def state(self, name: str = "users") -> int:
        """The cursor that the next sync begins with."""
        holder = self.head(name).state_segment
        return cursor(self.commit_log(name).read_segment(holder).state.text) if holder is not None else 0

    def state_seen(self, name: str) -> int:
        """The cursor of the records that readers see, including those of a decided segment once all of its objects
        exist."""
        segments = self.commit_log(name).visible_segments(self.head(name))
        return max((cursor(each.state.text) for each in segments if each.state is not None), default=0)

    def seen(self, name: str = "users") -> list[int]:
        """The ids that a reader through the head sees."""
        table = read_scope(self.bucket, self.settings.template, Scope(stream(name).id))
        return [] if table is None else sorted(table["id"].to_pylist())

    def listed(self, name: str = "users") -> list[int]:
        """The ids that a listing shows."""
        ids = []
        for each in self.client.list_objects_v2(Bucket=self.bucket.name, Prefix=f"data/public/{name}/").get(
            "Contents", ()
        ):
            body = self.client.get_object(Bucket=self.bucket.name, Key=each["Key"])["Body"].read()
            ids += [json.loads(line)["_airbyte_data"]["id"] for line in body.splitlines()]
        return sorted(ids)

    def uploads(self) -> int:
        return open_uploads(self.server, self.bucket.name)

    def check(self, name: str, where: str) -> None:
        """Checks that the state matches the records, both through the head and, after recovery, in a listing."""
        assert self.seen(name) == list(range(1, self.state_seen(name) + 1)), where
        recovered = recover(self.bucket, self.settings.template, Scope(stream(name).id))
        assert recovered.ok, f"{where}: {recovered.message}"
        assert self.listed(name) == list(range(1, self.state(name) + 1)), where


# ---------------------------------------------------------------------- what a failed sync leaves, and its retry


@pytest.mark.parametrize("second", ["a", "b"], ids=["retry", "next-sync"])
def test_a_sync_that_dies_leaves_its_checkpoints_and_the_next_one_resumes_from_there(
    any_s3: S3Server, second: str
) -> None:
    lake = Lake(any_s3)
    with pytest.raises(SourceDiedError):
        lake.run("a", until=2, dies=True)
    assert (lake.listed(), lake.state(), lake.uploads()) == ([1, 2], 2, 0)
    lake.run(second)
    assert (lake.listed(), lake.state()) == ([1, 2, 3, 4], 4)


def test_the_receipt_covers_the_whole_sync_and_lists_what_earlier_attempts_published(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    with pytest.raises(SourceDiedError):
        lake.run("a", until=3, dies=True)
    receipt = lake.run("a")
    assert (receipt.rows, receipt.counts.read, receipt.checkpoints, receipt.earlier.landed) == (4, 4, 4, 3)
    assert [each.key for each in receipt.objects] == data_keys(moto_s3, lake.bucket.name)
    assert json.loads(receipt.state) == {"cursor": 4}

    again = lake.run("a")
    assert again.repeated
    assert (again.objects, again.counts, again.checkpoints, again.earlier, again.state) == (
        receipt.objects,
        receipt.counts,
        receipt.checkpoints,
        receipt.earlier,
        receipt.state,
    )


def test_the_counts_of_the_last_sync_cover_the_whole_sync(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    lake.run("a")
    counted = last_sync(lake.bucket, lake.settings.template, Scope(stream().id))
    assert (counted.counts.read, counted.counts.landed, counted.problem) == (4, 4, "")


def test_a_sync_without_an_earlier_attempt_reports_none(moto_s3: S3Server) -> None:
    receipt = Lake(moto_s3).run("a")
    assert (receipt.rows, receipt.checkpoints, receipt.earlier) == (4, 4, None)


def test_the_callback_receives_each_checkpoint(moto_s3: S3Server) -> None:
    told: list[Receipt] = []
    with Lake(moto_s3).target() as opened:
        land(after(None, until=2), opened, stream(mode=APPEND), sync("a"), on_checkpoint=told.append)
    assert [(each.rows, each.checkpoints, cursor(each.state)) for each in told] == [(1, 1, 1), (1, 1, 2)]


def test_the_progress_continues_across_checkpoints(moto_s3: S3Server) -> None:
    seen = []
    with Lake(moto_s3).target() as opened:
        land(
            after(None),
            opened,
            stream(mode=APPEND),
            sync("a"),
            on_progress=lambda progress: seen.append((progress.rows, progress.objects)),
        )
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_quarantined_lines_count_in_the_segment_that_they_arrived_in(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, on_bad_record="quarantine")
    bad = BadRecord(StreamId("public", "users"), b"{", "it is torn")
    items = [batch_of(users(1, 1)), bad, reached(1), bad, batch_of(users(2, 2))]
    with lake.target() as opened:
        receipt = land(items, opened, stream(mode=APPEND), sync("a"))
    first, last = lake.commit_log().segments_of_sync(lake.head().recent_syncs[-1].segment)
    assert [(each.counts.landed, each.counts.quarantined) for each in (first, last)] == [(1, 1), (1, 1)]
    assert first.quarantine.key != last.quarantine.key
    assert (receipt.counts.read, receipt.counts.landed, receipt.counts.quarantined) == (4, 2, 2)


def test_a_state_without_records_is_stored_but_a_repeated_state_is_not(moto_s3: S3Server) -> None:
    told: list[Receipt] = []
    with _with_ticking_clock(Lake(moto_s3, checkpoint_mb=0, checkpoint_interval_s=0.001)) as opened:
        items = [reached(5), reached(5), reached(6)]
        land(items, opened, stream(mode=APPEND), sync("a"), on_checkpoint=told.append)
    assert [(each.rows, cursor(each.state)) for each in told] == [(0, 5), (0, 6)]


# ---------------------------------------------------------------------- when a checkpoint is made


@contextlib.contextmanager
def _with_ticking_clock(lake: Lake) -> Iterator[Target]:
    """The destination with a clock that advances by one second each time it is read."""
    ticks = count()

    def clock() -> datetime:
        return START + timedelta(seconds=next(ticks))

    with open_target(lake.settings, lake.bucket, clock=clock, entropy=os.urandom) as opened:
        yield opened


def _checkpoints(server: S3Server, mode: SyncMode = APPEND, partition: str | None = None, **settings) -> int:
    """The number of checkpoints that a sync of four records and states makes."""
    scope = Scope(StreamId("public", "users"), partition)
    with _with_ticking_clock(Lake(server, **settings)) as opened:
        return land(after(None), opened, stream(mode=mode), sync("a"), scope=scope).checkpoints


def test_a_checkpoint_is_made_after_checkpoint_mb_of_records(moto_s3: S3Server) -> None:
    record = len(json.dumps(users(1, 1)[0]))
    two_records = 2 * record / 1_000_000
    assert _checkpoints(moto_s3, checkpoint_mb=two_records) == 2
    assert _checkpoints(moto_s3, checkpoint_mb=two_records * 2) == 1


def test_a_checkpoint_is_made_after_checkpoint_s(moto_s3: S3Server) -> None:
    by_time = {"checkpoint_mb": 0}
    assert _checkpoints(moto_s3, checkpoint_interval_s=1, **by_time) == 4
    assert 0 < _checkpoints(moto_s3, checkpoint_interval_s=5, **by_time) < 4
    assert _checkpoints(moto_s3, checkpoint_interval_s=3600, **by_time) == 0


def test_zero_turns_checkpoints_off(moto_s3: S3Server) -> None:
    assert _checkpoints(moto_s3, checkpoint_mb=0, checkpoint_interval_s=0) == 0


@pytest.mark.parametrize("setting", ["checkpoint_mb", "checkpoint_interval_s"])
def test_a_negative_setting_is_refused(setting: str) -> None:
    with pytest.raises(SettingsError, match=setting):
        destination("bucket", **{setting: -1})


def test_there_is_no_checkpoint_without_a_state(moto_s3: S3Server) -> None:
    with Lake(moto_s3).target() as opened:
        receipt = land([batch_of(users(1, 1)), batch_of(users(2, 2))], opened, stream(mode=APPEND), sync("a"))
    assert receipt.checkpoints == 0


@pytest.mark.parametrize(
    ("mode", "partition", "settings"),
    [
        (SyncMode.FULL_REFRESH, None, {}),
        (APPEND, "2026-01-05", {}),
        (APPEND, "2026-01-05", {"on_rematerialize": "append"}),
        (APPEND, None, {"s3_path_format": "${STREAM_NAME}/${EPOCH}_", "file_name_pattern": "all{format_extension}"}),
    ],
    ids=["full-refresh", "partition", "partition-append", "one-key-a-sync"],
)
def test_a_sync_that_is_published_as_a_whole_has_no_checkpoints(moto_s3: S3Server, mode, partition, settings) -> None:
    assert _checkpoints(moto_s3, mode, partition, checkpoint_interval_s=0.001, object_size_mb=1, **settings) == 0


def test_keys_with_the_moment_of_the_upload_allow_checkpoints(moto_s3: S3Server) -> None:
    pattern = "{timestamp:micros}{format_extension}"
    assert _checkpoints(moto_s3, file_name_pattern=pattern) == 4


# ---------------------------------------------------------------------- what the manifests remember


def test_part_numbers_continue_across_checkpoints_and_attempts(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, s3_path_format="${NAMESPACE}/${STREAM_NAME}/part_")
    with pytest.raises(SourceDiedError):
        lake.run("a", until=2, dies=True)
    lake.run("a")
    keys = data_keys(moto_s3, lake.bucket.name)
    assert keys == [f"data/public/users/part_{number}.jsonl" for number in range(4)]
    assert lake.head().next_part_number == 4


def test_the_head_records_many_checkpoints_as_one_sync(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    with lake.target() as opened:
        land([], opened, stream(mode=APPEND), sync("before"))
        land(after(None, until=REMEMBERED_SYNCS + 5), opened, stream(mode=APPEND), sync("a"))
    head = lake.head()
    assert [(each.id, each.complete) for each in head.recent_syncs] == [("before", True), ("a", True)]
    assert lake.listed() == list(range(1, REMEMBERED_SYNCS + 6))


# ---------------------------------------------------------------------- other writers


def test_a_writer_that_is_overtaken_between_two_checkpoints_stops_and_leaves_the_first(any_s3: S3Server) -> None:
    lake = Lake(any_s3)
    with lake.target() as opened, Landing(opened, stream(mode=APPEND), sync("slow")) as slow:
        source = after(None)
        slow.append(next(source))
        slow.append(next(source))
        lake.run("quick", until=2)
        slow.append(next(source))
        with pytest.raises(SupersededError, match=r"Sync quick .* left what its checkpoints had published"):
            slow.append(next(source))
    assert (lake.listed(), lake.state(), lake.uploads()) == ([1, 2], 2, 0)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("other", "lost"),
    [("a", True), ("b", False), ("a", False)][: 2 + EVERY_CRASH],
    ids=["two-attempts-and-answers-lost", "two-syncs", "two-attempts"][: 2 + EVERY_CRASH],
)
def test_no_record_is_landed_twice_if_a_sync_with_checkpoints_is_overtaken(
    moto_s3: S3Server, other: str, lost: bool
) -> None:
    """At every other call of one writer, or at every one, another writer runs completely. The record that both would
    read is landed once."""
    lake = Lake(moto_s3)
    for at in count(1) if EVERY_CRASH else count(2 - lost, 2):
        name = f"checkpointed{next(_streams)}x"
        client = OvertakenClient(lake.client, at, lambda name=name: lake.run(other, name=name, until=2), lost=lost)
        with contextlib.suppress(S3DestError if lost else SupersededError):
            lake.run("a", client, name=name, until=1)
        lake.check(name, f"overtaken before call {at}")
        if at > client.calls:
            return


# ---------------------------------------------------------------------- failing at every call


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("lost", "dead"),
    [(True, False), (False, True)][: 1 + EVERY_CRASH],
    ids=["answer-lost", "refused-and-dead"][: 1 + EVERY_CRASH],
)
def test_the_retry_after_a_failure_at_any_call_lands_each_record_once(
    moto_s3: S3Server, lost: bool, dead: bool
) -> None:
    lake = Lake(moto_s3)
    for client in failing_in_turn(lake.client, after=lost, dead=dead, step=2):
        name = f"checkpointed{next(_streams)}x"
        with contextlib.suppress(S3DestError):
            lake.run("a", client, name=name, until=2)
        lake.check(name, client.failed)
        lake.run("a", name=name, until=2)
        assert (lake.listed(name), lake.state(name)) == ([1, 2], 2), client.failed
