"""Batches on their way through the encoders: encoded side by side, handed on in the order in which they came.

What is under way is bounded over all landings of a target, and the order is that of the calls whatever the number of
threads, so that equal batches make equal objects. Whoever has to wait for a batch encodes another one meanwhile: one
thread more than there is work for would only take the interpreter's lock from the others. For the same reason what
holds that lock is encoded by the thread that brings it, and the others do what can be done aside. It must not know
streams or objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial

from s3dest_dagster.batch import Batch
from s3dest_dagster.formats import Encoded, Encoder, at_once

_BYTES_PER_WORKER = 8 << 20
"""A batch has 1 to 4 MB; one of larger records goes through alone."""


@dataclass(slots=True)
class _UnderWay:
    lane: Lane
    encode: Callable[[], Encoded]
    encoded: Future[Encoded]
    nbytes: int

    def encode_here(self) -> bool:
        """Encodes on the caller's thread, unless it is done or another thread is at it; answers whether it did."""
        if not self.encoded.cancel():
            return False
        self.encoded = _outcome(self.encode)
        return True


class EncodeQueue:
    """Holds a batch for each of `workers`, and fewer when batches are large. For one thread.

    That thread is one of the workers; `threads` has the others. None: a batch is encoded and handed on at once.
    """

    def __init__(self, threads: Executor | None, *, workers: int) -> None:
        self._threads = threads
        self._most_batches = workers
        self._most_bytes = workers * _BYTES_PER_WORKER
        self._under_way: deque[_UnderWay] = deque()
        self._nbytes = 0

    def lane(self, take: Callable[[Encoded], None]) -> Lane:
        """A way through the queue at whose end `take` gets the encoded batches."""
        return Lane(self, take)

    def push(self, lane: Lane, encoder: Encoder, batch: Batch, entropy: bytes) -> None:
        """Takes a batch; hands on what was under way before, as far as the bounds ask for it."""
        if self._threads is None or encoder.holds_lock:
            lane.take(encoder.encode(batch, entropy))
            return
        encode = partial(encoder.encode, batch, entropy)
        self._under_way.append(_UnderWay(lane, encode, self._threads.submit(encode), batch.nbytes))
        self._nbytes += batch.nbytes
        while len(self._under_way) > self._most_batches or self._nbytes > self._most_bytes:
            self._hand_on()

    def aside(self, work: Callable[[], bytes]) -> Callable[[], bytes]:
        """Has a free thread do the work; whoever asks for the outcome does it, if no thread has begun."""
        if self._threads is None:
            return at_once(work)
        begun = self._threads.submit(work)
        return lambda: work() if begun.cancel() else begun.result()

    def drain(self) -> None:
        """Hands on everything that is under way."""
        while self._under_way:
            self._hand_on()

    def cancel(self, lane: Lane) -> None:
        """Drops what is under way on this lane."""
        for each in self._under_way:
            if each.lane is lane:
                each.encoded.cancel()
        self._under_way = deque(each for each in self._under_way if each.lane is not lane)
        self._nbytes = sum(each.nbytes for each in self._under_way)

    def _hand_on(self) -> None:
        while not self._under_way[0].encoded.done() and any(each.encode_here() for each in self._under_way):
            pass
        oldest = self._under_way.popleft()
        self._nbytes -= oldest.nbytes
        oldest.lane.hand_on(oldest.encoded)


class Lane:
    """One landing's way through the queue. What goes wrong on it is raised on it, whoever's turn it was."""

    def __init__(self, queue: EncodeQueue, take: Callable[[Encoded], None]) -> None:
        self._queue = queue
        self._failure: Exception | None = None
        self.take = take

    def push(self, encoder: Encoder, batch: Batch, entropy: bytes) -> None:
        """Takes the next batch. Raises what encoding or taking an earlier batch met, too."""
        self._queue.push(self, encoder, batch, entropy)
        self._raise_failure()

    def drain(self) -> None:
        """Returns when all batches have been taken, also those of other lanes; raises as `push` does."""
        self._queue.drain()
        self._raise_failure()

    def cancel(self) -> None:
        """Drops what has not been taken."""
        self._queue.cancel(self)

    def hand_on(self, encoded: Future[Encoded]) -> None:
        """Takes a batch; keeps what goes wrong for this lane's next call. After a failure nothing is taken."""
        if self._failure is not None:
            return
        try:
            self.take(encoded.result())
        except Exception as failure:
            self._failure = failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _outcome(encode: Callable[[], Encoded]) -> Future[Encoded]:
    """What came of encoding, as a thread would have left it. An interruption is raised."""
    encoded: Future[Encoded] = Future()
    try:
        encoded.set_result(encode())
    except Exception as failure:
        encoded.set_exception(failure)
    return encoded
