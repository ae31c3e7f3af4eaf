"""`KeyTemplate`: the rule for the keys of a destination. `SyncKeys`: the keys of one sync under it.

What is refused, is refused when the template is made, or when streams are known, with a key to look at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import NoReturn

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.keys.names import is_kept_apart, is_unmistakable, sanitize_segment
from s3dest_dagster.keys.overlap import Shape, Steps, TooManyStepsError, anchored, common_text, regex
from s3dest_dagster.keys.placeholders import (
    DIMENSION_PREFIX,
    EPOCH,
    NAMESPACE,
    PART_NUMBER,
    PARTITION,
    STREAM_NAME,
    SYNC_ID,
    TIMESTAMPS,
    UUID,
    ObjectValues,
    SyncValues,
    parse_path,
    parse_pattern,
)
from s3dest_dagster.keys.tokens import (
    LONGEST_PART_NUMBER,
    PART_ID,
    TAG,
    UUID_SHAPE,
    Level,
    Slot,
    Token,
    joined,
    leading_text,
    shape_of,
    substitute,
)
from s3dest_dagster.stream import Scope, StreamId

DEFAULT_PATH_FORMAT = "${NAMESPACE}/${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_"
DEFAULT_FILE_NAME_PATTERN = "{part_number}{format_extension}"
RESERVED_SEGMENT = "_s3dest"
_MOST_STEPS = 500_000
"""Steps that the comparison of a catalog's streams may take: some seconds."""
LONGEST_KEY = 1024
"""Bytes of UTF-8; S3's own limit."""

