"""A process that pauses during a deletion, a sweep or a recovery, however long, does not harm those that continue in
the meantime.

The tests enumerate every call at which a process can be overtaken. The overtaking processes publish what was
decided, and land under the same key that is about to be deleted if the template allows the key to recur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from failing_clients import EVERY_CRASH, DyingAfterDeciding, OvertakenClient
from land_and_read import (
    START,
    abort_all,
    batch_of,
    data_keys,
    destination,
    ids_by_listing,
    open_uploads,
    stream,
    sync,
    target,
    users,
)
from servers import S3Server

from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.errors import CommitError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)
from s3dest_dagster.storage import Bucket, RetryPolicy
from s3dest_dagster.stream import Scope

OLD, MIDDLE, NEW, AGAIN = [1, 2], [5], [10, 11], [20]
LAYOUTS: dict[str, dict[str, Any]] = {
    "one key a day": {"file_name_pattern": "data{format_extension}"},
    "one sync id a day": {"file_name_pattern": "{sync_id}_{part_number}{format_extension}", "object_size_mb": 0.0001},
    "a key for each sync": {"file_name_pattern": "{timestamp}{format_extension}", "object_size_mb": 0.0001},
}
WAYS_TO_LEAVE: dict[str, dict[str, Any]] = {
    "after": {},
    "before": {"publish_order": "purge_first"},
    "later": {"delete_grace_s": 3_600},
}
Act = Callable[["Lake", Any], object]
"""What a process does to a lake, through a client."""
_moments = count()


@dataclass(frozen=True)
class Lake:
    """A stream in which each full refresh replaces the previous one."""

    server: S3Server
    settings: S3Destination
    name: str = field(default_factory=lambda: f"late{next(_moments)}x")

    @property
    def scope(self) -> Scope:
        return Scope(stream(self.name).id)

    def bucket(self, client: Any = None) -> Bucket:
        """The bucket through a client that tries each request twice."""
        return Bucket(
            client or self.server.client(),
            self.settings.s3_bucket_name,
            RetryPolicy(max_attempts=2, pause=lambda _: False),
        )

    def land(self, ids: list[int], day: int, *, hours: int = 0, client: Any = None, sync_id: str = "") -> None:
        """Runs a full refresh that begins on a day of the month, by a server clock that is this many hours ahead."""
        began = START.replace(day=day) + timedelta(seconds=next(_moments))
        named = replace(sync(sync_id or f"sync of {ids}", began), label=f"day-{day}")
        with target(self.server, self.settings, self.bucket(client)) as opened:
            ahead = replace(opened, server_clock=lambda: datetime.now(UTC) + timedelta(hours=hours))
            land([batch_of(users(each, each)) for each in ids], ahead, stream(self.name), named)

    def recover(self, *, hours: int = 0, client: Any = None) -> bool:
        ahead = datetime.now(UTC) + timedelta(hours=hours)
        return recover(self.bucket(client), self.settings.template, self.scope, clock=lambda: ahead).ok

    def sweep(self, *, hours: int = 0, client: Any = None) -> None:
        sweep(self.bucket(client), self.settings, self.scope.stream, now=datetime.now(UTC) + timedelta(hours=hours))

    def publish_and_land_again(self) -> None:
        """Publishes what was decided and lands on the first day again, as another process."""
        self.recover(hours=3)
        self.land(AGAIN, 1, hours=3)

    def visible(self) -> list[int]:
        table = read_scope(self.bucket(), self.settings.template, self.scope)
        return [] if table is None else sorted(table["id"].to_pylist())

    def settled(self, where: str, *, uploads: int = 0) -> list[int]:
        """Returns what the scope holds after recovery. Checks that nothing in it is missing, and that nothing is
        left over except this many uploads."""
        assert self.recover(hours=9), where
        assert verify(self.bucket(), self.settings.template, self.scope).problems == (), where
        visible = self.visible()
        assert ids_by_listing(self.server, self.bucket().name, f"data/public/{self.name}/") == visible, where
        assert open_uploads(self.server, self.bucket().name) == uploads, where
        return visible


def _lake(server: S3Server, layout: str, way: str = "after") -> Lake:
    day = {"s3_path_format": "${NAMESPACE}/${STREAM_NAME}/${DAY}/"}
    return Lake(server, destination(server.new_bucket(), **day, **LAYOUTS[layout], **WAYS_TO_LEAVE[way]))


def _with_old(lake: Lake) -> Lake:
    """The lake with the first day's objects, which are about to be deleted, or are retired and due."""
    lake.land(OLD, 1)
    if lake.settings.delete_grace_s:
        lake.land(MIDDLE, 2)
    return lake


