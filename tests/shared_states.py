"""Random histories of a source with global states, for tests that no record is missed, and the source itself.

A lake (with plain values, or a real one) begins and ends reads of some streams. The source decides what each read
yields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hypothesis import strategies as st

from s3dest_dagster.sources.airbyte.states import Resumption
from s3dest_dagster.stream import StreamId

STREAMS = tuple(StreamId(None, name) for name in "abc")
Kind = Literal["shared position", "empty entries", "entries", "entries of all", "legacy", "legacy by name"]
KINDS: tuple[Kind, ...] = (
    "shared position",
    "empty entries",
    "entries",
    "entries of all",
    "legacy",
    "legacy by name",
)
_TELLS = {"entries", "entries of all", "legacy by name"}


@dataclass(frozen=True)
class Source:
    """A log that every stream reads. A state is the position reached in it. The kinds that distinguish streams start
    over for a stream that their state does not name. The others do not notice."""

    kind: Kind

    def starts(self, states: Sequence[bytes], streams: Iterable[StreamId]) -> dict[StreamId, int]:
        """The position from which each stream is read."""
        if not states:
            return dict.fromkeys(streams, 0)
        (state,) = map(json.loads, states)
        if self.kind == "legacy by name":
            return {each: state["data"].get(each.name, 0) for each in streams}
        if self.kind == "legacy":
            return dict.fromkeys(streams, state["data"]["at"])
        entries = {each["stream_descriptor"]["name"] for each in state["global"]["stream_states"]}
        at = state["global"]["shared_state"]["at"]
        return {each: at if each.name in entries or self.kind not in _TELLS else 0 for each in streams}

    def state(self, at: int, streams: Collection[StreamId]) -> str:
        """The state after these streams were read up to there."""
        if self.kind == "legacy by name":
            return json.dumps({"data": {each.name: at for each in streams}})
        if self.kind == "legacy":
            return json.dumps({"data": {"at": at}})
        named = {"shared position": (), "entries of all": STREAMS}.get(self.kind, sorted(streams))
        content: dict[str, Any] = {"synced": True} if self.kind in _TELLS else {}
        entries = [{"stream_descriptor": {"name": each.name}, "stream_state": content} for each in named]
        return json.dumps({"type": "GLOBAL", "global": {"shared_state": {"at": at}, "stream_states": entries}})


class Sample(Protocol):
    """A read in progress."""

    resumption: Resumption

    def end(self, records: Mapping[StreamId, range], state: str | None) -> Collection[StreamId]:
        """Lands the records of these streams, and the state. Returns the streams that were published."""


class Lake(Protocol):
    """What the streams have landed."""

    def begin(self, streams: Collection[StreamId]) -> Sample: ...

    def set(self, streams: Collection[StreamId], state: str | None) -> None: ...

    def forget_segments(self) -> None:
        """Deletes every segment that does not hold a newest state."""


@dataclass
class History:
    """Runs the steps that a test draws, and checks after each publication that its stream has every record."""

    lake: Lake
    source: Source
    length: int = 0
    under_way: list[tuple[Sample, dict[StreamId, int]]] = field(default_factory=list)
    landed: dict[StreamId, set[int]] = field(default_factory=lambda: {each: set() for each in STREAMS})
    complete_to: dict[StreamId, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))

    def begin(self, streams: Collection[StreamId]) -> None:
        reading = self.lake.begin(streams)
        self.under_way.append((reading, self.source.starts(reading.resumption.states, streams)))

    def end(self, which: int, grown: int, failing: Collection[StreamId], *, says_state: bool) -> None:
        """One of the active reads continues to the end of the log, which has grown in the meantime, and ends."""
        if not self.under_way:
            return
        reading, starts = self.under_way.pop(which % len(self.under_way))
        self.length += grown
        end = self.length
        state = self.source.state(end, starts) if says_state else None
        kept = {each: range(start, end) for each, start in starts.items() if each not in failing}
        for stream in reading.end(kept, state):
            self.landed[stream] |= set(kept[stream])
            if says_state:
                self.complete_to[stream] = max(self.complete_to[stream], end)
            missing = set(range(end)) - self.landed[stream]
            assert not missing, f"{stream} misses {sorted(missing)}"

    def set(self, streams: Collection[StreamId], at: int | None) -> None:
        """Sets a state by hand that no stream has not reached yet."""
        most = min(self.complete_to[each] for each in streams)
        self.lake.set(streams, self.source.state(min(at, most), streams) if at is not None else None)

    def forget(self) -> None:
        self.lake.forget_segments()


Step = Callable[[History], None]


def steps() -> st.SearchStrategy[list[Step]]:
    """The steps of a history: reads of all or some streams begin and end in any order, fail, and states are set."""
    some = st.one_of(st.just(STREAMS), st.sets(st.sampled_from(STREAMS), min_size=1).map(sorted))
    failing = st.one_of(st.just(()), st.just(()), st.sets(st.sampled_from(STREAMS)))
    begins = some.map(lambda streams: lambda history: history.begin(streams))
    ends = st.tuples(st.integers(0, 3), st.integers(0, 4), failing, st.integers(0, 9)).map(
        lambda drawn: lambda history: history.end(drawn[0], drawn[1], drawn[2], says_state=drawn[3] > 0)
    )
    sets = st.tuples(some, st.one_of(st.none(), st.integers(0, 20))).map(
        lambda drawn: lambda history: history.set(*drawn)
    )
    forgets = st.just(lambda history: history.forget())
    usual = st.one_of(begins, ends)
    return st.lists(st.one_of(usual, usual, usual, usual, sets, forgets), min_size=20, max_size=50)