_EXAMPLE_STREAM = StreamId("public", "users")
_EXAMPLE_TIME = datetime(2021, 5, 27, 17, 16, 45, 123_000, tzinfo=UTC)
_EXAMPLE_PARTITION = "2021-05-27"
_EXAMPLE_UUID = "8f14e45f-ceea-467f-a9f0-5d2b6c1c3f3e"
_EXAMPLE_SYNC_ID = "42"


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """The rule for object keys: bucket path + "/" + path format, then the file name pattern.

    A part number and the extension follow where `file_name_pattern` is blank. Runs of "/" become one, no key begins
    with "/", times are UTC. Names go through `key_name`; a partition and a sync id also lose their "/". Raises
    TemplateError, with a key to look at, for what is unknown or cannot be told apart again.
    """

    bucket_path: str
    path_format: str
    file_name_pattern: str = ""
    _tokens: tuple[Token, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bucket_path, wrong_bucket_path = parse_path(self.bucket_path)
        path_format, wrong_path_format = parse_path(self.path_format)
        pattern, wrong_pattern = parse_pattern(_file_name_pattern(self.file_name_pattern))
        object.__setattr__(self, "_tokens", joined([*bucket_path, "/", *path_format, *pattern]))
        complaints = {
            "s3_bucket_path": wrong_bucket_path,
            "s3_path_format": wrong_path_format,
            "file_name_pattern": wrong_pattern,
        }
        for setting, reasons in complaints.items():
            if reasons:
                self._refuse(reasons[0], setting)
        self._check_tokens()
        _check_key(self.example(), "The template")

    @property
    def literal_root(self) -> str:
        """The directory part of the bucket path before its first variable; no "/" at its ends, "" when none."""
        tokens = joined(parse_path(self.bucket_path)[0])
        text = leading_text(tokens)
        return (text if len(tokens) == bool(text) else text.rpartition("/")[0]).strip("/")

    @property
    def tokens(self) -> tuple[Token, ...]:
        """What it is made of: equal for two templates that make the same keys."""
        return self._tokens

    @property
    def text(self) -> str:
        """The template as one text, with its variables in it, in the spelling of the settings."""
        path = f"{self.bucket_path}/{self.path_format}{_file_name_pattern(self.file_name_pattern)}"
        return re.sub("/+", "/", path).lstrip("/")

    @property
    def changes_every_sync(self) -> bool:
        """Whether no two syncs can make the same key: a time in milliseconds, a UUID or a sync id is in it."""
        return any(slot in (EPOCH, UUID, SYNC_ID, *TIMESTAMPS.values()) for slot in self._slots())

    @property
    def keys_recur(self) -> bool:
        """Whether a later sync may make a key again after its object was deleted: nothing in it is new with every sync,
        a time in milliseconds or a UUID, nor a part number that counts on. Several syncs may share a sync id."""
        slots = self._slots()
        if any(slot in (EPOCH, UUID, *TIMESTAMPS.values()) for slot in slots):
            return False
        return SYNC_ID in slots or not self.counts_parts

    def recurring(self, stream: StreamId, keys: Iterable[str]) -> list[str]:
        """Those of a stream's keys that may be made again; keys of another form come from another template."""
        if self.keys_recur:
            return list(keys)
        matches = self.matcher(stream).fullmatch
        return [key for key in keys if not matches(key)]

    @property
    def names_stream(self) -> bool:
        """Whether ${STREAM_NAME} is in it; without it a key does not tell whose it is."""
        return STREAM_NAME in self._slots()

    def identifies(self, stream: StreamId) -> bool:
        """Whether the name stands in the stream's keys as it is, or hashed. Then only a name that differs from it in
        separators alone, or that spells the hash, stands there alike."""
        return self.names_stream and is_kept_apart(stream.name)

    def keeps_apart(self, stream: StreamId) -> bool:
        """Whether no other stream makes this stream's keys by this template, even if nobody compares the two: a UUID
        stands in them, or the stream's namespace and name do (see `shows_names`), and no other names stand there as
        these do, or only at the same millisecond. A time alone does not tell streams apart: two syncs may be given
        one. Where keys recur, a stream without a namespace may spell namespace and name of another in its own name."""
        slots = self._slots()
        if UUID in slots:
            return True
        if self.keys_recur and stream.namespace:
            return False
        unmistakable = is_unmistakable(stream.namespace or "") and is_unmistakable(stream.name)
        timed = any(slot in (EPOCH, *TIMESTAMPS.values()) for slot in slots)
        return self.shows_names(stream) and (unmistakable or timed)

    def shows_names(self, stream: StreamId) -> bool:
        """Whether the stream's namespace and name stand in its keys, as they are or hashed, each in a directory of its
        own: then only streams whose two names stand in keys alike can make the same keys."""
        slots, names = self._slots(), (stream.namespace or "", stream.name)
        told = all(is_kept_apart(each) and "/" not in each for each in names)
        return told and NAMESPACE in slots and STREAM_NAME in slots and _apart(self._tokens)

    @property
    def counts_parts(self) -> bool:
        """Whether a part number tells the keys of one sync apart."""
        return PART_NUMBER in self._slots()

    @property
    def tells_objects_apart(self) -> bool:
        """Whether one sync can have several objects: a part number, or the moment of the upload, is in their keys."""
        return any(slot in (PART_NUMBER, *TIMESTAMPS.values()) for slot in self._slots())

    def bind(self, scope: Scope, *, now: datetime, uuid: str, sync_id: str) -> SyncKeys:
        """The keys of one sync of `scope`, begun at `now` (aware). Raises TemplateError, naming the stream, when the
        scope lacks the partition or dimension that the template names, or its keys would be refused by S3."""
        if scope.partition is None:
            self._check_unpartitioned(scope)
        values = SyncValues(scope, now.astimezone(UTC), _canonical_uuid(uuid), sync_id)
        tokens = self._for_stream(scope.stream)
        keys = SyncKeys(scope, substitute(tokens, Level.SYNC, values), self._names(scope, tokens))
        keys.key(0, ".parquet", uploaded_at=now)
        return keys

    def listing_root(self, stream: StreamId) -> str:
        """The longest prefix that all keys of a stream share, whatever the time, the partition or the part."""
        return leading_text(self._for_stream(stream))

    def matcher(self, stream: StreamId) -> re.Pattern[str]:
        """Matches (with `fullmatch`) exactly the keys that this template, or the connector with the same settings,
        makes for the stream at any time: a decimal part number or a UUID, any known extension. Names are literal."""
        return _data_pattern(shape_of(self._for_stream(stream)))

    def taken_over(self, stream: StreamId) -> re.Pattern[str] | None:
        """Matches (with `fullmatch`) the keys of an unpartitioned stream that are its own though no manifest lists
        them: what the connector with the same settings makes, and what we make without a tag.

        None where nobody can tell whose a key is: without the stream's name, or with a text that may be anything, as
        a sync id."""
        tokens = self._for_stream(stream)
        if not self.names_stream or any(isinstance(token, Slot) and token.free for token in tokens):
            return None
        return _data_pattern(tuple(piece for piece in shape_of(tokens) if piece != TAG))

    def check_streams(self, streams: Iterable[StreamId], extension: str = ".parquet") -> None:
        """Returns only when no key could belong to two of the streams; raises TemplateError naming two and a key.

        Refuses also a stream whose keys S3 would not take; `extension` is the one of the example keys.
        """
        shapes: dict[StreamId, Shape] = {}
        for stream in sorted(set(streams), key=lambda each: (each.namespace or "", each.name)):
            _check_key(self._example(stream, extension), f"Stream {stream}", stream)
            shapes[stream] = shape_of(self._for_stream(stream))
        steps = Steps(_MOST_STEPS)
        for stream, other in _alike(shapes):
            try:
                shared = common_text(shapes[stream], shapes[other], steps)
            except TooManyStepsError:
                self._refuse_number(len(shapes))
            if shared is not None:
                self._refuse_shared(stream, other, shared)

    def example(self, extension: str = ".parquet") -> str:
        """A key that this template makes: stream `users` of namespace `public`, on 2021-05-27."""
        return self._example(_EXAMPLE_STREAM, extension)

    def _slots(self) -> tuple[Slot, ...]:
        return tuple(token for token in self._tokens if isinstance(token, Slot))

    def _dimensions(self) -> list[Slot]:
        return [slot for slot in self._slots() if slot.source.startswith(DIMENSION_PREFIX)]

    def _for_stream(self, stream: StreamId) -> tuple[Token, ...]:
        return substitute(self._tokens, Level.STREAM, stream)

    def _example(self, stream: StreamId, extension: str) -> str:
        dimensions = {
            slot.source.removeprefix(DIMENSION_PREFIX)[:-1]: _EXAMPLE_PARTITION for slot in self._dimensions()
        }
        scope = Scope(stream, _EXAMPLE_PARTITION, dimensions)
        values = SyncValues(scope, _EXAMPLE_TIME, _EXAMPLE_UUID, _EXAMPLE_SYNC_ID)
        return _fill(
            substitute(self._for_stream(stream), Level.SYNC, values), ObjectValues(0, extension, _EXAMPLE_TIME)
        )

    def _check_tokens(self) -> None:
        for token in self._tokens:
            if isinstance(token, str) and not token.isprintable():
                self._refuse(f"{token!r} holds a character that cannot be printed; remove it.", "s3_path_format")
        if self._slots().count(PART_NUMBER) > 1:
            self._refuse("{part_number} stands in it twice; once is enough.", "file_name_pattern")
        for left, right in pairwise(self._tokens):
            if isinstance(left, Slot) and isinstance(right, Slot) and _indistinct(left, right):
                self._refuse_neighbours(left, right)

    def _check_unpartitioned(self, scope: Scope) -> None:
        for slot in (*(slot for slot in self._slots() if slot == PARTITION), *self._dimensions()):
            raise TemplateError(
                f"Stream {scope.stream} is not partitioned, but the path format names {slot.source}. Partition "
                f"the stream, or take {slot.source} out of s3_path_format.",
                stream=str(scope.stream),
                setting="s3_path_format",
            )

    def _names(self, scope: Scope, tokens: tuple[Token, ...]) -> bool:
        """Whether no other partition of the stream can make the keys of this one."""
        slots = self._slots()
        if scope.partition is None or UUID in slots:
            return True
        if not _apart(tokens):
            return False
        dimensions = scope.dimensions or {}
        named = {slot.source for slot in slots}
        by_whole = PARTITION in slots and sanitize_segment(scope.partition) == scope.partition
        by_dimension = bool(dimensions) and all(
            f"{DIMENSION_PREFIX}{name}}}" in named and sanitize_segment(key) == key for name, key in dimensions.items()
        )
        return by_whole or by_dimension

    def _refuse(self, reason: str, setting: str) -> NoReturn:
        value = {
            "s3_bucket_path": self.bucket_path,
            "s3_path_format": self.path_format,
            "file_name_pattern": self.file_name_pattern,
        }[setting]
        raise TemplateError(
            f"{setting} {value!r}: {reason} It would make keys like {self.example()!r}.", setting=setting
        )

    def _refuse_neighbours(self, left: Slot, right: Slot) -> NoReturn:
        danger = (
            "a full refresh of stream 'user' could take objects of 'user1' for its own"
            if left.free or right.free
            else "two objects could get the same key"
        )
        in_pattern = left.source in self.file_name_pattern
        self._refuse(
            f"nothing stands between {left.source} and {right.source}, so that nobody can tell where one ends, and "
            f"{danger}. Put '_' or '/' between them.",
            "file_name_pattern" if in_pattern else "s3_path_format",
        )

    def _refuse_number(self, count: int) -> NoReturn:
        raise TemplateError(
            f"s3_path_format {self.path_format!r} does not keep the keys of {count:,} streams apart in a way that can "
            "be seen at once. Put a '/' before ${STREAM_NAME}, or let the path begin with it.",
            setting="s3_path_format",
        )

    def _refuse_shared(self, stream: StreamId, other: StreamId, shared: str) -> NoReturn:
        cure = (
            "Keep the streams apart with a '/' between the variables, or rename one of the streams."
            if self.names_stream
            else "Put ${STREAM_NAME} into s3_path_format."
        )
        raise TemplateError(
            f"Streams {str(stream)!r} and {str(other)!r} could both own the key {shared!r} under s3_path_format "
            f"{self.path_format!r}: a full refresh of one would delete objects of the other. {cure}",
            stream=str(stream),
            key=shared,
            setting="s3_path_format",
        )


@dataclass(frozen=True, slots=True)
class SyncKeys:
    """The keys of one sync; made by `KeyTemplate.bind`.

    `names_partition`: no other partition of the stream can make the same keys, so that no tag is needed.
    """

    scope: Scope
    _tokens: tuple[Token, ...] = field(repr=False)
    names_partition: bool

    @property
    def prefix(self) -> str:
        """What all keys of the sync begin with: the text before the first thing that differs from object to object."""
        return leading_text(self._tokens)

    def key(self, part: int | str, extension: str, *, uploaded_at: datetime, tag: str = "") -> str:
        """The key of one object.

        `part` counts from 0, or is a UUID; `tag` ("_" and 8 hex digits) stands behind it, or before the extension in
        a pattern without part number. Raises TemplateError, naming the stream, for keys that S3 would not take.
        """
        if not _PART.fullmatch(str(part)) or not _TAG.fullmatch(tag):
            raise TemplateError(
                f"Stream {self.scope.stream}: part {part!r} with tag {tag!r} cannot stand in a key: a part is a number "
                f"below {10**LONGEST_PART_NUMBER} or a UUID, a tag is '_' and 8 hex digits.",
                stream=str(self.scope.stream),
            )
        key = _fill(self._tokens, ObjectValues(part, extension, uploaded_at.astimezone(UTC), tag))
        _check_key(key, f"Stream {self.scope.stream}", self.scope.stream)
        return key

    def part_of(self, key: str) -> int | None:
        """The part number in a key that this sync could have made; None for a UUID and for all other keys."""
        match = re.fullmatch(regex(shape_of(self._tokens)), key, re.DOTALL)
        part = match.groupdict().get("part") if match else None
        return int(part) if part and part.isdigit() else None


def _alike(shapes: Mapping[StreamId, Shape]) -> Iterator[tuple[StreamId, StreamId]]:
    """The pairs of streams that may have a key in common: their keys do not differ where the shapes do first."""
    if not shapes:
        return
    anchors = sorted(zip(anchored(list(shapes.values())), range(len(shapes)), shapes, strict=True))
    for index, (text, _, stream) in enumerate(anchors):
        for place in range(index + 1, len(anchors)):
            other_text, _, other = anchors[place]
            if not other_text.startswith(text):
                break
            yield stream, other


_PART = re.compile(regex((PART_ID,)))
_TAG = re.compile(regex((TAG,)))
_UUID = re.compile(regex(UUID_SHAPE))


def _data_pattern(shape: Shape) -> re.Pattern[str]:
    """Matches the keys of a shape that are not those of manifests."""
    return re.compile(f"(?!(?:.*/)?{RESERVED_SEGMENT}/){regex(shape)}", re.DOTALL)


def _file_name_pattern(text: str) -> str:
    """The pattern as the connector reads it: trimmed, each blank an underscore; the default name when blank."""
    return text.strip().replace(" ", "_") or DEFAULT_FILE_NAME_PATTERN


def _fill(tokens: tuple[Token, ...], values: ObjectValues) -> str:
    return leading_text(substitute(tokens, Level.OBJECT, values))


def _canonical_uuid(text: str) -> str:
    if not _UUID.fullmatch(str(text).lower()):
        raise TemplateError(f"{text!r} is no UUID like {_EXAMPLE_UUID}.")
    return str(text).lower()


def _check_key(key: str, whose: str, stream: StreamId | None = None) -> None:
    """Raises TemplateError for a key that is too long, that climbs, or that is not the stream's to use."""
    segments = key.split("/")
    problem = None
    if len(key.encode("utf-8", "surrogatepass")) > LONGEST_KEY:
        problem = f"is longer than the {LONGEST_KEY} bytes that S3 allows. Shorten s3_bucket_path or s3_path_format"
    elif RESERVED_SEGMENT in segments:
        problem = f"stands under {RESERVED_SEGMENT!r}, which is kept for manifests. Choose another name"
    elif "." in segments or ".." in segments:
        problem = "has a directory named '.' or '..', which many readers would follow. Choose another name"
    elif not segments[-1]:
        problem = "ends with '/', which stands for a directory. Let file_name_pattern end with a name"
    if problem:
        raise TemplateError(
            f"{whose} would make the key {key!r}, which {problem}.",
            stream=None if stream is None else str(stream),
            key=key,
            setting="s3_path_format",
        )


def _indistinct(left: Slot, right: Slot) -> bool:
    """Whether the two could be parted at more than one place. An EPOCH has 13 digits for 250 years to come."""
    return left.open and right.open and (left, right) != (EPOCH, PART_NUMBER)


def _apart(tokens: tuple[Token, ...]) -> bool:
    """Whether no directory name holds two texts of the user, which could borrow from each other."""
    free = 0
    for token in tokens:
        if isinstance(token, str):
            free = 0 if "/" in token else free
        elif token.free:
            free += 1
            if free > 1:
                return False
    return True