def _with_pending(lake: Lake) -> Lake:
    """The lake with a pending sync that replaces the first day's objects."""
    lake.land(OLD, 1)
    dying = DyingAfterDeciding(lake.server.client(), at="complete_multipart_upload")
    with pytest.raises(CommitError, match="finishes it"):
        lake.land(NEW, 2, client=dying)
    return lake


CASES = [(layout, way) for layout in LAYOUTS for way in WAYS_TO_LEAVE if EVERY_CRASH or layout == "one key a day"]


def _overtaken(lake: Callable[[], Lake], act: Act, *, lost: bool = False) -> Iterator[tuple[list[int], bool, str]]:
    """Overtakes an act at each of its calls and at none, or, if time is short, at its deletions and at the requests
    directly before them. Returns what the scope holds then, whether anybody overtook it, and where."""
    first = lake()
    undisturbed = OvertakenClient(first.server.client(), 0, first.publish_and_land_again)
    act(first, undisturbed)
    yield first.settled("undisturbed"), False, "undisturbed"
    names = undisturbed.names
    assert any(each.startswith("delete_object") for each in names)
    for at, name in enumerate(names, 1):
        if EVERY_CRASH or any(each.startswith("delete_object") for each in names[at - 1 : at + 1]):
            made = lake()
            with suppress(CommitError):
                act(made, OvertakenClient(made.server.client(), at, made.publish_and_land_again, lost=lost))
            # Nobody knows the id of an upload if the answer to its creation was lost.
            unknown = int(lost and name == "create_multipart_upload")
            yield made.settled(f"call {at}, {name}", uploads=unknown), True, f"call {at}, {name}"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("layout", "way"), CASES)
@pytest.mark.parametrize("lost", [False, True][: 1 + EVERY_CRASH], ids=["", "and tries again"][: 1 + EVERY_CRASH])
def test_an_overtaken_sync_harms_nothing(moto_s3: S3Server, layout: str, way: str, lost: bool) -> None:
    def act(lake: Lake, client: Any) -> None:
        lake.land(NEW, 3, hours=3, client=client)

    for holds, between, where in _overtaken(lambda: _with_old(_lake(moto_s3, layout, way)), act, lost=lost):
        assert holds in ([NEW, AGAIN] if between else [NEW]), where


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("layout", "way"), [each for each in CASES if each[1] != "later"])
def test_an_overtaken_recovery_harms_nothing(moto_s3: S3Server, layout: str, way: str) -> None:
    def act(lake: Lake, client: Any) -> None:
        lake.recover(client=client)

    for holds, between, where in _overtaken(lambda: _with_pending(_lake(moto_s3, layout, way)), act):
        assert holds == (AGAIN if between else NEW), where


