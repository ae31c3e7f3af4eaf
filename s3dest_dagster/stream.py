"""The definition of a stream: its identity, its schema, and how it is synced. All values are frozen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.field_paths import FieldPath
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.settings.stream_settings import FieldSelection, StreamSettings


class SyncMode(StrEnum):
    """How a sync treats the scope's previous content."""

    FULL_REFRESH = "full_refresh"
    """The sync replaces everything that the scope holds."""
    APPEND = "append"
    """The sync adds objects and leaves existing ones alone."""


class StreamId(NamedTuple):
    """The identity of a stream within a source, as in Airbyte messages. The namespace is None if there is none."""

    namespace: str | None
    name: str

    def prefixed(self, prefix: str) -> StreamId:
        """The stream under the name that it has in the bucket: with the destination's `stream_prefix`."""
        return StreamId(self.namespace, prefix + self.name)

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


def streams_shown_as(name: str) -> Iterator[StreamId]:
    """The streams that may be shown under a name such as public.users: namespaces and names may contain dots."""
    yield StreamId(None, name)
    for at, letter in enumerate(name):
        if letter == "." and 0 < at < len(name) - 1:
            yield StreamId(name[:at], name[at + 1 :])


@dataclass(frozen=True, slots=True)
class Generation:
    """Which of a stream's syncs belong together, as the configured catalog of a newer Airbyte platform says.

    When the sync is published, every live sync whose generation is below the minimum leaves. The sync mode then has no
    meaning. It does not hold for partitions.

    Args:
        id: The generation of the sync.
        minimum: The lowest generation that stays. 0: everything stays.
        sync_id: The id that the platform gives to the sync. It is recorded, and means nothing here: several attempts
            may have the same.
        is_ambiguous: Whether a program that knows no generations may have written these ids. They then count only if
            the bucket shows that the stream has generations.

    Raises:
        SettingsError: The minimum is above the generation, or a number is negative.

    Example:
        Stream(name="users", generation=Generation(14, minimum=14))  # replaces generation 13
    """

    id: int
    minimum: int = 0
    sync_id: int | None = None
    is_ambiguous: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.id:
            raise SettingsError(
                f"Generation {self.id} with the minimum {self.minimum} is not possible: both are 0 or more, and the "
                "minimum is not above the generation.",
                setting="minimum_generation_id",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream of records."""

    name: str
    """The source's name for it, including any prefix of the connection."""
    namespace: str | None = None
    """None or "" if there is none."""
    json_schema: Mapping[str, Any] | None = None
    """The source's JSON schema of a record. None: it is inferred from Arrow data or from the first batch."""
    sync_mode: SyncMode = SyncMode.FULL_REFRESH
    description: str | None = None
    settings: StreamSettings = field(default_factory=StreamSettings)
    """What the user says about this stream. A mapping is converted."""
    cursor_field: tuple[str, ...] = ()
    """The path of the field by which the source reads the stream incrementally. Empty if none is known."""
    deselected: tuple[FieldPath, ...] = ()
    """The fields that the discovered catalog has and the configured one leaves out."""
    generation: Generation | None = None
    """The generation of the sync. None: the sync mode decides what becomes of the scope's previous content."""

    def __post_init__(self) -> None:
        for setting in ("name", "namespace", "json_schema", "sync_mode", "description"):
            refuse_variables(setting, getattr(self, setting))
        if not self.name:
            raise SettingsError("A stream needs a name; it is empty.", setting="name")
        if not (is_unicode(self.name) and is_unicode(self.namespace or "")):
            raise SettingsError(
                f"Stream {self.name!r}: its name or namespace has half of a surrogate pair, which no text can hold. "
                "Rename it.",
                setting="name",
            )
        try:
            object.__setattr__(self, "sync_mode", SyncMode(self.sync_mode))
        except ValueError:
            raise SettingsError(
                f"Stream {self.name!r}: sync mode {self.sync_mode!r} is not known. "
                f"Use {' or '.join(repr(mode.value) for mode in SyncMode)}.",
                stream=self.name,
                setting="sync_mode",
            ) from None
        object.__setattr__(self, "namespace", self.namespace or None)
        object.__setattr__(self, "settings", StreamSettings.of(self.settings, f"Stream {self.name!r}"))
        object.__setattr__(self, "cursor_field", tuple(self.cursor_field))
        object.__setattr__(self, "deselected", tuple(FieldPath.parse(each, "deselected") for each in self.deselected))
        self._check_cursor()
        self._check_partition_fields()

    @property
    def id(self) -> StreamId:
        """The stream's identity, which its records carry."""
        return StreamId(self.namespace, self.name)

    @property
    def selection(self) -> FieldSelection:
        """Which fields land: what the settings say and, unless they say otherwise, what the catalogs deselect."""
        fields = self.settings.fields
        return fields.with_deselected(self.deselected) if self.settings.deselected_fields == "exclude" else fields

    def _check_cursor(self) -> None:
        """Raises SettingsError if the cursor would not land, or only as a mask."""
        if not self.cursor_field:
            return
        cursor = FieldPath(self.cursor_field)
        if rule := self.selection.hides(cursor):
            where = "the configured catalog leaves it out" if rule == "deselected" else f"fields.{rule} hides it"
            raise SettingsError(
                f"Stream {str(self.id)!r}: {cursor} is its cursor, which shows how far the stream was read, and "
                f"{where}. Let it land, hash it, or choose another cursor.",
                stream=str(self.id),
                setting="deselected_fields" if rule == "deselected" else f"fields.{rule}",
            )

    def _check_partition_fields(self) -> None:
        """Raises SettingsError if directories would show values that do not land, or parts of hashed ones."""
        selection = self.selection
        for each in self.settings.partition_by:
            problem = ""
            if rule := selection.hides(each.field):
                where = "the configured catalog leaves it out" if rule == "deselected" else f"fields.{rule} hides it"
                problem = f"{where}, while a directory would show its value"
            elif each.unit is not None and any(map(each.field.starts_with, selection.hash)):
                problem = f"fields.hash hides it, so that there is no {each.unit} of it"
            if problem:
                raise SettingsError(
                    f"Stream {str(self.id)!r}: partition_by names {each.field}, and {problem}. Take another field.",
                    stream=str(self.id),
                    setting="partition_by",
                )


@dataclass(frozen=True, slots=True)
class Scope:
    """The unit of a commit: an unpartitioned stream, or one partition of a stream."""

    stream: StreamId
    partition: str | None = None
    """The partition's key as Dagster writes it; None for an unpartitioned stream."""
    dimensions: Mapping[str, str] | None = None
    """The key of each dimension by its name, for a multi-dimensional partition."""

    def prefixed(self, prefix: str) -> Scope:
        """The scope under the name that its stream has in the bucket (see `StreamId.prefixed`)."""
        return replace(self, stream=self.stream.prefixed(prefix))

    def check_unicode(self) -> None:
        """Raises SettingsError if the partition cannot be encoded as text, and so cannot be written to a manifest."""
        if not is_unicode(self.partition or ""):
            raise SettingsError(
                f"Stream {self.stream}: its partition {self.partition!r} has half of a surrogate pair, which no text "
                "can hold. Name the partition otherwise.",
                stream=str(self.stream),
            )

    def __str__(self) -> str:
        return str(self.stream) if self.partition is None else f"{self.stream} [{self.partition}]"


def join_names(streams: Iterable[StreamId]) -> str:
    """The names of the streams for a message: sorted, with commas between them."""
    return ", ".join(sorted(map(str, streams)))


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded. A lone surrogate, which JSON's escapes can produce, cannot be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_MAX_ID = 200
_SMALL_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")


@dataclass(frozen=True, slots=True)
class Sync:
    """One delivery of a stream's records."""

    id: str
    """It is remembered: landing again under the id of a complete sync changes nothing."""
    now: datetime
    """A time with a time zone. It fills the time variables of the path."""
    uuid: str
    """Fills `${UUID}` in the path."""
    label: str = ""
    """Fills `{sync_id}` in the file name pattern. If empty, it is the id."""

    def __post_init__(self) -> None:
        if not self.id or len(self.id) > _MAX_ID or not self.id.isascii() or not self.id.isprintable():
            raise SettingsError(
                f"Sync id {self.id[:50]!r} is not usable: it must be 1 to {_MAX_ID} printable ASCII characters.",
                setting="sync_id",
            )
        if self.now.tzinfo is None:
            raise SettingsError("The time of a sync needs a time zone.", setting="now")
        object.__setattr__(self, "label", self.label or self.id)

    @property
    def number(self) -> int:
        """A number for the sync, equal for equal ids: the id if it is a number of at most 15 digits, or else the first
        13 hexadecimal digits of its SHA-256. Every double holds it exactly."""
        if _SMALL_NUMBER.fullmatch(self.id):
            return int(self.id)
        return int(sha256(self.id.encode()).hexdigest()[:13], 16)
