"""Reports, before any record is read, which fields do not arrive as their schema declares them, and why.

Must not know: data, how a column is written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from s3dest_dagster.columns.decimals import declared_decimal
from s3dest_dagster.columns.json_schema import COMBINATIONS, known_type, resolve
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.json_text import JSON_TEXT, LIST_TEXT
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.names import OVERFLOW, OVERFLOW_NAMES, standard_name
from s3dest_dagster.columns.schemas import envelope_of, reserved_names
from s3dest_dagster.columns.stream_columns import Steps
from s3dest_dagster.settings.field_paths import ITEMS, FieldPath

_NO_TYPE = "no type is declared: a text as it is, anything else as its JSON text"
_UNKNOWN_TYPE = "its declared type is not known: a text as it is, anything else as its JSON text"
_KEPT_UNKNOWN_TYPE = "its declared type is not known, and none is needed: the value stays as it came"
_NO_PROPERTIES = "an object without declared properties: each entry is text in its " + OVERFLOW
_OPEN_LIST = "a list without a declared type of items: its exact JSON text"
_OPEN_OBJECT = "an object without declared properties: its exact JSON text"
_NO_ITEM_TYPE = "no type of the items is declared: a text as it is, anything else as its JSON text"
_IN_UTC = "in UTC: the offset that a value is written with is not kept"
_TOO_DEEP = "JSON text: it nests deeper than readers of Parquet take"
_WITHOUT_END = "JSON text: its schema refers to itself, or nests deeper than 100 levels"
_OTHER_SIGNS = "a name holds letters, digits and _ only, and does not begin with a digit"
_NAME_IS_RESERVED = "every row has a column of this name already"
_NAME_IS_USED = "another field would get the same name, or had it"
_NAME_IS_GIVEN = "its column got this name by name_style, by rename, or next to a column of another type"
_TYPE_IS_UNKNOWN = "null is its only type: it gets a column when a value shows another one"
_DIGITS_ARE_UNKNOWN = "a decimal whose digits are not known yet: it gets a column when a value shows them"
_DISCARDED = "the schema contract discards new columns: its values count as undeclared"
_SAME_BUT_CASE = "another column differs from it in case only: Spark, DuckDB, Hive, Athena and Glue take both for one; "
_DISTINCT = _SAME_BUT_CASE + 'name_style "snake", "lower" and "keep" make new columns distinct, and rename any'
_SUFFIX = re.compile(r"_[0-9a-f]{6,}")
_TYPE_WORDS = frozenset({*COMBINATIONS, "type", "$ref", "properties"})
_UNKNOWN: Mapping[str, Any] = {"type": "string"}
"""Stands for a definition that is not known here, and causes no diagnostic."""


class Effect(StrEnum):
    """What happens to a field that does not arrive as declared. The effect that changes a value most comes first."""

    NOT_LANDED = "not landed"
    """The value is counted and dropped."""
    CHANGED = "changed"
    """Part of what the source wrote is not kept."""
    AS_TEXT = "as text"
    """Nothing is lost: the value is kept as text."""
    MOVED = "moved"
    """Nothing is lost: the value is in another place in the row."""
    KEPT = "kept"
    """Nothing is lost or changed, though the declaration is not understood."""
    AMBIGUOUS = "ambiguous"
    """Nothing is lost or changed, but some readers confuse the column with another one."""
    RENAMED = "renamed"
    """Nothing is lost: the field has another name."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One field that does not arrive as declared."""

    field: str
    """The path of the field, as settings have it (see `FieldPath`). "*" stands for undeclared fields."""
    effect: Effect
    reason: str
    becomes: str = ""
    """The new name of a renamed field, else empty."""


@dataclass(frozen=True, slots=True)
class DiagnosticGroup:
    """Diagnostics with the same effect and reason for several fields, in the order of the schema."""

    effect: Effect
    reason: str
    diagnostics: tuple[Diagnostic, ...]


