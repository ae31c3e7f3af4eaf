"""Global states are ordered by their ancestry. Whatever reads overlap, fail or are overtaken, every stream receives
every record at least once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from shared_states import KINDS, STREAMS, History, Kind, Source, steps

from s3dest_dagster.batch import KnownState, Lineage, descent, state_id
from s3dest_dagster.sources.airbyte.states import Reached, Resumption, resumption
from s3dest_dagster.stream import StreamId


@dataclass
class PlainLake:
    """The contents of the manifests, as values."""

    segments: dict[str, str] = field(default_factory=dict)
    newest: dict[StreamId, Reached] = field(default_factory=dict)
    versions: dict[StreamId, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))

    def begin(self, streams: Collection[StreamId]) -> PlainReading:
        reached = {each: self.newest.get(each) for each in streams}
        found = resumption(
            reached, lambda known: self.segments.get(known.segment_key), are_all=len(streams) == len(STREAMS)
        )
        return PlainReading(self, found, {each: self.versions[each] for each in streams})

    def put(self, stream: StreamId, state: str, origin: Lineage | None) -> None:
        stands = descent(state, origin)
        known = KnownState(state_id(state), stands.read_count, f"{stream} {self.versions[stream]}")
        self.segments[known.segment_key] = state
        self.newest[stream] = Reached(state, (*stands.ancestors, known))

    def set(self, streams: Collection[StreamId], state: str | None) -> None:
        for stream in streams:
            self.versions[stream] += 1
            if state is None:
                self.newest.pop(stream, None)
            else:
                self.put(stream, state, None)

    def forget_segments(self) -> None:
        kept = {each.lineage[-1].segment_key for each in self.newest.values()}
        self.segments = {key: text for key, text in self.segments.items() if key in kept}


@dataclass
class PlainReading:
    lake: PlainLake
    resumption: Resumption
    seen: Mapping[StreamId, int]

    def end(self, records: Mapping[StreamId, range], state: str | None) -> Collection[StreamId]:
        published = [each for each in records if self.lake.versions[each] == self.seen[each]]
        for stream in published:
            self.lake.versions[stream] += 1
            if state is not None:
                self.lake.put(stream, state, self.resumption.lineage)
        return published


@pytest.mark.parametrize("kind", KINDS)
@given(steps())
def test_every_stream_gets_every_record(kind: Kind, drawn) -> None:
    history = History(PlainLake(), Source(kind))
    for step in drawn:
        step(history)


def test_a_stream_that_waits_for_a_thousand_reads_of_another_hardly_delays_it() -> None:
    lake, source = PlainLake(), Source("shared position")
    history = History(lake, source)
    ours, other = STREAMS[:1], STREAMS[1:2]
    for position in range(1, 1001):
        history.begin(ours if position > 300 else STREAMS)
        history.end(0, 1, (), says_state=True)
        if position == 300:
            overlapping = lake.begin(other)
    overlapping.end({other[0]: range(300, 301)}, source.state(5000, other))
    (begin,) = lake.begin(STREAMS[:2]).resumption.states
    assert 270 <= source.starts([begin], ours)[ours[0]] <= 300
    assert len(lake.newest[ours[0]].lineage) < 100


def test_streams_that_are_always_read_together_remember_only_the_previous_state() -> None:
    lake = PlainLake()
    history = History(lake, Source("entries"))
    for _ in range(5):
        history.begin(STREAMS)
        history.end(0, 1, (), says_state=True)
    assert {len(each.lineage) for each in lake.newest.values()} == {2}


def test_a_source_that_returns_to_a_state_has_the_same_position() -> None:
    lake, source = PlainLake(), Source("shared position")
    for at in (1, 2, 1, 2, 1):
        lake.begin(STREAMS[:1]).end({STREAMS[0]: range(0)}, source.state(at, ()))
    assert [each.read_count for each in lake.newest[STREAMS[0]].lineage] == [1]
