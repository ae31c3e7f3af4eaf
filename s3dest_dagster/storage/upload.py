"""Multipart uploads: threads begin them and send parts while the next parts are filled. Nothing is visible until the
completion.

Memory is bounded: a `PartPool` holds at most `threads + 2` parts at a time, however many uploads share it. Must not
know: what the bytes are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from threading import BoundedSemaphore, Event, Lock
from types import TracebackType

from isal.isal_zlib import crc32

from s3dest_dagster.errors import StorageError
from s3dest_dagster.printable import amount
from s3dest_dagster.storage.bucket import Bucket
from s3dest_dagster.storage.requests import DaemonPool

_ABORT_THREADS = 8
_LARGE_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An upload whose parts have all been sent. Nothing of it is visible yet."""

    key: str
    upload_id: str
    etags: tuple[str, ...]
    """The ETags of the parts, in order."""
    size: int
    """In bytes."""
    crc32: str
    """The CRC-32 of all bytes, as eight hexadecimal digits."""


def crc32_text(checksum: int) -> str:
    """A CRC-32 as eight hexadecimal digits."""
    return f"{checksum:08x}"


class PartPool:
    """The threads that begin uploads and send their parts, shared by all uploads of a process.

    Args:
        threads: the number of parts that are sent at a time.
        abort_grace_s: the time that all consecutive aborts together may take, until a part is sent again.
        clock: the time in seconds.
    """

    def __init__(self, threads: int, *, abort_grace_s: float = 10, clock: Callable[[], float] = time.monotonic) -> None:
        _keep_large_blocks()
        self._pool = DaemonPool(threads, "s3dest-part")
        self._free_parts = BoundedSemaphore(threads + 2)
        self._grace_s = abort_grace_s
        self._clock = clock
        self._grace_ends: float | None = None

    def send(self, send_part: Callable[[int, bytes], str], number: int, body: bytes) -> Future[str]:
        """Sends one part in the background. The future has the part's ETag. Waits while the pool is full."""
        self._grace_ends = None
        self._free_parts.acquire()
        try:
            future = self._pool.submit(send_part, number, body)
        except BaseException:
            self._free_parts.release()
            raise
        future.add_done_callback(lambda _: self._free_parts.release())
        return future

    def abort(self, uploads: Iterable[Upload]) -> None:
        """Aborts uploads: their parts are not retried, and the server drops the parts that it has.

        Raises:
            StorageError: the first failure, after all aborts were tried; or the grace period ended before the server
                answered. The remaining uploads are invisible, and a sweep aborts them.
        """
        cancelled = [upload for upload in uploads if upload.cancel()]
        wait([part for upload in cancelled for part in upload.parts], timeout=self._grace_left())
        pool = DaemonPool(min(_ABORT_THREADS, len(cancelled)), "s3dest-abort")
        aborts = [pool.submit(upload.abort_at_server) for upload in cancelled]
        pool.close(wait=False)
        late = wait(aborts, timeout=self._grace_left()).not_done
        for abort in aborts:
            if abort.done():
                abort.result()
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
        """Ends the threads without waiting: a part that is still being sent belongs to a cancelled upload."""
        self._pool.close(wait=False)

    def __enter__(self) -> PartPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _keep_large_blocks() -> None:
    """Makes glibc keep freed blocks of up to 8 MiB instead of mapping and clearing new pages for each batch.

    glibc's mmap threshold grows to the size of the largest freed block (mallopt(3), M_MMAP_THRESHOLD). The pages of
    this block are never touched.
    """
    bytes(_LARGE_BLOCK_BYTES)


