"""Encodes batches in parallel and delivers them in the order in which they arrived.

The amount of data in progress is limited over all landings of a target. Equal batches produce equal objects, because
batches are delivered in the order of the calls, whatever the number of threads. Three rules keep threads from competing
for the interpreter's lock:

- A thread that has to wait for a batch encodes another batch while it waits.
- An encoder that holds the lock runs on the calling thread.
- The other threads do work that releases the lock, such as compression.

It must not know streams or objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial

from s3dest_dagster.batch import Batch
from s3dest_dagster.formats import Encoded, Encoder, run_now

# A batch has 1 to 4 MB. A larger batch (of large records) is processed alone.
_BYTES_PER_WORKER = 8 << 20


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """A batch in its encoded form, with everything that is needed to encode it again in another way."""

    encoder: Encoder
    batch: Batch
    entropy: bytes
    encoded: Encoded

    @staticmethod
    def of(encoder: Encoder, batch: Batch, entropy: bytes) -> EncodedBatch:
        """Encodes a batch, in groups if its stream has directories."""
        encode = encoder.encode if encoder.grouper is None else encoder.encode_groups
        return EncodedBatch(encoder, batch, entropy, encode(batch, entropy))

    def encoded_by(self, encoder: Encoder) -> EncodedBatch:
        """The batch in the form of this encoder."""
        is_same = encoder.encodes_as(self.encoder) and encoder.groups_as(self.encoder)
        return self if is_same else EncodedBatch.of(encoder, self.batch, self.entropy)


@dataclass(slots=True)
class _Job:
    """A batch that is being encoded."""

    queue: StreamQueue
    encode: Callable[[], EncodedBatch]
    encoded: Future[EncodedBatch]
    nbytes: int

    def encode_here(self) -> bool:
        """Encodes on the calling thread. Returns False if the batch is done or another thread has begun it."""
        if not self.encoded.cancel():
            return False
        self.encoded = Future()
        try:
            self.encoded.set_result(self.encode())
        except Exception as failure:
            self.encoded.set_exception(failure)
        return True


class EncodeQueue:
    """The batches that are being encoded for all landings of a target. Use it from one thread only.

    Args:
        threads: The other workers, besides the calling thread. None: each batch is encoded and delivered immediately.
        workers: The number of batches that may be in progress. Fewer if they are large.
    """

    def __init__(self, threads: Executor | None, *, workers: int) -> None:
        self._threads = threads
        self._max_batches = workers
        self._max_bytes = workers * _BYTES_PER_WORKER
        self._jobs: deque[_Job] = deque()
        self._nbytes = 0

    def stream_queue(self, deliver: Callable[[EncodedBatch], None]) -> StreamQueue:
        """A queue for one landing, whose encoded batches are passed to `deliver`."""
        return StreamQueue(self, deliver)

    def append(self, queue: StreamQueue, encoder: Encoder, batch: Batch, entropy: bytes) -> None:
        """Adds a batch, and delivers the oldest batches until the data in progress is within the limits."""
        if self._threads is None or encoder.holds_lock:
            queue.deliver(EncodedBatch.of(encoder, batch, entropy))
            return
        encode = partial(EncodedBatch.of, encoder, batch, entropy)
        self._jobs.append(_Job(queue, encode, self._threads.submit(encode), batch.nbytes))
        self._nbytes += batch.nbytes
        while len(self._jobs) > self._max_batches or self._nbytes > self._max_bytes:
            self._deliver_oldest()

    def run_in_background(self, work: Callable[[], bytes]) -> Callable[[], bytes]:
        """Submits work to a free thread. The returned function returns the result. It does the work itself if no thread
        has begun it."""
        if self._threads is None:
            return run_now(work)
        begun = self._threads.submit(work)
        return lambda: work() if begun.cancel() else begun.result()

    def drain(self) -> None:
        """Delivers everything that is in progress."""
        while self._jobs:
            self._deliver_oldest()

    def cancel(self, queue: StreamQueue) -> None:
        """Drops the batches in progress of one landing."""
        for job in self._jobs:
            if job.queue is queue:
                job.encoded.cancel()
        self._jobs = deque(job for job in self._jobs if job.queue is not queue)
        self._nbytes = sum(job.nbytes for job in self._jobs)

    def _deliver_oldest(self) -> None:
        while not self._jobs[0].encoded.done() and any(job.encode_here() for job in self._jobs):
            pass
        oldest = self._jobs.popleft()
        self._nbytes -= oldest.nbytes
        oldest.queue.deliver_result(oldest.encoded)


class StreamQueue:
    """One landing's batches in the `EncodeQueue`. An error is raised to the landing whose batch caused it, even if
    another landing's call delivered that batch."""

    def __init__(self, queue: EncodeQueue, deliver: Callable[[EncodedBatch], None]) -> None:
        self._queue = queue
        self._failure: Exception | None = None
        self.deliver = deliver

    def append(self, encoder: Encoder, batch: Batch, entropy: bytes) -> None:
        """Adds the next batch. Also raises what encoding or delivering an earlier batch of this queue raised."""
        self._queue.append(self, encoder, batch, entropy)
        self._raise_failure()

    def drain(self) -> None:
        """Returns when all batches are delivered, those of other landings included. Raises as `append` does."""
        self._queue.drain()
        self._raise_failure()

    def cancel(self) -> None:
        """Drops all batches that are not delivered yet."""
        self._queue.cancel(self)

    def deliver_result(self, encoded: Future[EncodedBatch]) -> None:
        """Delivers a batch, and stores its error for this queue's next call. After an error nothing is delivered."""
        if self._failure is not None:
            return
        try:
            self.deliver(encoded.result())
        except Exception as failure:
            self._failure = failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
