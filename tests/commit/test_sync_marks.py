"""A sync id is known forever: by the head, and by a mark once the head has forgotten it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from failing_clients import FailingClient, OvertakenClient
from land_and_read import batch_of, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import State
from s3dest_dagster.commit import head
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import segment_key, sync_mark_key
from s3dest_dagster.commit.head import PublishedSync
from s3dest_dagster.commit.sync_commit import decide
from s3dest_dagster.errors import CommitError, ManifestError, S3DestError, StorageError, SupersededError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.keys import scope_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

APPEND, REFRESH = SyncMode.APPEND, SyncMode.FULL_REFRESH
USERS = Scope(StreamId("public", "users"))
REMEMBERED_SYNCS = 5


@pytest.fixture(autouse=True)
def _short_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head forgets after a few syncs instead of after twenty, except in the test of the number itself."""
    if "long_memory" not in request.fixturenames:
        monkeypatch.setattr(head, "REMEMBERED_SYNCS", REMEMBERED_SYNCS)


@pytest.fixture
def long_memory() -> int:
    """How many syncs a head really remembers."""
    return head.REMEMBERED_SYNCS


class Lake:
    """A bucket with the stream `users`, and the syncs that were landed in it."""

    def __init__(self, server: S3Server, mode: SyncMode = APPEND) -> None:
        self.server = server
        self.mode = mode
        self.settings: S3Destination = destination(server.new_bucket())
        self.bucket = server.open(self.settings)
        self.root = scope_root(self.settings.template.literal_root, USERS)
        self._others = 0

    def land(self, sync_id: str, number: int, client: object = None) -> Receipt:
        bucket = Bucket(client, self.bucket.name) if client is not None else None
        with target(self.server, self.settings, bucket) as opened:
            return land([batch_of(users(number, number))], opened, stream(mode=self.mode), sync(sync_id))

    def others(self, count: int = REMEMBERED_SYNCS) -> None:
        """Lands this many other syncs, which make the head forget the earlier ones."""
        for _ in range(count):
            self._others += 1
            self.land(f"other {self._others}", 100 + self._others)

    def overtaken(self, at: str, other: Callable[[], object], key: str = "") -> OvertakenClient:
        return OvertakenClient(self.server.client(), at, other, key=key)

    def marks(self) -> Iterator[dict[str, object]]:
        for each in self.bucket.list_objects(f"{self.root}syncs/"):
            yield json.loads(self.bucket.get(each.key)[0])

    def collect(self, sync_id: str) -> None:
        """Deletes the segments of a sync, as a garbage collection would."""
        for each in list(self.bucket.list_objects(segment_key(self.root, sync_id).removesuffix(".json"))):
            self.bucket.delete([each.key])


@pytest.mark.parametrize("mode", [APPEND, REFRESH])
def test_a_retry_after_many_other_syncs_lands_nothing(any_s3: S3Server, mode: SyncMode) -> None:
    lake = Lake(any_s3, mode)
    first = lake.land("again and ~again/", 1)
    lake.others()
    before = ids_by_listing(any_s3, lake.bucket.name)
    again = lake.land("again and ~again/", 1)
    assert (again.repeated, again.objects, again.rows) == (True, first.objects, 1)
    assert ids_by_listing(any_s3, lake.bucket.name) == before