class _PartBuffer:
    """The bytes of the part that is being filled, in separate pages, which are returned to the system with the part.

    On the heap, the parts of many uploads that are filled concurrently would leave gaps of half their size.
    """

    __slots__ = ("_pages", "_part_bytes", "size")

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._pages: mmap | None = None
        self.size = 0

    @property
    def is_full(self) -> bool:
        return self.size == self._part_bytes

    def append(self, data: memoryview) -> memoryview:
        """Appends as much as fits. Returns the rest."""
        if self._pages is None:
            self._pages = mmap(-1, self._part_bytes, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        fitting = data[: self._part_bytes - self.size]
        self._pages[self.size : self.size + len(fitting)] = fitting
        self.size += len(fitting)
        return data[len(fitting) :]

    def drain(self) -> bytes:
        """Returns the bytes and empties the buffer."""
        pages, size = self._pages, self.size
        self._pages, self.size = None, 0
        if pages is None:
            return b""
        with pages:
            return pages[:size]


class Upload:
    """One object that is being uploaded: `write` its bytes, then `finish` and `staged`, or `abort`. Not thread-safe.

    All parts except the last have `part_bytes`, as some servers require. The thread that sends the first part begins
    the upload: a sync of many small objects does not wait for the server at each. A sync may have 50,000 uploads, so
    that each keeps little in memory between its parts.

    Args:
        cancelled: What `cancel` sets. Uploads that are only cancelled together may share it.
    """

    __slots__ = (
        "_bucket",
        "_buffer",
        "_cancelled",
        "_checksum",
        "_etags",
        "_is_begun",
        "_lock",
        "_metadata",
        "_pool",
        "_upload_id",
        "key",
        "parts",
        "size",
    )

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        pool: PartPool,
        *,
        part_bytes: int,
        metadata: Mapping[str, str],
        cancelled: Event | None = None,
    ) -> None:
        self.key = key
        self.size = 0
        """Bytes written so far."""
        self.parts: list[Future[str]] = []
        """The parts that are being sent, in order."""
        self._cancelled = cancelled or Event()
        self._bucket = bucket
        self._pool = pool
        self._metadata = metadata
        self._is_begun = False
        self._lock = Lock()  # held while the server begins the upload
        self._upload_id: str | None = None
        self._buffer = _PartBuffer(part_bytes)
        self._checksum = 0
        self._etags: list[str] = []

    @property
    def buffered(self) -> int:
        """Bytes that wait for their part to fill."""
        return self._buffer.size

    def write(self, data: bytes) -> None:
        """Appends bytes to the object, and sends each full part. Raises the failure of an earlier part."""
        self.size += len(data)
        self._checksum = crc32(data, self._checksum)
        rest = memoryview(data)
        while rest:
            rest = self._buffer.append(rest)
            if self._buffer.is_full:
                self._send_part()

    def _send_part(self) -> None:
        body = self._buffer.drain()
        self.settle()
        self._is_begun = True
        number = len(self._etags) + len(self.parts) + 1
        self.parts.append(self._pool.send(self._send_now, number, body))

    def _send_now(self, number: int, body: bytes) -> str:
        """Sends a part, on a thread of the pool. Returns its ETag."""
        bucket = self._bucket.cancelled_by(self._cancelled)
        return bucket.upload_part(self.key, self._begun_at_server(bucket), number, body)

    def _begun_at_server(self, bucket: Bucket) -> str:
        """The id of the upload, which the first call begins at the server."""
        with self._lock:
            # An abort takes the lock after the cancellation, so that no upload begins unseen after that.
            if self._cancelled.is_set():
                raise CancelledError
            if self._upload_id is None:
                self._upload_id = bucket.create_upload(self.key, self._metadata)
            return self._upload_id

    def settle(self) -> None:
        """Forgets the first parts that the server has. Raises the failure of a part."""
        while self.parts and self.parts[0].done():
            self._await_part()

    def _await_part(self) -> None:
        """Waits for the oldest part that is being sent. Raises its failure."""
        self._etags.append(self.parts[0].result())
        del self.parts[0]

    def finish(self) -> None:
        """Sends the last part without waiting for it. An object without bytes has one empty part."""
        if self.buffered or not self._is_begun:
            self._send_part()

    def staged(self) -> StagedObject:
        """Waits until the server has every part. Nothing is visible yet. Raises the failure of a part."""
        while self.parts:
            self._await_part()
        assert self._upload_id is not None, "finish() comes before staged()"
        return StagedObject(self.key, self._upload_id, tuple(self._etags), self.size, crc32_text(self._checksum))

    def abort(self) -> None:
        """Aborts the upload and drops its parts. Does nothing if nothing was sent. Raises as `PartPool.abort` does."""
        self._pool.abort([self])

    def cancel(self) -> bool:
        """Stops sending and retrying parts. Returns whether the server may have an upload to abort."""
        self._cancelled.set()
        self._buffer.drain()
        for part in self.parts:
            part.cancel()
        return self._is_begun

    def abort_at_server(self) -> None:
        """Makes the server drop the upload, after `cancel`. Waits for the server if it is beginning the upload."""
        with self._lock:
            upload_id = self._upload_id
        if upload_id is not None:
            self._bucket.abort_upload(self.key, upload_id)
