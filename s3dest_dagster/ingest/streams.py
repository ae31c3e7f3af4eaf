"""The interleaved streams of one source, landed side by side, each a sync of its own, published together at the end.

Nothing of any stream is visible before all of them are staged, but for what the checkpoints of appended streams have
published. It must not know where the items come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from s3dest_dagster.batch import BadRecord, SourceItem, State, StreamBatch
from s3dest_dagster.commit.registry import check_templates
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.receipt import Progress, Receipt
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync


class StreamLandings:
    """Takes a source's items and publishes every stream, also those without a record. Made by `landing_streams`.

    A bad record that does not tell its stream is kept with the first stream. A stream whose sync is recorded already
    is not landed again, and its state is the recorded one, whatever the source says now. Each appended stream has
    checkpoints of its own, at states of its own.
    """

    def __init__(self, landings: Iterable[Landing]) -> None:
        self._landings = {each.stream.id: each for each in landings}
        self._states: dict[StreamId | None, State] = {}
        self._given: dict[StreamId, State] = {}
        self._receipts: dict[StreamId, Receipt] = {}

    def append(self, item: SourceItem) -> bytes | None:
        """Takes the next item. A batch of a stream that is not among these is a KeyError.

        Gives a STATE message that may be handed on now: a checkpoint has published all that it covers.
        """
        if isinstance(item, StreamBatch):
            self._landings[item.stream].append_batch(item.batch)
        elif isinstance(item, BadRecord):
            self._keeper(item).reject(item)
        elif isinstance(item, State):
            return self._reached(item)
        else:
            self._landings[item.stream].hear_of()
        return None

    def stage(self) -> None:
        """Sends everything that is left of all streams; nothing is visible yet."""
        for each in self._landings.values():
            each.stage()

    def publish(self) -> Iterator[Receipt]:
        """Publishes one stream after the other, at every step one. Stops at the first that fails, by its error."""
        for stream, each in self._landings.items():
            self._receipts[stream] = each.commit()
            yield self._receipts[stream]

    @property
    def heard_of_none(self) -> bool:
        """Whether nothing has been said of any of the streams."""
        return not any(each.heard_of for each in self._landings.values())

    @property
    def resumed(self) -> tuple[StreamId, ...]:
        """The streams of which an earlier attempt at this sync has published checkpoints."""
        return tuple(stream for stream, each in self._landings.items() if each.resumed)

    @property
    def unpublished(self) -> tuple[StreamId, ...]:
        """The streams that are not published (yet)."""
        return tuple(each for each in self._landings if each not in self._receipts)

    def states(self) -> list[bytes]:
        """The newest STATE message of each published stream, in the order of the source; not one that `append` gave.

        A state of all streams at once is among them when all are published, and none of them by an earlier run: what
        came with it for those was not landed.
        """
        messages = (self._message(stream, state) for stream, state in self._states.items())
        return [message for message in messages if message is not None]

    def withheld(self) -> bool:
        """Whether a state of all streams at once cannot be given out, since an earlier run landed some of them."""
        return None in self._states and any(each.repeated for each in self._receipts.values())

    def _keeper(self, bad: BadRecord) -> Landing:
        if bad.stream is not None:
            return self._landings[bad.stream]
        landings = list(self._landings.values())
        return next((each for each in landings if not each.recorded), landings[0])

    def _reached(self, state: State) -> bytes | None:
        # Put anew, so that the order is that of the newest states.
        self._states.pop(state.stream, None)
        self._states[state.stream] = state
        for each in self._landings.values() if state.stream is None else ():
            each.hear_of()
        if state.stream is None or not self._landings[state.stream].advance_state(state):
            return None
        self._given[state.stream] = state
        return state.message

    def _message(self, stream: StreamId | None, state: State) -> bytes | None:
        """The message that may be given out in place of the newest state that came."""
        if stream is None:
            return None if self.unpublished or self.withheld() else state.message
        receipt = self._receipts.get(stream)
        if receipt is None or self._given.get(stream) is state:
            return None
        if not receipt.repeated:
            return state.message
        return state_message(receipt.state) if receipt.state is not None else None


def state_message(state: str) -> bytes:
    """The STATE message that carries this state, as one line."""
    return b'{"type":"STATE","state":' + state.encode() + b"}"


@contextmanager
def landing_streams(
    target: Target,
    streams: Sequence[Stream],
    sync: Sync,
    *,
    allow_empty: bool = True,
    on_progress: Callable[[StreamId, Progress], None] | None = None,
    on_checkpoint: Callable[[Receipt], None] | None = None,
) -> Iterator[StreamLandings]:
    """Begins a landing of each stream; `allow_empty` as there. Leaving without `publish` aborts all of them, and
    nothing becomes visible but what checkpoints have published.

    Raises TemplateError when two of the streams could make the same key, or when one lands under another template.
    """
    scopes = {each.id: Scope(each.id) for each in streams}
    with side_by_side(
        target,
        streams,
        scopes,
        sync,
        allow_empty=allow_empty,
        on_progress=on_progress,
        on_checkpoint=on_checkpoint,
    ) as landings:
        yield StreamLandings(landings.values())


@contextmanager
def side_by_side(
    target: Target,
    streams: Sequence[Stream],
    scopes: Mapping[StreamId, Scope],
    sync: Sync,
    *,
    allow_empty: bool = True,
    on_progress: Callable[[StreamId, Progress], None] | None = None,
    on_checkpoint: Callable[[Receipt], None] | None = None,
) -> Iterator[dict[StreamId, Landing]]:
    """Begins a landing of one scope of each stream, each to be committed for itself. Leaving aborts the others.

    Raises TemplateError when two of the streams could make the same key, or when one lands under another template.
    """
    destination = target.destination
    landed = [scopes[each.id].prefixed(destination.stream_prefix).stream for each in streams]
    destination.template.check_streams(landed, destination.format.extension)
    registrations = check_templates(target.bucket, destination, landed)
    with ExitStack() as stack:
        begun = {
            each.id: Landing(
                target,
                each,
                sync,
                scope=scopes[each.id],
                compared=True,
                registration=registration,
                allow_empty=allow_empty,
                on_progress=partial(on_progress, each.id) if on_progress else None,
                on_checkpoint=on_checkpoint,
            )
            for each, registration in zip(streams, registrations, strict=True)
        }
        for landing in begun.values():
            stack.enter_context(landing)
        yield begun
