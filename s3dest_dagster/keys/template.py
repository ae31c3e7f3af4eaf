"""Makes keys, from the settings to the text.

    KeyTemplate(bucket_path, path_format, file_name_pattern)   parses the three settings into tokens, and checks them
    .for_rule(partition_by)                                    puts a stream's directories in place of ${FIELDS}
    .bind(scope, …) -> SyncKeys                                fills in the stream, then the sync
    .key(part, extension, …) -> str                            fills in the object, which completes the key

A wrong template is refused when it is created. Streams that could share keys are refused when they become known. Both
messages show a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import NoReturn

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.keys.directories import example_values
from s3dest_dagster.keys.names import (
    RESERVED_SEGMENT,
    check_key,
    is_kept_apart,
    is_unmistakable,
    manifest_root,
    sanitize_segment,
)
from s3dest_dagster.keys.overlap import KeyPattern, refuse_shared_keys, regex
from s3dest_dagster.keys.placeholders import (
    DIMENSION_PREFIX,
    EPOCH,
    FIELDS,
    LONGEST_PART_NUMBER,
    NAMESPACE,
    PART_ID,
    PART_NUMBER,
    PARTITION,
    STREAM_NAME,
    SYNC_ID,
    TAG,
    TIMESTAMPS,
    UUID,
    UUID_PATTERN,
    Level,
    ObjectValues,
    Placeholder,
    SyncValues,
    Token,
    field_tokens,
    fill,
    has_one_free_text_each,
    joined,
    leading_text,
    literal_directories,
    normalized_pattern,
    parse_path,
    parse_pattern,
    pattern_of,
)
from s3dest_dagster.settings.field_paths import FieldPath
from s3dest_dagster.settings.partition_fields import FieldsStyle, FieldValues, PartitionField, PartitionRule
from s3dest_dagster.stream import Scope, StreamId

DEFAULT_PATH_FORMAT = "${NAMESPACE}/${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_"
_EXAMPLE_STREAM = StreamId("public", "users")
_EXAMPLE_TIME = datetime(2021, 5, 27, 17, 16, 45, 123_000, tzinfo=UTC)
_EXAMPLE_RULE = (PartitionField(FieldPath(("created_at",)), "dt", "day"),)
_EXAMPLE_UUID = "8f14e45f-ceea-467f-a9f0-5d2b6c1c3f3e"
_PART = re.compile(regex((PART_ID,)))
_TAG = re.compile(regex((TAG,)))
_UUID = re.compile(regex(UUID_PATTERN))
_CLOCKS = (EPOCH, *TIMESTAMPS.values())
"""The placeholders whose text changes every millisecond."""


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """The rule for object keys: bucket path, "/", path format, file name pattern.

    Runs of "/" become one, no key begins with "/", and times are in UTC. Names are converted by `key_name`; partitions
    and sync ids also lose their "/".

    Raises:
        TemplateError: A part of it is unknown, or a key would not show where one part ends and the next begins.
    """

    bucket_path: str
    path_format: str
    file_name_pattern: str = ""
    """If blank, it is `{part_number}{format_extension}`."""
    fields_style: FieldsStyle = "hive"
    """The style of the directories in place of `${FIELDS}`."""
    partition_by: PartitionRule | None = None
    """The fields in place of `${FIELDS}`. None: the template is for streams whose rules are not known. It then matches
    the keys of all of them, and makes none if it has `${FIELDS}`."""
    literal_root: str = field(init=False, repr=False, compare=False)
    """The directories of the bucket path before its first variable, without "/" at the ends. Manifests are there."""
    tokens: tuple[Token, ...] = field(init=False, repr=False, compare=False)
    """The parts of the template. They are equal for two templates that make the same keys."""

    def __post_init__(self) -> None:
        parsed = {
            "s3_bucket_path": parse_path(self.bucket_path),
            "s3_path_format": parse_path(self.path_format),
            "file_name_pattern": parse_pattern(self.file_name_pattern),
        }
        bucket_path, path_format, pattern = (tokens for tokens, _ in parsed.values())
        has_fields = FIELDS in (*bucket_path, *path_format)
        object.__setattr__(self, "literal_root", literal_directories(joined(bucket_path)))
        tokens = joined([*bucket_path, "/", *path_format, *pattern])
        object.__setattr__(self, "tokens", self._with_directories(tokens, self.partition_by))
        for setting, (_, complaints) in parsed.items():
            for complaint in complaints:
                self._refuse(complaint, setting)
        if has_fields:
            self._check_fields(bucket_path, tokens)
        self._check_tokens()
        check_key(self.example(), "The template")

    def for_rule(self, partition_by: PartitionRule) -> KeyTemplate:
        """The template of a stream with this rule."""
        return replace(self, partition_by=partition_by)

    @property
    def manifest_root(self) -> str:
        """The prefix of everything that the library keeps for itself under this bucket path."""
        return manifest_root(self.literal_root)

    def bind(self, scope: Scope, *, now: datetime, uuid: str, sync_id: str) -> SyncKeys:
        """The keys of one sync.

        Args:
            scope: The stream, or the partition of it, that the sync lands.
            now: The start time of the sync, with a time zone. It fills `${YEAR}` to `${EPOCH}`.
            uuid: The text for `${UUID}`.
            sync_id: The text for `{sync_id}`.

        Raises:
            TemplateError: The scope lacks a partition or dimension of the template, or S3 would refuse its keys.
        """
        values = SyncValues(scope, now.astimezone(UTC), _canonical_uuid(uuid), sync_id)
        tokens = self._for_stream(scope.stream)
        keys = SyncKeys(scope, fill(tokens, Level.SYNC, values), self._names_partition(scope, tokens))
        keys.key(0, ".parquet", uploaded_at=now, fields=example_values(self.partition_by))
        return keys

    def example(self, extension: str = ".parquet") -> str:
        """An example key of this template: for stream `users` of namespace `public`, on 2021-05-27."""
        return self._example(_EXAMPLE_STREAM, extension)

    @property
    def text(self) -> str:
        """The whole template as one text, with its variables as the settings spell them."""
        path = f"{self.bucket_path}/{self.path_format}{normalized_pattern(self.file_name_pattern)}"
        return re.sub("/+", "/", path).lstrip("/")

    def listing_root(self, stream: StreamId) -> str:
        """The longest prefix that all keys of a stream share, at any time and for any partition or part."""
        return leading_text(self._for_stream(stream))

    def directories_root(self, stream: StreamId) -> str | None:
        """The directory that contains those of the stream's fields, with a slash at its end.

        None if it is not the same for all syncs, or if the key has other directories after those of the fields.
        """
        pieces = self.for_rule(()).path_format.partition("${FIELDS}")
        before = fill(joined([*parse_path(self.bucket_path)[0], "/", *parse_path(pieces[0])[0]]), Level.STREAM, stream)
        root = leading_text(before)
        is_fixed = before == (root,) or not before
        return root if is_fixed and root.endswith("/") and not pieces[2].strip("/") else None

    def matcher(self, stream: StreamId) -> re.Pattern[str]:
        """Matches (with `fullmatch`) exactly the keys that this template makes for the stream at any time.

        This includes the keys that the connector makes with it: a decimal part number or a UUID, any known extension.
        """
        return data_regex(pattern_of(self._for_stream(stream)))

    def untagged_matcher(self, stream: StreamId) -> re.Pattern[str] | None:
        """Matches (with `fullmatch`) the keys of an unpartitioned stream that belong to it even if no manifest lists
        them: those that the connector makes with the same settings, and ours without a tag.

        None if a key does not show its stream: it lacks the stream's name, or has a text that may be anything.
        """
        tokens = self._for_stream(stream)
        if not self.names_stream or any(isinstance(token, Placeholder) and token.free for token in tokens):
            return None
        return data_regex(tuple(piece for piece in pattern_of(tokens) if piece != TAG))

    def recurring(self, stream: StreamId, keys: Iterable[str]) -> list[str]:
        """The keys of a stream that this template may make again, and those that come from another template."""
        if self.keys_recur:
            return list(keys)
        matches = self.matcher(stream).fullmatch
        return [key for key in keys if not matches(key)]

    @property
    def counts_parts(self) -> bool:
        """Whether the keys of one sync differ by a part number."""
        return PART_NUMBER in self.tokens

    @property
    def tells_objects_apart(self) -> bool:
        """Whether one sync can have several objects: their keys have a part number or the time of the upload."""
        return self._has(PART_NUMBER, *TIMESTAMPS.values())

    @property
    def changes_every_sync(self) -> bool:
        """Whether no two syncs make the same key: it has a time in milliseconds, a UUID or a sync id."""
        return self._has(UUID, SYNC_ID, *_CLOCKS)

    @property
    def keys_recur(self) -> bool:
        """Whether a later sync may make a key again after its object was deleted.

        That holds if keys have neither a time in milliseconds nor a UUID, and no part number that continues from one
        sync to the next. Several syncs may share a sync id.
        """
        return not self._has(UUID, *_CLOCKS) and (self._has(SYNC_ID) or not self.counts_parts)

    @property
    def names_fields(self) -> bool:
        """Whether it has ${FIELDS}."""
        return "${FIELDS}" in self.path_format

    @property
    def names_stream(self) -> bool:
        """Whether it has ${STREAM_NAME}. Without it, a key does not show its stream."""
        return STREAM_NAME in self.tokens

    def identifies(self, stream: StreamId) -> bool:
        """Whether the stream's keys have its name, unchanged or with a hash.

        Then another name has the same keys only if it differs in nothing but separators, or spells the hash.
        """
        return self.names_stream and is_kept_apart(stream.name)

    def shows_names(self, stream: StreamId) -> bool:
        """Whether the stream's keys have its namespace and name, unchanged or with a hash, in separate directories.

        Then only streams whose two names are the same in keys can make the same keys.
        """
        names = (stream.namespace or "", stream.name)
        readable = all(is_kept_apart(name) and "/" not in name for name in names)
        return readable and NAMESPACE in self.tokens and self.names_stream and has_one_free_text_each(self.tokens)

    def keeps_apart(self, stream: StreamId) -> bool:
        """Whether no other stream makes this stream's keys by this template, even if the two are never compared.

        That holds if keys have a UUID. It also holds if they show the stream's two names (see `shows_names`), and other
        names do not become the same in keys, or do so only at the same millisecond. A time alone is not enough, since
        two syncs may be given the same one. If keys recur, the name of a stream without a namespace may spell the
        namespace and name of another stream.
        """
        if self._has(UUID):
            return True
        if self.keys_recur and stream.namespace:
            return False
        unmistakable = is_unmistakable(stream.namespace or "") and is_unmistakable(stream.name)
        return self.shows_names(stream) and (unmistakable or self._has(*_CLOCKS))

    def check_streams(
        self,
        streams: Iterable[StreamId],
        extension: str = ".parquet",
        rules: Mapping[StreamId, PartitionRule] | None = None,
    ) -> None:
        """Refuses streams that could have the same key.

        Args:
            streams: All streams that land by this template.
            extension: The extension of the keys in messages.
            rules: The fields in place of `${FIELDS}`, by stream. A stream that is left out could have any.

        Raises:
            TemplateError: Two streams share a key, and the message names them and the key. Or S3 would refuse a
                stream's keys. Or there are too many streams for a template that does not clearly separate them.
        """
        ids = sorted(set(streams), key=lambda each: (each.namespace or "", each.name))
        templates = {each: self.for_rule((rules or {})[each]) if each in (rules or {}) else self for each in ids}
        for stream in ids:
            check_key(templates[stream]._example(stream, extension), f"Stream {stream}", stream)
        cure = (
            "Keep the streams apart with a '/' between the variables, or rename one of the streams."
            if self.names_stream
            else "Put ${STREAM_NAME} into s3_path_format."
        )
        patterns = {each: pattern_of(templates[each]._for_stream(each)) for each in ids}
        refuse_shared_keys(patterns, self.path_format, cure)

    def _has(self, *placeholders: Placeholder) -> bool:
        return any(placeholder in self.tokens for placeholder in placeholders)

    def _dimensions(self) -> list[str]:
        """The variables that name a dimension of the partition."""
        placeholders = (token for token in self.tokens if isinstance(token, Placeholder))
        return [each.source for each in placeholders if each.source.startswith(DIMENSION_PREFIX)]

    def _for_stream(self, stream: StreamId) -> tuple[Token, ...]:
        return fill(self.tokens, Level.STREAM, stream)

    def _example(self, stream: StreamId, extension: str) -> str:
        day = "2021-05-27"
        dimensions = {source.removeprefix(DIMENSION_PREFIX)[:-1]: day for source in self._dimensions()}
        values = SyncValues(Scope(stream, day, dimensions), _EXAMPLE_TIME, _EXAMPLE_UUID, "42")
        rule = _EXAMPLE_RULE if self.partition_by is None else self.partition_by
        tokens = fill(self._with_directories(self._for_stream(stream), rule), Level.SYNC, values)
        objects = ObjectValues(0, extension, _EXAMPLE_TIME, fields=example_values(rule))
        return leading_text(fill(tokens, Level.OBJECT, objects))

    def _names_partition(self, scope: Scope, tokens: tuple[Token, ...]) -> bool:
        """Whether no other partition of the stream can make the keys of this one."""
        if scope.partition is None or self._has(UUID):
            return True
        if not has_one_free_text_each(tokens):
            return False
        if self._has(PARTITION) and sanitize_segment(scope.partition) == scope.partition:
            return True
        dimensions, named = scope.dimensions or {}, self._dimensions()
        return bool(dimensions) and all(
            f"{DIMENSION_PREFIX}{name}}}" in named and sanitize_segment(key) == key for name, key in dimensions.items()
        )

    def _with_directories(self, tokens: Iterable[Token], rule: PartitionRule | None) -> tuple[Token, ...]:
        """The tokens with those of a rule in place of `${FIELDS}`."""
        directories = field_tokens(rule, self.fields_style)
        return joined(part for token in tokens for part in (directories if token == FIELDS else (token,)))

    def _check_fields(self, bucket_path: Iterable[Token], tokens: tuple[Token, ...]) -> None:
        """Refuses `${FIELDS}` where it is not a directory, or several directories, of its own."""
        if FIELDS in bucket_path:
            self._refuse("${FIELDS} belongs in s3_path_format.", "s3_bucket_path")
        if tokens.count(FIELDS) > 1:
            self._refuse("it has ${FIELDS} twice; once is enough.", "s3_path_format")
        at = tokens.index(FIELDS)
        before, after = (tokens[at - 1] if at else "/"), tokens[at + 1]
        if not (isinstance(before, str) and before.endswith("/") and isinstance(after, str) and after[0] == "/"):
            self._refuse("${FIELDS} stands for whole directories; put a '/' before and after it.", "s3_path_format")

    def _check_tokens(self) -> None:
        for token in self.tokens:
            if isinstance(token, str) and not token.isprintable():
                self._refuse(f"{token!r} holds a character that cannot be printed; remove it.", "s3_path_format")
        if self.tokens.count(PART_NUMBER) > 1:
            self._refuse("it has {part_number} twice; once is enough.", "file_name_pattern")
        for left, right in pairwise(self.tokens):
            # An EPOCH before a part number is unambiguous: for the next 250 years, an EPOCH has 13 digits.
            if (
                isinstance(left, Placeholder)
                and isinstance(right, Placeholder)
                and (left, right) != (EPOCH, PART_NUMBER)
            ):
                self._check_neighbours(left, right)

    def _refuse(self, reason: str, setting: str) -> NoReturn:
        value = getattr(self, setting.removeprefix("s3_"))
        raise TemplateError(
            f"{setting} {value!r}: {reason} It would make keys like {self.example()!r}.", setting=setting
        )

    def _check_neighbours(self, left: Placeholder, right: Placeholder) -> None:
        if not (left.open and right.open):
            return
        danger = (
            "a full refresh of stream 'user' could take objects of 'user1' for its own"
            if left.free or right.free
            else "two objects could get the same key"
        )
        setting = "file_name_pattern" if left.source in self.file_name_pattern else "s3_path_format"
        self._refuse(
            f"there is nothing between {left.source} and {right.source}, so a key does not show where one ends, and "
            f"{danger}. Put '_' or '/' between them.",
            setting,
        )


@dataclass(frozen=True, slots=True)
class SyncKeys:
    """The keys of one sync, made by `KeyTemplate.bind`."""

    scope: Scope
    _tokens: tuple[Token, ...] = field(repr=False)
    names_partition: bool
    """Whether no other partition of the stream can make the same keys, so that they need no tag."""

    @property
    def prefix(self) -> str:
        """The prefix of all keys of the sync: the text before the first part that differs between objects."""
        return leading_text(self._tokens)

    def key(
        self, part: int | str, extension: str, *, uploaded_at: datetime, tag: str = "", fields: FieldValues = ()
    ) -> str:
        """The key of one object.

        Args:
            part: The number of the object, counted from 0, or a UUID.
            extension: The extension of the object's format, with the dot.
            uploaded_at: The time of the upload, with a time zone.
            tag: "_" and 8 hex digits, or empty. It follows the part number; if the pattern has none, it precedes the
                extension.
            fields: The values of the directories, in the order of the stream's rule.

        Raises:
            TemplateError: S3 would refuse the key, or `part` or `tag` has another form.
        """
        if not _PART.fullmatch(str(part)) or not _TAG.fullmatch(tag):
            raise TemplateError(
                f"Stream {self.scope.stream}: part {part!r} with tag {tag!r} cannot be in a key: a part is a number "
                f"below {10**LONGEST_PART_NUMBER} or a UUID, a tag is '_' and 8 hex digits.",
                stream=str(self.scope.stream),
            )
        values = ObjectValues(part, extension, uploaded_at.astimezone(UTC), tag, fields)
        key = leading_text(fill(self._tokens, Level.OBJECT, values))
        check_key(key, f"Stream {self.scope.stream}", self.scope.stream)
        return key

    def part_of(self, key: str) -> int | None:
        """The part number in a key that this sync could have made; None for a UUID and for all other keys."""
        part = part_id(re.compile(regex(pattern_of(self._tokens)), re.DOTALL), key)
        return int(part) if part and part.isdigit() else None


def part_id(matcher: re.Pattern[str], key: str) -> str | None:
    """The part id in a key. None if a template does not make such keys, or makes them without part ids.

    Args:
        matcher: Matches the keys of the template (see `KeyTemplate.matcher`).
        key: The key.
    """
    match = matcher.fullmatch(key)
    return match.groupdict().get("part") if match else None


def data_regex(pattern: KeyPattern) -> re.Pattern[str]:
    """Matches the keys of a pattern, except those of manifests."""
    return re.compile(f"(?!(?:.*/)?{RESERVED_SEGMENT}/){regex(pattern)}", re.DOTALL)


def _canonical_uuid(text: str) -> str:
    if not _UUID.fullmatch(str(text).lower()):
        raise TemplateError(f"{text!r} is not a UUID like {_EXAMPLE_UUID}.")
    return str(text).lower()
