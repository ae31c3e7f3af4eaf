"""Uploads that nobody sees until they are completed: parts leave on threads while the next ones are made.

Memory is bounded: a `PartPool` holds at most `threads + 2` parts at a time, whatever the number of uploads that share
it. It must not know what the bytes are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from threading import BoundedSemaphore, Event
from types import TracebackType

from isal.isal_zlib import crc32

from s3dest_dagster.errors import StorageError
from s3dest_dagster.printable import amount
from s3dest_dagster.storage.bucket import Bucket
from s3dest_dagster.storage.pool import Workers

_ABORT_THREADS = 8
_KEPT_BLOCK_BYTES = 8 << 20
"""Linux's allocator gives blocks back to the system, and takes each page anew for the next batch, until it has seen one
as large as this freed: from then on it keeps some of that size."""


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An upload of which all parts are sent and nothing is visible.

    `size` in bytes, `etags` of the parts in order, `crc32` of all bytes as eight hexadecimal digits.
    """

    key: str
    upload_id: str
    etags: tuple[str, ...]
    size: int
    crc32: str


def crc32_text(checksum: int) -> str:
    """A CRC-32 as eight hexadecimal digits."""
    return f"{checksum:08x}"


class PartPool:
    """The threads that send parts, shared by the uploads of a process, and how long giving uploads up may take.

    However many uploads are given up one after another, `abort_grace_s` is for all of them, until a part is sent again.
    """

    def __init__(self, threads: int, *, abort_grace_s: float = 10, clock: Callable[[], float] = time.monotonic) -> None:
        _keep_large_blocks()
        self._workers = Workers(threads, "s3dest-part")
        self._slots = BoundedSemaphore(threads + 2)
        self._grace_s = abort_grace_s
        self._clock = clock
        self._grace_ends: float | None = None

    def send(self, bucket: Bucket, key: str, upload_id: str, number: int, body: bytes) -> Future[str]:
        """Sends one part; waits while the pool is full. The future gives the part's ETag."""
        self._grace_ends = None
        self._slots.acquire()
        try:
            future = self._workers.submit(bucket.upload_part, key, upload_id, number, body)
        except BaseException:
            self._slots.release()
            raise
        future.add_done_callback(lambda _: self._slots.release())
        return future

    def abort(self, uploads: Iterable[Upload]) -> None:
        """Gives uploads up: their parts are not tried again, and what the server has of them is dropped.

        Raises the first failure once all have been tried, and StorageError for those that the server has not answered
        for when the grace ends; they are invisible, and the sweep's.
        """
        given_up = [each for each in uploads if each.give_up()]
        wait([part for each in given_up for part in each.parts], timeout=self._grace_left())
        workers = Workers(min(_ABORT_THREADS, len(given_up)), "s3dest-abort")
        aborts = [workers.submit(each.drop) for each in given_up]
        workers.close(wait=False)
        late = wait(aborts, timeout=self._grace_left()).not_done
        for each in aborts:
            if each.done():
                each.result()
        if late:
            raise StorageError(
                f"The server did not answer for {len(late)} of {amount(len(aborts), 'upload')} to be aborted before "
                f"abort_grace_s = {self._grace_s:g} was over. Nobody sees them; `s3dest sweep` aborts them later.",
                setting="abort_grace_s",
            )

    def _grace_left(self) -> float:
        if self._grace_ends is None:
            self._grace_ends = self._clock() + self._grace_s
        return max(0.0, self._grace_ends - self._clock())

    def close(self) -> None:
        """Ends the threads. Whoever wanted a part has waited for it; one that was given up may hang, and is left."""
        self._workers.close(wait=False)

    def __enter__(self) -> PartPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _keep_large_blocks() -> None:
    """Has the allocator see a large block come and go. Its pages are never touched."""
    bytes(_KEPT_BLOCK_BYTES)


class _Filling:
    """The part that is being filled, in pages of its own.

    They go back to the system as soon as the part is taken. On the heap the parts of many uploads, filled side by side
    from small pieces, leave gaps that add up to half as much again.
    """

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._pages: mmap | None = None
        self.held = 0

    @property
    def is_full(self) -> bool:
        return self.held == self._part_bytes

    def add(self, data: memoryview) -> memoryview:
        """Takes what there is room for; gives back the rest."""
        if self._pages is None:
            self._pages = mmap(-1, self._part_bytes, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        taken = data[: self._part_bytes - self.held]
        self._pages[self.held : self.held + len(taken)] = taken
        self.held += len(taken)
        return data[len(taken) :]

    def taken(self) -> bytes:
        """What was added; the next part begins."""
        pages, held = self._pages, self.held
        self._pages, self.held = None, 0
        if pages is None:
            return b""
        with pages:
            return pages[:held]


class Upload:
    """One object on its way: `write` bytes, then `finish` and `staged`, or `abort`. For one thread.

    `size` bytes were written. All parts have `part_bytes` but for the last, as some servers ask for.
    """

    def __init__(
        self, bucket: Bucket, key: str, pool: PartPool, *, part_bytes: int, metadata: Mapping[str, str]
    ) -> None:
        self.key = key
        self.size = 0
        self._given_up = Event()
        self._bucket = bucket
        self._parts_bucket = bucket.until(self._given_up)
        self._pool = pool
        self._metadata = metadata
        self._upload_id: str | None = None
        self._filling = _Filling(part_bytes)
        self._checksum = 0
        self._etags: list[str] = []
        self.parts: deque[Future[str]] = deque()

    @property
    def held(self) -> int:
        """Bytes that wait for their part to fill."""
        return self._filling.held

    def write(self, data: bytes) -> None:
        """Takes the next bytes of the object; sends parts as they fill. Raises what a part before met."""
        self.size += len(data)
        self._checksum = crc32(data, self._checksum)
        rest = memoryview(data)
        while rest:
            rest = self._filling.add(rest)
            if self._filling.is_full:
                self._send()

    def _send(self) -> None:
        """Sends what waits as the next part."""
        body = self._filling.taken()
        self._take_arrived()
        if self._upload_id is None:
            self._upload_id = self._bucket.create_upload(self.key, self._metadata)
        number = len(self._etags) + len(self.parts) + 1
        self.parts.append(self._pool.send(self._parts_bucket, self.key, self._upload_id, number, body))

    def _take_arrived(self) -> None:
        """Takes the ETags of the parts that have arrived, in order; raises what one of them met."""
        while self.parts and self.parts[0].done():
            self._etags.append(self.parts[0].result())
            self.parts.popleft()

    def finish(self) -> None:
        """Sends what is left, without waiting for it. An object without bytes has one empty part."""
        if self.held or self._upload_id is None:
            self._send()

    def staged(self) -> StagedObject:
        """Waits until every part has arrived; nothing is visible yet. Raises what a part met."""
        assert self._upload_id is not None, "finish() comes before staged()"
        while self.parts:
            self._etags.append(self.parts[0].result())
            self.parts.popleft()
        return StagedObject(self.key, self._upload_id, tuple(self._etags), self.size, crc32_text(self._checksum))

    def abort(self) -> None:
        """Gives the upload up, and whatever was sent of it. Harmless when nothing was sent."""
        self._pool.abort([self])

    def give_up(self) -> bool:
        """Sends no part any more, nor tries one again; answers whether there is something to drop."""
        self._given_up.set()
        self._filling.taken()
        for part in self.parts:
            part.cancel()
        return self._upload_id is not None

    def drop(self) -> None:
        """Has the server forget the upload."""
        if self._upload_id is not None:
            self._bucket.abort_upload(self.key, self._upload_id)
