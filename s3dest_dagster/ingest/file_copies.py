"""Copies the files that a source sends beside its records into the bucket, as staged uploads of a segment.

A file is never in memory as a whole, and is visible with the records of its segment or not at all. Must not know: when
a segment ends, what a source is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from s3dest_dagster.batch import SourceFile
from s3dest_dagster.commit.documents import file_key
from s3dest_dagster.commit.landed_objects import MultipartUpload, SegmentObject
from s3dest_dagster.errors import SourceError
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.destination import SYNC_METADATA
from s3dest_dagster.storage import Upload, headers_of_data
from s3dest_dagster.stream import Scope

_READ_BYTES = 1 << 20
_LONGEST_KEY = 1024
"""In bytes of UTF-8, by S3's rule."""


class FileCopies:
    """The copies of one segment. Use it from one thread only; parts are sent in the background.

    Args:
        target: The destination.
        scope: The scope that the files belong to.
        root: What the keys begin with: the place of the scope's manifests.
        segment: The name of the segment.
        metadata: Metadata of the copies, besides the settings' and the segment's name.
    """

    def __init__(
        self, target: Target, scope: Scope, root: str, segment: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        self._target, self._scope = target, scope
        self._root, self._segment = root, segment
        given = target.destination.object_metadata or {}
        self._metadata = {**given, **(metadata or {}), SYNC_METADATA: segment}
        self._copies: list[tuple[SourceFile, Upload]] = []
        self._keys = set[str]()

    def append(self, file: SourceFile) -> None:
        """Copies a file. Also raises the failure of an earlier one's part.

        Raises:
            SourceError: `on_file` is "fail", the file cannot be read, or its size is not what the source says.
        """
        if self._target.destination.on_file == "fail":
            raise self._refusal(
                file,
                "Files are not landed, since on_file is 'fail', and the record is not whole without its file. Set "
                "on_file to 'copy', set the source's delivery method to replicate records, or leave the stream out.",
            )
        for _, earlier in self._copies[-1:]:
            earlier.settle()
        destination = self._target.destination
        upload = Upload(
            self._target.bucket.with_data_headers(headers_of_data(destination)),
            self._next_key(file),
            self._target.parts,
            part_bytes=destination.part_bytes,
            metadata=self._metadata,
        )
        self._copies.append((file, upload))
        self._target.memory.reserve(self, destination.part_bytes)
        try:
            self._copy(file, upload)
        finally:
            self._target.memory.reserve(self, 0)

    def finish(self) -> tuple[SegmentObject, ...]:
        """Waits until every part of every file is uploaded."""
        return tuple(_listed(file, upload) for file, upload in self._copies)

    def abort(self) -> None:
        """Aborts all uploads."""
        self._target.parts.abort(upload for _, upload in self._copies)

    def _copy(self, file: SourceFile, upload: Upload) -> None:
        try:
            with open(file.location, "rb", opener=_open_regular) as opened:
                while data := opened.read(_READ_BYTES):
                    upload.write(data)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise self._refusal(
                file,
                f"It cannot be read at {file.location!r}: {reason}. The destination needs the directory in which the "
                "source puts its files: run both on one machine, or mount it in both containers.",
            ) from error
        if file.size not in (None, upload.size):
            raise self._refusal(
                file,
                f"It has {amount(upload.size, 'byte')}, and {file.size:,} by its record. Run the source again.",
            )
        upload.finish()

    def _next_key(self, file: SourceFile) -> str:
        """A key that the segment has not used: the source's path, without what would lead out of the directory."""
        path = "/".join(part for part in file.path.split("/") if part not in ("", ".", ".."))
        key = file_key(self._root, self._segment, path)
        if key in self._keys:
            key = file_key(self._root, self._segment, f"~{len(self._keys)}/{path}")
        if not path or len(key.encode()) > _LONGEST_KEY:
            raise self._refusal(file, "Its path at the source is empty or too long for a key in the bucket. Rename it.")
        self._keys.add(key)
        return key

    def _refusal(self, file: SourceFile, reason: str) -> SourceError:
        name = f"the file {file.path!r}" if file.path else "a file"
        return SourceError(
            f"The source sends {name} with a record of the stream {self._scope.stream}. {reason}",
            stream=str(self._scope.stream),
            partition=self._scope.partition,
            setting="on_file",
        )


def _open_regular(path: str, flags: int) -> int:
    """Opens a regular file. Does not wait for the writer of a named pipe, as usual opening does."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError("it is no regular file")


def _listed(file: SourceFile, upload: Upload) -> SegmentObject:
    staged = upload.staged()
    parts = MultipartUpload(staged.upload_id, staged.etags)
    return SegmentObject(
        key=staged.key,
        rows=0,
        bytes=staged.size,
        etag=parts.object_etag,
        crc32=staged.crc32,
        file=file.path,
        close_reason="file",
        upload=parts,
    )
