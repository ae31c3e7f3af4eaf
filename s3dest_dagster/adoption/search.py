"""Finds the objects of the connector under a bucket path, and says why others are none. Writes nothing.

Must not know: what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, RawIOBase
from typing import cast

from isal.isal_zlib import crc32

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.commit.generations import GENERATION_METADATA
from s3dest_dagster.commit.key_owners import unowned_objects
from s3dest_dagster.errors import ObjectNotFoundError, RecordError, SettingsError
from s3dest_dagster.formats import read_table
from s3dest_dagster.formats.file_columns import FileColumns, columns_of_file, connector_format
from s3dest_dagster.keys import ConnectorKeys, KeyTemplate, keys_of_connector
from s3dest_dagster.settings.destination import SYNC_METADATA, S3Destination
from s3dest_dagster.settings.formats import EnvelopeName, FormatSettings
from s3dest_dagster.storage import Bucket, ListedObject, crc32_text, each_in_parallel
from s3dest_dagster.stream import StreamId

_READ_BYTES = 64 << 10
"""What one request reads of an object whose columns are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptableObject:
    """An object of the connector that can be adopted."""

    listed: ListedObject
    """Its key, size, ETag and time."""
    columns: FileColumns
    """Its columns, as the file shows them."""
    part: int | None
    """The part number in its key. None if it has none."""
    generation_id: int | None
    """The generation in its metadata. None if there is none."""
    rows: int | None
    """The number of its records. None if nobody has counted them."""
    crc32: str = ""
    """CRC-32 of its bytes, in hexadecimal digits. Empty if nobody has read all of them."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An object that may be the stream's, and that is not adopted."""

    key: str
    reason: str
    """Why, as the end of a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObjects:
    """The objects below the beginning of a stream's keys that no manifest lists."""

    stream: StreamId
    """The stream, with its name as it is in the bucket."""
    recognised: tuple[AdoptableObject, ...]
    """Objects that the connector wrote for the stream, oldest first."""
    ambiguous: tuple[LeftOut, ...]
    """Objects whose keys look like the stream's, and that cannot be adopted as they are."""
    foreign: tuple[str, ...]
    """Keys of all other objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What is searched for, and how thoroughly."""

    declared: Mapping[StreamId, Record]
    """The streams, with their names as they are in the bucket, and the columns that they are expected to have."""
    envelope: EnvelopeName | None = None
    """The only envelope that is wanted. None: that of either era."""
    deep: bool = False
    """Whether to read every object, to count its records and to see that it can be read."""


def search(bucket: Bucket, destination: S3Destination, request: SearchRequest) -> Iterator[FoundObjects]:
    """Yields what is found for each stream.

    An object is recognised if its key is one that the connector may have made for this stream and for no other of the
    request, no manifest lists it, and it has the format of the settings and the columns of one of the connector's eras.

    Raises:
        SettingsError: The keys of the settings have parts that the connector does not have.
    """
    template = destination.template
    _refuse_partitions(template)
    keys = {stream: keys_of_connector(template, stream) for stream in request.declared}
    for stream, record in request.declared.items():
        objects = _unowned(bucket, keys[stream])
        others = [other for each, other in keys.items() if each != stream]
        candidates, ambiguous, foreign = list[ListedObject](), list[LeftOut](), list[str]()
        for listed in objects:
            is_of_others = any(other.matches(listed.key) for other in others)
            if not keys[stream].matches(listed.key):
                foreign += [] if is_of_others else [listed.key]
            elif reason := _doubt(template, listed.key, destination.format, is_of_others=is_of_others):
                ambiguous.append(LeftOut(listed.key, reason))
            else:
                candidates.append(listed)
        inspect = partial(_inspected, bucket, destination.format, record, keys[stream], request)
        # A deep search holds a whole object in memory.
        results = list(map(inspect, candidates) if request.deep else each_in_parallel(inspect, candidates))
        yield FoundObjects(
            stream=stream,
            recognised=tuple(each for each in results if isinstance(each, AdoptableObject)),
            ambiguous=(*ambiguous, *(each for each in results if isinstance(each, LeftOut))),
            foreign=tuple(foreign),
        )


