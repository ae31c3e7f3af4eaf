"""Values in the shape of Avro's unions → values in `Layout.NAMED`, one record at a time, for reading.

Temporal values come and go as integers, since they may lie outside of what Python's own types hold. It must not know
files.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from s3dest_dagster.columns.envelope import EMITTED_AT, RECORD_ID
from s3dest_dagster.columns.kinds import Kind, Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.kinds.union import Position
from s3dest_dagster.columns.names import OVERFLOW

_UNFIT: Final = object()


class Branches(Protocol):
    """How a value says which branch of its position it belongs to."""

    def plain(self, value: Any, parts: tuple[Kind, ...]) -> tuple[int, Any]:
        """Number of the branch in `parts` (their number for a text beside them), and the value itself."""


class AvroBranches:
    """Avro values: the Python type tells, since no two branches have the same."""

    def plain(self, value: Any, parts: tuple[Kind, ...]) -> tuple[int, Any]:
        number = next((number for number, part in enumerate(parts) if part.is_read_as(value)), len(parts))
        return number, parts[number].from_avro(value) if number < len(parts) else value


class MemberBranches:
    """Structs of which one member is set, where there are several branches."""

    def plain(self, value: Any, parts: tuple[Kind, ...]) -> tuple[int, Any]:
        if not isinstance(value, dict) or "member0" not in value:
            return 0, value
        return next((n, member) for n, member in enumerate(value.values()) if member is not None)


def named_record(record: Record, target: Record, row: dict[str, Any], branches: Branches) -> dict[str, Any]:
    """A root record with its envelope. `target` is its type in the layout, where text may stand for what is deep."""
    envelope = {name: row[name] for name in (RECORD_ID, EMITTED_AT)}
    return envelope | _record(record, target, row, branches)


def _record(record: Record, target: Record, value: dict[str, Any], branches: Branches) -> dict[str, Any]:
    """Texts beside a temporal kind have no place in this layout: they go to the overflow, as in every other format."""
    named: dict[str, Any] = {}
    overflow = dict(value.get(OVERFLOW) or {})
    for field, wanted in zip(record.fields, target.fields, strict=True):
        found = value.get(field.name)
        named[field.name] = _position(field.kind, wanted.kind, found, branches, fallback=True)
        if named[field.name] is _UNFIT:
            named[field.name] = None
            overflow[field.source] = _overflow_text(field.kind, found, branches)
    named[OVERFLOW] = sorted(overflow.items()) or None
    return named


def _position(kind: Kind, target: Kind, value: Any, branches: Branches, *, fallback: bool) -> Any:
    """A field's or item's value; _UNFIT where this layout has no place for it."""
    if value is None:
        return None
    if target == STRING and kind != STRING:
        return _overflow_text(kind, value, branches)
    named = Position(kind, fallback).members(Layout.NAMED)
    parts = tuple(part for _, part in named) or (kind,)
    number, plain = branches.plain(value, parts)
    if number == len(parts):
        return _UNFIT
    wanted = tuple(part for _, part in Position(target, fallback).members(Layout.NAMED)) or (target,)
    inner = _value(parts[number], wanted[number], plain, branches)
    return {named[number][0]: inner} if named and inner is not _UNFIT else inner


def _value(kind: Kind, target: Kind, value: Any, branches: Branches) -> Any:
    if isinstance(kind, Record) and isinstance(target, Record):
        return _record(kind, target, value, branches)
    if not isinstance(kind, Array) or not isinstance(target, Array):
        return value
    items = [_position(kind.item, target.item, item, branches, fallback=kind.fallback) for item in value]
    return _UNFIT if any(item is _UNFIT for item in items) else items


def _overflow_text(kind: Kind, value: Any, branches: Branches) -> str:
    """What does not fit, as the overflow holds it: a text as it is, anything else as JSON."""
    spelled = _spelled(kind, value, branches, fallback=True)
    return spelled if isinstance(spelled, str) else msgspec.json.encode(spelled).decode()


def _spelled(kind: Kind, value: Any, branches: Branches, *, fallback: bool) -> Any:
    """A value as JSON has it, dates and times in ISO 8601."""
    if value is None:
        return None
    parts = tuple(part for _, part in Position(kind, fallback).members(Layout.NAMED)) or (kind,)
    number, plain = branches.plain(value, parts)
    part = parts[number] if number < len(parts) else STRING
    if isinstance(part, Array):
        return [_spelled(part.item, item, branches, fallback=part.fallback) for item in plain]
    if isinstance(part, Record):
        found = {f.source: _spelled(f.kind, plain.get(f.name), branches, fallback=True) for f in part.fields}
        return {name: each for name, each in found.items() if each is not None} | dict(plain.get(OVERFLOW) or {})
    return part.json_value(plain)