@pytest.mark.timeout(240)
@pytest.mark.parametrize("verb", [Lake.recover, Lake.sweep])
@pytest.mark.parametrize("layout", [layout for layout, way in CASES if way == "later"])
def test_an_overtaken_deletion_of_retired_objects_harms_nothing(moto_s3: S3Server, layout: str, verb: Any) -> None:
    def act(lake: Lake, client: Any) -> None:
        verb(lake, hours=3, client=client)

    for holds, between, where in _overtaken(lambda: _with_old(_lake(moto_s3, layout, "later")), act):
        assert holds == (AGAIN if between else MIDDLE), where


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", list(WAYS_TO_LEAVE) if EVERY_CRASH else ["after"])
def test_an_overtaken_rollback_harms_nothing(moto_s3: S3Server, way: str) -> None:
    """The next process lands under the keys of the sync that was rolled back."""

    def made() -> Lake:
        lake = _lake(moto_s3, "one sync id a day", way)
        dying = DyingAfterDeciding(moto_s3.client(), at="complete_multipart_upload")
        with pytest.raises(CommitError, match="finishes it"):
            lake.land(NEW, 1, client=dying)
        abort_all(moto_s3, lake.bucket().name, "day-1_1")
        return lake

    def act(lake: Lake, client: Any) -> None:
        assert not lake.recover(client=client) or lake.visible() == AGAIN

    for holds, between, where in _overtaken(made, act):
        assert holds == (AGAIN if between else []), where


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["before", "after"][: 1 + EVERY_CRASH])
def test_a_sweep_of_every_upload_that_a_decision_overtakes_harms_nothing(rclone_s3: S3Server, way: str) -> None:
    for at in count(1, 1 if EVERY_CRASH else 2):
        lake = _lake(rclone_s3, "one key a day", way)
        lake = replace(lake, settings=replace(lake.settings, abandoned_upload_age_s=0))
        lake.land(OLD, 1)
        with (
            target(rclone_s3, lake.settings, lake.bucket()) as opened,
            Landing(opened, stream(lake.name), sync("late", START.replace(day=2))) as landing,
        ):
            landing.append_batch(batch_of(users(10, 11)))
            landing.stage()
            client = OvertakenClient(rclone_s3.client(), at, landing.commit)
            with suppress(CommitError):
                lake.sweep(client=client, hours=1)
        assert lake.settled(f"call {at}") in (OLD, NEW)
        if at > client.calls:
            return


@pytest.mark.parametrize("earlier", [timedelta(0), timedelta(microseconds=900), timedelta(hours=1)])
def test_a_sync_with_an_earlier_time_than_the_others_reuses_none_of_their_keys(
    moto_s3: S3Server, earlier: timedelta
) -> None:
    """The keys of the template contain the time. The clock was fixed or set back, and the objects with these keys
    have been deleted."""
    settings = destination(moto_s3.new_bucket())
    used: list[str] = []
    with target(moto_s3, settings) as opened:
        for number, ids in enumerate([OLD, [], NEW, [], AGAIN]):
            began = START.replace(microsecond=900) - (earlier if number > 2 else timedelta(0))
            receipt = land(
                [batch_of(users(ids[0], ids[-1]))] if ids else [], opened, stream(), sync(f"{number}", began)
            )
            used += [each.key for each in receipt.objects]
    assert len(set(used)) == 3


FORMATS = [
    JsonlFormat(compression=TextCompression.NONE),
    JsonlFormat(flattening=Flattening.ROOT),
    CsvFormat(compression=TextCompression.NONE),
    CsvFormat(flattening=Flattening.ROOT),
    AvroFormat(),
    ParquetFormat(),
]


@pytest.mark.parametrize("settings", FORMATS, ids=lambda each: f"{type(each).__name__}-{each.extension}")
def test_the_same_records_landed_again_under_the_same_key_have_a_different_etag(
    moto_s3: S3Server, settings: FormatSettings
) -> None:
    """Each landing gives its records new ids, so an ETag identifies the object of one landing."""
    lake = _lake(moto_s3, "one key a day")
    lake = replace(lake, settings=replace(lake.settings, format=settings))
    etags = []
    for attempt in ("first", "second"):
        lake.land(OLD, 1, sync_id=attempt)
        (key,) = data_keys(moto_s3, lake.bucket().name)
        etags.append(lake.bucket().head(key).etag)
    assert len(set(etags)) == 2


def test_a_retried_deletion_spares_a_newer_object(any_s3: S3Server) -> None:
    """The first answer was lost. This also holds on a server without conditional requests."""
    counting = OvertakenClient(any_s3.client(), 0, lambda: None)
    _with_old(_lake(any_s3, "one key a day")).land(NEW, 2, client=counting)
    at = max(number for number, name in enumerate(counting.names, 1) if name.startswith("delete_object"))
    lake = _with_old(_lake(any_s3, "one key a day"))
    lake.land(NEW, 2, client=OvertakenClient(any_s3.client(), at, lake.publish_and_land_again, lost=True))
    assert lake.settled("after the deletion") == AGAIN
