"""Gives the members of JSON texts the names of their columns, at every level, and back. Values keep their spelling.

If a member without a column has the name of another's column, it goes into the object `_airbyte_additional_properties`
of its level. So no name is there twice, and nothing is lost. Must not know: formats, where records come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from s3dest_dagster.columns.binary_columns import Member, all_members, as_list, object_of, pairs_of
from s3dest_dagster.columns.conversion_log import Entry, Outcome
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW, OVERFLOW_NAMES
from s3dest_dagster.columns.overflow import OverflowNames
from s3dest_dagster.columns.schemas import envelope_of
from s3dest_dagster.errors import SettingsError

_NULL = b"null"


@dataclass(frozen=True, slots=True)
class _Level:
    """What changes in a value, and in the values within it."""

    names: Mapping[str, str] = field(default_factory=dict)
    """The new names of an object's members."""
    used: frozenset[str] = frozenset()
    """The new names, which no other member may have."""
    known: frozenset[str] = frozenset()
    """The names that are not reported. None is if this is empty."""
    members: Mapping[str, _Level] = field(default_factory=dict)
    """The levels of an object's members, by their old names."""
    items: _Level | None = None
    """The level of a list's items."""


class JsonNames:
    """Gives members the names of their columns.

    Args:
        record: The columns.
        root: Whether members of the root are renamed, too.
        reports: Whether members that have no column are counted as undeclared.
    """

    def __init__(self, record: Record, *, root: bool = True, reports: bool = False) -> None:
        self._level = _root_level(record, _Direction(True, reports, record.name), root=root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JsonNames) and other._level == self._level

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        """Whether anything is renamed or reported."""
        return self._level is not None

    def apply(self, raws: Sequence[bytes], counts: Counter[Entry]) -> list[bytes]:
        """The records with the names of their columns.

        Args:
            raws: JSON objects.
            counts: Counts the members that have no column, as far as they are reported or go elsewhere.
        """
        assert self._level is not None, "there is nothing to rename"
        return [self._value(bytes(raw), self._level, "", counts) for raw in raws]

    def _value(self, text: bytes, level: _Level, path: str, counts: Counter[Entry]) -> bytes:
        if text[:1] == b"{":
            return self._object(text, level, path, counts)
        if text[:1] == b"[" and level.items is not None:
            items = (self._value(bytes(item), level.items, path, counts) for item in as_list(text))
            return b"[%b]" % b",".join(items)
        return text

    def _object(self, text: bytes, level: _Level, path: str, counts: Counter[Entry]) -> bytes:
        landed: list[Member] = []
        moved: list[Member] = []
        for name, raw in all_members(text):
            value = bytes(raw)
            below = level.members.get(name)
            if below is not None:
                value = self._value(value, below, f"{path}{name}.", counts)
            elif level.known and name not in level.known and value != _NULL:
                counts[Outcome.UNDECLARED, path + name] += 1
            if name in level.used and name not in level.names:
                moved.append((name, value))
                if not level.known and value != _NULL:
                    counts[Outcome.UNDECLARED, path + name] += 1
            else:
                landed.append((level.names.get(name, name), value))
        return object_of(_with_moved(landed, moved) if moved else landed)


class SourceNames:
    """Gives members the names that they have in the source.

    Args:
        record: The columns with which the texts were written.
        root: Whether members of the root were renamed, too.
    """

    def __init__(self, record: Record, *, root: bool = True) -> None:
        self._level = _root_level(record, _Direction(False, False, record.name), root=root)

    def __bool__(self) -> bool:
        """Whether anything was renamed."""
        return self._level is not None

    def apply(self, raw: bytes) -> bytes:
        """A record with the names of its source."""
        assert self._level is not None, "nothing was renamed"
        return _restored(bytes(raw), self._level)


def _restored(text: bytes, level: _Level) -> bytes:
    if text[:1] == b"{":
        members = ((name, bytes(value), level.members.get(name)) for name, value in all_members(text))
        return object_of(
            [
                (level.names.get(name, name), value if below is None else _restored(value, below))
                for name, value, below in members
            ]
        )
    if text[:1] == b"[" and level.items is not None:
        items = level.items
        return b"[%b]" % b",".join(_restored(bytes(item), items) for item in as_list(text))
    return text


# ---------------------------------------------------------------------- levels


@dataclass(frozen=True, slots=True)
class _Direction:
    """Which names are the old ones, and what is reported."""

    from_source: bool
    """Whether the old names are the source's, and the new ones the columns'."""
    reports: bool
    """Whether members without a column are reported."""
    stream: str
    """The stream's name, for errors."""


def _root_level(record: Record, direction: _Direction, *, root: bool) -> _Level | None:
    """The level of a record; None if nothing changes in it."""
    level = _level_of(record, direction)
    if level is None:
        return None
    if not root:
        of_source = {} if direction.from_source else level.names
        members = {of_source.get(name, name): below for name, below in level.members.items()}
        return _Level(members=members) if members else None
    known = level.known.union(envelope_of(record).names) if level.known else level.known
    return replace(level, known=known)


def _level_of(kind: Kind, direction: _Direction) -> _Level | None:
    """The level of a value of this kind; None if nothing changes in it."""
    level = _Level()
    for branch in kind.as_branches():
        if isinstance(branch, Array):
            level = replace(level, items=_level_of(branch.item, direction))
        elif isinstance(branch, Record) and branch.fields:
            level = replace(_of_record(branch, direction), items=level.items)
    return None if level == _Level() else level


def _of_record(record: Record, direction: _Direction) -> _Level:
    titles = {each.source: each.name for each in record.fields if each.is_titled}
    sources = {each.source for each in record.fields}
    if direction.from_source:
        _refuse_common_names(titles, sources, direction.stream)
    members = {
        each.source if direction.from_source else titles.get(each.source, each.source): below
        for each in record.fields
        if (below := _level_of(each.kind, direction)) is not None
    }
    return _Level(
        names=titles if direction.from_source else {name: source for source, name in titles.items()},
        used=frozenset(titles.values()) if direction.from_source else frozenset(),
        known=OVERFLOW_NAMES.union(sources) if direction.reports else frozenset(),
        members=members,
    )


def _refuse_common_names(titles: Mapping[str, str], sources: Collection[str], stream: str) -> None:
    """Raises SettingsError if a field that keeps its name has that of another's column."""
    kept = set(sources) - titles.keys()
    if twice := sorted(kept.intersection(titles.values())):
        source = next(source for source, name in titles.items() if name == twice[0])
        raise SettingsError(
            f"Stream {stream!r}: the field {source!r} would get the name {twice[0]!r}, which another field of the same "
            "object keeps. Give one of them another name by rename.",
            stream=stream,
            setting="rename",
        )


# ---------------------------------------------------------------------- texts


def _with_moved(landed: Sequence[Member], moved: Sequence[Member]) -> list[Member]:
    """The members, with the moved ones in the overflow object at the end."""
    names = OverflowNames()
    overflow = [(names.allocate(name), value) for name, value in reversed(moved)]
    for name, own in landed:
        if name == OVERFLOW:
            entries = pairs_of(own) if own.startswith(b"{") else [(OVERFLOW, own)]
            overflow += [(names.allocate(entry), value) for entry, value in entries]
    return [*(each for each in landed if each[0] != OVERFLOW), (OVERFLOW, object_of(overflow))]