def _refuse_partitions(template: KeyTemplate) -> None:
    if "${PARTITION" in template.text or template.names_fields:
        raise SettingsError(
            f"s3_path_format is {template.path_format!r}, and the connector's objects have no partitions. Give adopt "
            "the path format that the connector had.",
            setting="s3_path_format",
        )


def _unowned(bucket: Bucket, keys: ConnectorKeys) -> list[ListedObject]:
    """The objects below the beginnings of a stream's keys that no manifest lists, oldest first."""
    found = dict[str, ListedObject]()
    for prefix in keys.prefixes:
        found |= unowned_objects(bucket, prefix, lambda key: True)
    return sorted(found.values(), key=lambda each: (each.modified, each.key))


def _doubt(template: KeyTemplate, key: str, settings: FormatSettings, *, is_of_others: bool) -> str:
    """Why an object with a key of the stream may not be adopted. Empty if its key raises no doubt."""
    if is_of_others:
        return "another stream of the catalog has such keys, too"
    if not template.names_stream:
        return "its key does not show its stream, since s3_path_format lacks ${STREAM_NAME}"
    name, _, repeated = key.rpartition("-")
    if not (name if repeated.isdigit() else key).endswith(settings.extensions()):
        return f"the settings say {settings.format_type}, and it has another format; adopt it with that format"
    return ""


def _inspected(
    bucket: Bucket,
    settings: FormatSettings,
    record: Record,
    keys: ConnectorKeys,
    request: SearchRequest,
    listed: ListedObject,
) -> AdoptableObject | LeftOut:
    """The object with what its metadata and its content show."""
    head = bucket.head(listed.key)
    if head is None or (head.size, head.etag) != (listed.size, listed.etag):
        return LeftOut(listed.key, "it was changed or deleted while it was looked at")
    if SYNC_METADATA in head.metadata:
        return LeftOut(listed.key, f"a sync of s3dest wrote it, in segment {head.metadata[SYNC_METADATA]}")
    generation = head.metadata.get(GENERATION_METADATA, "")
    try:
        columns = columns_of_file(connector_format(settings), _opened(bucket, listed), record)
        if request.envelope not in (None, columns.record.envelope):
            return LeftOut(listed.key, "it has the columns of the other layout")
        content = bucket.get(listed.key) if request.deep else None
        return AdoptableObject(
            listed=listed,
            columns=columns,
            part=keys.part_of(listed.key),
            generation_id=int(generation) if generation.isdecimal() else None,
            rows=columns.rows if content is None else _rows(settings, columns, content[0]),
            crc32="" if content is None else crc32_text(crc32(content[0])),
        )
    except ObjectNotFoundError:
        return LeftOut(listed.key, "it was deleted while it was looked at")
    except RecordError as error:
        return LeftOut(listed.key, error.message)


def _rows(settings: FormatSettings, columns: FileColumns, content: bytes) -> int:
    """The number of records. Raises RecordError if they cannot be read."""
    try:
        return len(read_table(connector_format(settings), columns.record, content))
    # Every reader raises its own errors.
    except Exception as error:
        raise RecordError(f"it cannot be read: {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------------- reading parts of an object


def _opened(bucket: Bucket, listed: ListedObject) -> BufferedReader:
    return BufferedReader(_ObjectFile(bucket, listed), _READ_BYTES)


class _ObjectFile(RawIOBase):
    """An object as a file. Each read is a request for a part of it."""

    def __init__(self, bucket: Bucket, listed: ListedObject) -> None:
        super().__init__()
        self._bucket, self._listed, self._position = bucket, listed, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._listed.size)[whence]
        return self._position

    def readinto(self, buffer: object) -> int:
        view = cast("memoryview", memoryview(buffer))  # type: ignore[arg-type]
        stop = min(self._position + len(view), self._listed.size)
        if stop <= self._position:
            return 0
        content = self._bucket.get_range(self._listed.key, self._position, stop)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
