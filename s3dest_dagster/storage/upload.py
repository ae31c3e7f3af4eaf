"""Uploads that nobody sees until they are completed: parts leave on threads while the next ones are made.

Memory is bounded: a `PartPool` holds at most `threads + 2` parts at a time, whatever the number of uploads that share
it. It must not know what the bytes are.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import BoundedSemaphore
from types import TracebackType

from s3dest_dagster.storage.bucket import Bucket


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An upload of which all parts are sent and nothing is visible. `size` in bytes, `etags` of the parts in order."""

    key: str
    upload_id: str
    etags: tuple[str, ...]
    size: int


class PartPool:
    """The threads that send parts, shared by the uploads of a process. Closing it waits for what is under way."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="s3dest-part")
        self._slots = BoundedSemaphore(threads + 2)

    def send(self, bucket: Bucket, key: str, upload_id: str, number: int, body: bytes) -> Future[str]:
        """Sends one part; waits while the pool is full. The future gives the part's ETag."""
        self._slots.acquire()
        try:
            future = self._executor.submit(bucket.upload_part, key, upload_id, number, body)
        except BaseException:
            self._slots.release()
            raise
        future.add_done_callback(lambda _: self._slots.release())
        return future

    def close(self) -> None:
        """Ends the threads; parts that have not begun are dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)

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
        self._bucket = bucket
        self._pool = pool
        self._part_bytes = part_bytes
        self._metadata = metadata
        self._upload_id: str | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._parts: list[Future[str]] = []

    def write(self, data: bytes) -> None:
        """Takes the next bytes of the object; sends parts as they fill. Raises what a part before met."""
        self.size += len(data)
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
        number = len(self._parts) + 1
        self._parts.append(self._pool.send(self._bucket, self.key, self._upload_id, number, body))

    def _raise_failed_part(self) -> None:
        for part in self._parts:
            if part.done():
                part.result()

    def finish(self) -> None:
        """Sends what is left, without waiting for it. An object without bytes has one empty part."""
        if self._pieces or not self._parts:
            self._send(b"".join(self._pieces))
        self._pieces, self._held = [], 0

    def staged(self) -> StagedObject:
        """Waits until every part has arrived; nothing is visible yet. Raises what a part met."""
        assert self._upload_id is not None, "finish() comes before staged()"
        etags = tuple(part.result() for part in self._parts)
        return StagedObject(self.key, self._upload_id, etags, self.size)

    def abort(self) -> None:
        """Gives the upload up: waits for parts under way, then drops all of them. Harmless when nothing was sent."""
        for part in self._parts:
            part.cancel()
        for part in self._parts:
            if not part.cancelled():
                part.exception()
        if self._upload_id is not None:
            self._bucket.abort_upload(self.key, self._upload_id)
        self._pieces = []
