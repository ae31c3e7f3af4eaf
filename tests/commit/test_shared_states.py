"""Streams that share the states of a source are landed on a real server. No stream misses a record, even if reads
overlap or fail."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from land_and_read import START, batch_of, destination, ids_by_listing, stream, sync, target
from servers import S3Server
from shared_states import STREAMS, History, Source, steps

from s3dest_dagster.batch import BadRecord, KnownState, State, StreamBatch
from s3dest_dagster.commit import head
from s3dest_dagster.commit.maintenance import sweep
from s3dest_dagster.commit.states import change_state, reached_state, text_of
from s3dest_dagster.errors import S3DestError
from s3dest_dagster.ingest.streams import StreamLandings, landing_streams
from s3dest_dagster.sources.airbyte.states import Reached, Resumption, resumption
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync, SyncMode

APPENDED = {each: stream(each.name, SyncMode.APPEND, each.namespace) for each in STREAMS}


class RealLake:
    """Concurrent landings in a bucket, with a clock that runs backwards."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.settings = destination(server.new_bucket())
        self.bucket = server.open(self.settings)
        self.numbers = count(1)
        self.open = ExitStack()

    def sync(self) -> Sync:
        number = next(self.numbers)
        return sync(f"sync {number}", START - timedelta(minutes=number))

    def begin(self, streams: Collection[StreamId]) -> RealReading:
        left = self.open.enter_context(ExitStack())
        opened = left.enter_context(target(self.server, self.settings, self.bucket))
        chosen: list[Stream] = [APPENDED[each] for each in streams]
        failed: dict[StreamId, S3DestError] = {}
        landings = left.enter_context(landing_streams(opened, chosen, self.sync(), on_failure=failed.__setitem__))
        found = resumption(
            {
                each.stream.id: each.last_state and Reached(each.last_state.text, each.last_state.lineage)
                for each in landings.unread
            },
            self.text_of,
            are_all=len(streams) == len(STREAMS),
        )
        for each in landings.unread:
            each.continue_from(found.lineage)
        return RealReading(found, landings, left, failed)

    def text_of(self, known: KnownState) -> str | None:
        return text_of(self.bucket, known)

    def set(self, streams: Collection[StreamId], state: str | None) -> None:
        for each in streams:
            with target(self.server, self.settings, self.bucket) as opened:
                change_state(
                    self.bucket,
                    self.settings,
                    Scope(each),
                    state,
                    self.sync(),
                    attempt=os.urandom(4).hex(),
                    clock=opened.clock,
                )

    def forget_segments(self) -> None:
        """Deletes the segments that hold states and no objects, which no reader needs. The newest states stay."""
        reached = [reached_state(self.bucket, self.settings.template, Scope(each)) for each in STREAMS]
        for state in filter(None, reached):
            gone = {each.segment_key for each in state.lineage[:-1]}
            self.bucket.delete(sorted(gone))

    def ids(self, of: StreamId) -> set[int]:
        return set(ids_by_listing(self.server, self.bucket.name, f"data/{of.name}/"))


@dataclass
class RealReading:
    resumption: Resumption
    landings: StreamLandings
    left: ExitStack
    failed: dict[StreamId, S3DestError]

    def end(self, records: Mapping[StreamId, range], state: str | None) -> Collection[StreamId]:
        for name, ids in records.items():
            self.landings.append(StreamBatch(name, batch_of({"id": each} for each in ids)))
        if state is not None:
            self.landings.append(State(None, state.encode(), b"{}"))
        for name in {each.stream.id for each in self.landings.unread} - records.keys():
            self.landings.append(BadRecord(name, b"{", "it is none"))
        with self.left:
            return [each.scope.stream for each in self.landings.publish()]


def test_every_stream_gets_every_record(moto_s3: S3Server) -> None:
    @settings(max_examples=2)
    @given(steps())
    def holds(drawn) -> None:
        lake = RealLake(moto_s3)
        history = History(lake, Source("empty entries"))
        with lake.open:
            for step in drawn:
                step(history)
        for name, landed in history.landed.items():
            assert landed <= lake.ids(name)

    holds()


class SweptLake(RealLake):
    """A lake that is swept, in place of losing segments, an hour after the last time and while nothing is read."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(server)
        self.settings = replace(self.settings, segment_grace_s=3600)
        self.sweeps = count(1)
        self.reads = 0
        self.collected = 0

    def begin(self, streams: Collection[StreamId]) -> RealReading:
        reading = super().begin(streams)
        self.reads += 1
        reading.left.callback(self._end)
        return reading

    def _end(self) -> None:
        self.reads -= 1

    def text_of(self, known: KnownState) -> str | None:
        text = text_of(self.bucket, known)
        assert text is not None, f"a state descends from the one in {known.segment_key}, which is gone"
        return text

    def forget_segments(self) -> None:
        if self.reads:
            return
        now = datetime.now(UTC) + timedelta(hours=next(self.sweeps))
        for each in STREAMS:
            swept = sweep(self.bucket, self.settings, each, now=now)
            assert swept.problems == ()
            self.collected += swept.collected


def test_a_state_from_which_another_descends_is_never_collected(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "REMEMBERED_SYNCS", 2)

    @settings(max_examples=2)
    @given(steps())
    def holds(drawn) -> None:
        lake = SweptLake(moto_s3)
        history = History(lake, Source("empty entries"))
        with lake.open:
            for step in drawn:
                step(history)

    holds()


def test_old_states_are_collected_and_the_one_that_streams_have_in_common_stays(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "REMEMBERED_SYNCS", 2)
    lake, source = SweptLake(moto_s3), Source("shared position")

    def read(streams: Collection[StreamId], at: int) -> None:
        lake.begin(streams).end({each: range(at - 2, at) for each in streams}, source.state(at, streams))

    with lake.open:
        for at in range(2, 12, 2):
            read(STREAMS, at)
        common = source.state(10, STREAMS)
        for at in range(12, 22, 2):
            read(STREAMS[:1], at)
            read(STREAMS[1:], at + 1)
        for _ in range(2):
            lake.forget_segments()
        assert lake.collected >= 3 * 3  # those before the state that the common one descends from
        found = lake.begin(STREAMS).resumption
        assert found.states == (common.encode(),)


def test_the_shared_state_is_read_from_an_older_segment_and_without_it_all_streams_start_over(
    moto_s3: S3Server,
) -> None:
    lake, source = RealLake(moto_s3), Source("shared position")
    both, (first, second) = STREAMS[:2], STREAMS[:2]
    with lake.open:
        lake.begin(both).end({first: range(2), second: range(2)}, source.state(2, both))
        overtaken = lake.begin(both)
        for at in (4, 6):
            lake.begin([first]).end({first: range(at - 2, at)}, source.state(at, [first]))
        assert overtaken.end({first: range(2, 8), second: range(2, 8)}, source.state(8, both)) == [second]
        assert "published while this one ran" in str(overtaken.failed[first])
        lake.begin([second]).end({second: range(8, 9)}, source.state(9, [second]))
        found = lake.begin(both).resumption
        assert found.states == (source.state(2, both).encode(),)
        assert "some records of a, b may come again" in str(found.warning)
        lake.forget_segments()
        found = lake.begin(both).resumption
        assert (found.states, found.lineage) == ((), ())
        assert "begins anew" in str(found.warning)