def test_a_retry_of_a_sync_without_its_segment_lands_nothing(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    lake.land("retried", 1)
    lake.others()
    lake.collect("retried")
    again = lake.land("retried", 1)
    assert (again.repeated, again.collected, again.sync_id, again.rows) == (True, True, "retried", 0)
    assert again.manifest == lake.bucket.uri(sync_mark_key(lake.root, "retried"))
    assert ids_by_listing(moto_s3, lake.bucket.name).count(1) == 1


def test_every_forgotten_sync_and_no_other_has_one_mark(moto_s3: S3Server, long_memory: int) -> None:
    lake = Lake(moto_s3)
    for number in range(long_memory + 3):
        lake.land(f"s{number}", number)
    marks = list(lake.marks())
    assert sorted(each["sync"]["id"] for each in marks) == ["s0", "s1", "s2"]
    assert all(
        each["sync"]["complete"] and (each["location"]["bucket_path"], each["location"]["stream"]) == ("data", "users")
        for each in marks
    )


@pytest.mark.parametrize("collected", [False, True])
@pytest.mark.parametrize("at", ["complete_multipart_upload", "put_object"])
def test_a_paused_writer_returns_the_receipt_of_its_published_and_forgotten_sync(
    moto_s3: S3Server, at: str, collected: bool
) -> None:
    lake = Lake(moto_s3)
    lake.others(2)

    def others() -> None:
        lake.others(REMEMBERED_SYNCS + 1)
        if collected:
            lake.collect("asleep")

    decides = "head.json" if at == "put_object" else ""
    client = lake.overtaken(at, others, key=decides)
    if at == "put_object":
        # It has not decided yet: other syncs came first, and nothing of it remains.
        with pytest.raises(SupersededError):
            lake.land("asleep", 1, client)
        assert ids_by_listing(moto_s3, lake.bucket.name).count(1) == 0
        return
    receipt = lake.land("asleep", 1, client)
    assert (receipt.rows, receipt.repeated) == (1, False)
    assert ids_by_listing(moto_s3, lake.bucket.name).count(1) == 1


def test_a_crash_between_a_mark_and_the_head_that_forgets_its_sync_does_no_harm(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    lake.land("first", 1)
    lake.others(REMEMBERED_SYNCS - 1)
    calls = FailingClient(moto_s3.client())
    lake.land("counted", 2, calls)
    for at in range(calls.calls.index("complete_multipart_upload") + 1, len(calls.calls) + 1):
        failing = FailingClient(moto_s3.client(), at=at, after=True, dead=True)
        with pytest.raises(S3DestError):
            lake.land(f"dies at {at}", 1000 + at, failing)
        assert lake.land(f"dies at {at}", 1000 + at).repeated
    assert lake.land("first", 1).repeated
    found = ids_by_listing(moto_s3, lake.bucket.name)
    assert len(found) == len(set(found))


# ---------------------------------------------------------------------- checkpoints


def _with_a_checkpoint(lake: Lake, sync_id: str, first: int, *, dies: bool) -> Receipt | None:
    """A sync that publishes one record in a checkpoint, and a second record at its end, which it may not reach."""
    settings = destination(lake.bucket.name, checkpoint_mb=0.000001)
    with target(lake.server, settings) as opened, Landing(opened, stream(mode=APPEND), sync(sync_id)) as landing:
        landing.append_batch(batch_of(users(first, first)))
        assert landing.advance_state(State(USERS.stream, b'{"at":%d}' % first, b"{}")) or landing.recorded
        landing.append_batch(batch_of(users(first + 1, first + 1)))
        return None if dies else landing.commit()


@pytest.mark.parametrize("collected", [False, True])
def test_a_sync_that_stopped_after_a_checkpoint_is_still_known_after_many_others(moto_s3: S3Server, collected) -> None:
    lake = Lake(moto_s3)
    _with_a_checkpoint(lake, "broke off", 1, dies=True)
    lake.others()
    if collected:
        lake.collect("broke%20off")
    (mark,) = lake.marks()
    assert (mark["sync"]["id"], mark["sync"]["complete"]) == ("broke off", False)
    receipt = _with_a_checkpoint(lake, "broke off", 2, dies=False)
    assert receipt is not None
    assert (receipt.rows, receipt.earlier is not None) == ((2, False) if collected else (3, True))
    lake.others()
    (mark,) = [each for each in lake.marks() if each["sync"]["id"] == "broke off"]
    assert mark["sync"]["complete"]
    assert lake.land("broke off", 9).repeated
    assert ids_by_listing(moto_s3, lake.bucket.name).count(9) == 0


def test_a_paused_writer_does_not_replace_a_newer_mark_with_an_older_one(any_s3: S3Server) -> None:
    lake = Lake(any_s3)
    log = CommitLog(lake.bucket, lake.root, USERS)
    others = tuple(PublishedSync(str(number), complete=True, segment="o.1") for number in range(REMEMBERED_SYNCS))
    full = replace(log.read_head().head, recent_syncs=others)
    checkpoint, later = (
        PublishedSync("s", complete=False, segment="s.1"),
        PublishedSync("s", complete=False, segment="s.2"),
    )
    complete = PublishedSync("s", complete=True, segment="s.3")
    log.mark_sync(checkpoint, lambda: False)
    assert log.find_sync(full, "s") == checkpoint
    log.mark_sync(later, lambda: True)
    log.mark_sync(checkpoint, lambda: False)
    assert log.find_sync(full, "s") == later
    log.mark_sync(complete, lambda: True)
    log.mark_sync(later, lambda: True)
    assert log.find_sync(full, "s") == complete
    assert log.find_sync(full, "t") is None


# ---------------------------------------------------------------------- the head


class DelayedClient:
    """An S3 client whose network delays the first put of the head. Another process acts in the meantime, and the
    caller sees a timeout."""

    def __init__(self, client: Any, other: Callable[[], object]) -> None:
        self._client, self._other = client, other
        self._kept: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._delaying(method) if name == "put_object" else method

    def _delaying(self, method: Any) -> Any:
        def call(**arguments: Any) -> Any:
            if self._kept is not None or not arguments["Key"].endswith("head.json"):
                return method(**arguments)
            self._kept = arguments
            self._other()
            raise ReadTimeoutError(endpoint_url="delayed")

        return call

    def arrive(self) -> Any:
        """Delivers the delayed put."""
        assert self._kept is not None
        return self._client.put_object(**self._kept)


def test_a_late_put_of_the_head_never_matches_the_expected_head(moto_s3: S3Server) -> None:
    """In the meantime the head is changed to another decision and back."""
    lake = Lake(moto_s3)
    lake.land("before", 1)

    def decided_and_rolled_back() -> None:
        with target(moto_s3, lake.settings) as opened, Landing(opened, stream(mode=APPEND), sync("other")) as landing:
            landing.stage()
            segment = landing._staged
            assert segment is not None
            commit_log = CommitLog(lake.bucket, lake.root, USERS)
            commit_log.put_segment(segment)
            decided = decide(commit_log, commit_log.read_head(), segment)
            commit_log.put_head(decided.head.rolled_back(segment, emptied=False), decided)

    delayed = DelayedClient(moto_s3.client(), decided_and_rolled_back)
    with suppress(CommitError, StorageError):
        lake.land("late", 2, delayed)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        delayed.arrive()
    lake.land("next", 3)
    assert set(ids_by_listing(moto_s3, lake.bucket.name)) >= {1, 3}


def test_every_put_of_the_head_has_its_own_number(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, REFRESH)
    numbers: list[int] = []

    class Watched:
        """A client that records the number of every head that is put."""

        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            method = getattr(self._client, name)
            return self._noted(method) if name == "put_object" else method

        def _noted(self, method: Any) -> Any:
            def call(**arguments: Any) -> Any:
                if arguments["Key"].endswith("head.json"):
                    numbers.append(json.loads(arguments["Body"])["sequence_number"])
                return method(**arguments)

            return call

    for number in range(3):
        lake.land(f"s{number}", number, Watched(moto_s3.client()))
    assert numbers == [1, 2, 3, 4, 5, 6]


def test_a_mark_of_another_sync_is_refused(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    lake.others(REMEMBERED_SYNCS + 1)
    text = lake.bucket.get(sync_mark_key(lake.root, "other 1"))
    assert text is not None
    lake.bucket.put(sync_mark_key(lake.root, "mine"), text[0])
    with pytest.raises(ManifestError, match="mark of sync other 1"):
        lake.land("mine", 1)
