"""Uploads that nobody sees until they are completed: parts leave on threads while the next ones are made.

Memory is bounded: a `PartPool` holds at most `threads + 2` parts at a time, whatever the number of uploads that share
it. It must not know what the bytes are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import BoundedSemaphore, Event
from types import TracebackType

from isal.isal_zlib import crc32

from s3dest_dagster.errors import StorageError
from s3dest_dagster.storage.bucket import Bucket
from s3dest_dagster.storage.workers import Workers

_ABORT_THREADS = 8


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
                f"The server did not answer for {len(late)} of {len(aborts)} uploads that were to be aborted before "
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


class Upload:
    """One object on its way: `write` bytes, then `finish` and `staged`, or `abort`. For one thread."""

    def __init__(
        self, bucket: Bucket, key: str, pool: PartPool, *, part_bytes: int, metadata: Mapping[str, str]
    ) -> None:
        self.key = key
        self.size = 0
        self._given_up = Event()
        self._bucket = bucket
        self._parts_bucket = bucket.until(self._given_up)
        self._pool = pool
        self._part_bytes = part_bytes
        self._metadata = metadata
        self._upload_id: str | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._checksum = 0
        self.parts: list[Future[str]] = []

    def write(self, data: bytes) -> None:
        """Takes the next bytes of the object; sends parts as they fill. Raises what a part before met."""
        self.size += len(data)
        self._checksum = crc32(data, self._checksum)
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= self._part_bytes:
            self._send_full_parts()

    def _send_full_parts(self) -> None:
        whole = memoryview(b"".join(self._pieces))
        cut = len(whole) - len(whole) % self._part_bytes
        for start in range(0, cut, self._part_bytes):
            self._send(bytes(whole[start : start + self._part_bytes]))
        self._pieces = [bytes(whole[cut:])] if cut < len(whole) else []
        self._held = len(whole) - cut

    def _send(self, body: bytes) -> None:
        self._raise_failed_part()
        if self._upload_id is None:
            self._upload_id = self._bucket.create_upload(self.key, self._metadata)
        number = len(self.parts) + 1
        self.parts.append(self._pool.send(self._parts_bucket, self.key, self._upload_id, number, body))

    def _raise_failed_part(self) -> None:
        for part in self.parts:
            if part.done():
                part.result()

    def finish(self) -> None:
        """Sends what is left, without waiting for it. An object without bytes has one empty part."""
        if self._pieces or not self.parts:
            self._send(b"".join(self._pieces))
        self._pieces, self._held = [], 0

    def staged(self) -> StagedObject:
        """Waits until every part has arrived; nothing is visible yet. Raises what a part met."""
        assert self._upload_id is not None, "finish() comes before staged()"
        etags = tuple(part.result() for part in self.parts)
        return StagedObject(self.key, self._upload_id, etags, self.size, crc32_text(self._checksum))

    def abort(self) -> None:
        """Gives the upload up, and whatever was sent of it. Harmless when nothing was sent."""
        self._pool.abort([self])

    def give_up(self) -> bool:
        """Sends no part any more, nor tries one again; answers whether there is something to drop."""
        self._given_up.set()
        self._pieces = []
        for part in self.parts:
            part.cancel()
        return self._upload_id is not None

    def drop(self) -> None:
        """Has the server forget the upload."""
        if self._upload_id is not None:
            self._bucket.abort_upload(self.key, self._upload_id)