def grouped(diagnostics: Iterable[Diagnostic]) -> list[DiagnosticGroup]:
    """The diagnostics by effect and reason. The effect that changes values most comes first."""
    groups: dict[tuple[Effect, str], list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        groups.setdefault((diagnostic.effect, diagnostic.reason), []).append(diagnostic)
    order = list(Effect)
    by_effect = sorted(groups.items(), key=lambda group: order.index(group[0][0]))
    return [DiagnosticGroup(effect, reason, tuple(members)) for (effect, reason), members in by_effect]


def column_diagnostics(record: Record, landed: Record, json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """The diagnostics of typed columns (Avro, Parquet).

    Args:
        record: The record type of the schema.
        landed: The record type that is written: the same, with text in place of kinds that nest too deep.
        json_schema: The schema.
    """
    yield from _Columns(json_schema).level((), record, landed, json_schema)
    yield Diagnostic("*", Effect.MOVED, f"undeclared fields, and values of another type, are text in {OVERFLOW}")


def cell_diagnostics(record: Record, json_schema: Mapping[str, Any], *, keeps_undeclared: bool) -> Iterator[Diagnostic]:
    """The diagnostics of flattened CSV, whose cells have no types.

    Args:
        record: The record type of the schema.
        json_schema: The schema.
        keeps_undeclared: Whether the last column keeps undeclared fields.
    """
    effect = Effect.MOVED if keeps_undeclared else Effect.NOT_LANDED
    for name in _named_like(json_schema, reserved_names(record, overflow=keeps_undeclared)):
        yield Diagnostic(_text((name,)), effect, f"{_NAME_IS_RESERVED}: it counts as undeclared")
    for field in record.fields:
        if field.kind.has_structure:
            yield Diagnostic(_text((field.source,)), Effect.AS_TEXT, "an object or a list is one cell of JSON")
    yield from unknown_type_diagnostics(json_schema)
    yield from _ambiguous_fields(json_schema)
    if keeps_undeclared:
        yield Diagnostic("*", effect, f"undeclared fields are JSON in {OVERFLOW}")
    else:
        yield Diagnostic(
            "*", effect, "undeclared fields are counted and left out; additional_properties_column keeps them"
        )


def line_diagnostics(record: Record, json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """The diagnostics of flattened JSON Lines, which keep every value unchanged."""
    for name in _named_like(json_schema, reserved_names(record, overflow=False)):
        yield Diagnostic(_text((name,)), Effect.MOVED, f"{_NAME_IS_RESERVED}: into {OVERFLOW}")
    yield from unknown_type_diagnostics(json_schema)
    yield from _ambiguous_fields(json_schema)


def unknown_type_diagnostics(json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """The diagnostics of a text format for fields whose declared type is not known."""
    for name, definition in _properties(json_schema).items():
        if _names_unknown_type(definition, json_schema):
            yield Diagnostic(_text((name,)), Effect.KEPT, _KEPT_UNKNOWN_TYPE)


class _Columns:
    """One pass over a schema and its record type, in parallel."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def level(self, path: Steps, record: Record, landed: Record, definition: object) -> Iterator[Diagnostic]:
        declared = _properties(definition)
        names = {field.source for field in record.fields}
        for name, inner in declared.items():
            if name not in names:
                yield self._left_out((*path, name), inner, () if path else envelope_of(record).names)
        for field, same in zip(record.fields, landed.fields, strict=True):
            where = (*path, field.source)
            if field.name != field.source:
                yield Diagnostic(_text(where), Effect.RENAMED, _why_renamed(field), field.name)
            yield from self.position(where, field.kind, same.kind, declared.get(field.source, _UNKNOWN))
        yield from _ambiguous({(*path, field.source): field.name for field in record.fields})

    def _left_out(self, path: Steps, definition: object, envelope: Collection[str]) -> Diagnostic:
        """The diagnostic of a declared field without a column. `envelope` has the names that are taken on its level."""
        reason, name = _DISCARDED, path[-1]
        if name in OVERFLOW_NAMES:
            reason = f"its entries are merged into {OVERFLOW}, which every level has"
        elif name in envelope:
            reason = f"{_NAME_IS_RESERVED}: as text in {OVERFLOW}"
        elif isinstance(definition := self._followed(definition), Mapping):
            types = _type_names(definition)
            if definition.get("type") is not None and all(each == "null" for each in types):
                reason = _TYPE_IS_UNKNOWN
            elif any(
                kind is not None and kind.lacks_digits for kind in (declared_decimal(t, definition) for t in types)
            ):
                reason = _DIGITS_ARE_UNKNOWN
        return Diagnostic(_text(path), Effect.MOVED, reason)

    def position(self, path: Steps, kind: Kind, landed: Kind, definition: object) -> Iterator[Diagnostic]:
        if landed == STRING and kind != STRING:
            yield Diagnostic(_text(path), Effect.AS_TEXT, _TOO_DEEP)
            return
        definition = self._followed(definition)
        if isinstance(kind, Record) and isinstance(landed, Record):
            if not kind.fields:
                yield Diagnostic(_text(path), Effect.MOVED, _NO_PROPERTIES)
            yield from self.level(path, kind, landed, definition)
        elif isinstance(kind, Array) and isinstance(landed, Array):
            yield from self._items(path, kind, landed, definition)
        elif isinstance(kind, Union) and isinstance(landed, Union):
            if _names_unknown_type(definition, self._root):
                yield Diagnostic(_text(path), Effect.AS_TEXT, _UNKNOWN_TYPE)
            for branch, same in zip(kind.branches, landed.branches, strict=True):
                yield from self.position(path, branch, same, _UNKNOWN)
        else:
            yield from self._scalar(path, kind, definition)

    def _scalar(self, path: Steps, kind: Kind, definition: object) -> Iterator[Diagnostic]:
        if kind.loses_offset:
            yield Diagnostic(_text(path), Effect.CHANGED, _IN_UTC)
        elif not kind.as_branches():
            yield Diagnostic(_text(path), Effect.MOVED, f"null is its only type: any other value as text in {OVERFLOW}")
        elif kind == JSON_TEXT:
            yield Diagnostic(_text(path), Effect.AS_TEXT, _OPEN_OBJECT)
        elif kind == LIST_TEXT:
            yield Diagnostic(_text(path), Effect.AS_TEXT, _OPEN_LIST)
        elif kind == STRING and (reason := self._why_text(definition)):
            yield Diagnostic(_text(path), Effect.AS_TEXT, reason)

    def _why_text(self, definition: object) -> str:
        """The reason why a column is text although its schema declares no string; empty if it declares one."""
        if _names_unknown_type(definition, self._root):
            return _UNKNOWN_TYPE
        if not isinstance(definition, Mapping) or _TYPE_WORDS.isdisjoint(definition):
            return _NO_TYPE
        return _WITHOUT_END if definition.get("type") in ("object", "array") else ""

    def _items(self, path: Steps, kind: Array, landed: Array, definition: object) -> Iterator[Diagnostic]:
        items = definition.get("items") if isinstance(definition, Mapping) else None
        if definition is _UNKNOWN or isinstance(items, list | tuple):
            yield from self.position((*path, ITEMS), kind.item, landed.item, _UNKNOWN)
        elif isinstance(items, Mapping) and not _TYPE_WORDS.isdisjoint(items):
            yield from self.position((*path, ITEMS), kind.item, landed.item, items)
        else:
            yield Diagnostic(_text(path), Effect.AS_TEXT, _NO_ITEM_TYPE)

    def _followed(self, definition: object) -> object:
        """The target of a reference into this schema; any other definition unchanged."""
        for _ in range(len(_TYPE_WORDS)):
            reference = definition.get("$ref") if isinstance(definition, Mapping) else None
            if not isinstance(reference, str) or not reference.startswith("#"):
                return definition
            target = resolve(self._root, reference)
            if target is None:
                return definition
            definition = target
        return _UNKNOWN


def _properties(definition: object) -> Mapping[str, Any]:
    properties = definition.get("properties") if isinstance(definition, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _type_names(definition: Mapping[str, Any]) -> Sequence[Any]:
    """The JSON types that a definition names."""
    named = definition.get("type")
    return named if isinstance(named, list | tuple) else [named] if isinstance(named, str) else []


def _text(path: Steps) -> str:
    return str(FieldPath(path))


def _why_renamed(field: Field) -> str:
    standard = standard_name(field.source)
    if field.name == standard:
        return _OTHER_SIGNS
    return _NAME_IS_USED if _SUFFIX.fullmatch(field.name.removeprefix(standard)) else _NAME_IS_GIVEN


def _ambiguous_fields(json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """The diagnostics of root fields that differ in case only, where the objects have the source's names."""
    return _ambiguous({(name,): name for name in _properties(json_schema)})


def _ambiguous(names: Mapping[Steps, str]) -> Iterator[Diagnostic]:
    """The diagnostics of one level's fields whose columns differ in case only. `names` has the columns by field."""
    counts = Counter(map(str.casefold, names.values()))
    for path, name in names.items():
        if counts[name.casefold()] > 1:
            yield Diagnostic(_text(path), Effect.AMBIGUOUS, _DISTINCT)


def _named_like(json_schema: Mapping[str, Any], names: Collection[str]) -> list[str]:
    return [name for name in _properties(json_schema) if name in names]


def _names_unknown_type(definition: object, root: Mapping[str, Any]) -> bool:
    """Whether a definition names an unknown type, alone or among others, or a reference that leads nowhere."""
    if not isinstance(definition, Mapping) or any(word in definition for word in COMBINATIONS):
        return False
    reference = definition.get("$ref")
    if definition.get("type") is None and isinstance(reference, str):
        return resolve(root, reference) is None if reference.startswith("#") else known_type(reference, None) is None
    return any(known_type(name, None) is None for name in _type_names(definition))
