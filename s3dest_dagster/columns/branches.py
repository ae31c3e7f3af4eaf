"""Merges the types that a JSON schema allows for one position into one legal kind, and several records into one.

The rules are the connector's (`JsonToAvroSchemaConverter.mergeRecordSchemas` and related methods). If the connector's
Avro schema would be illegal and its sync would fail, the union is made legal here. Must not know: JSON schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from s3dest_dagster.columns.column_names import unique_names
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.decimal import DECIMAL_TEXT
from s3dest_dagster.columns.kinds.json_text import JSON_TEXT, LIST_TEXT
from s3dest_dagster.columns.kinds.number import LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import NULL, STRING
from s3dest_dagster.columns.kinds.temporal import TIMESTAMP, Temporal
from s3dest_dagster.columns.kinds.union import Union, needs_text
from s3dest_dagster.columns.names import OVERFLOW, original_name_doc, standard_name, standard_namespace

_SPECIAL_TEXTS = (JSON_TEXT, LIST_TEXT, DECIMAL_TEXT)
"""Kinds that are strings in Avro and not all texts."""


class Fallback(Enum):
    """The undeclared string that Avro has in addition to a temporal kind, for texts that do not parse."""

    STRING = "string"


Branch = Kind | Fallback


def with_fallback(branches: Sequence[Branch]) -> list[Branch]:
    """The branches of a field or item, with the fallback at the end.

    The connector adds a string to what Avro has for a date or time, for texts that do not parse, unless the schema
    allows a string already.
    """
    return [*branches, Fallback.STRING] if _needs_fallback(branches) else list(branches)


def kind_of(branches: Iterable[Branch]) -> Kind:
    """One legal kind from these branches.

    Equal branches count once. No two branches keep the same Avro type: an integer replaces times and timestamps, the
    first of time and timestamp replaces the other, and arrays become one array. An object without declared properties
    is part of a record in the same union. It is text if the union has another kind of text,
    as is a decimal of too many digits.
    """
    branches = list(branches)
    if len(branches) == 1 and isinstance(branches[0], Kind):
        return branches[0]
    legal = _legal(distinct(_without_special_texts(branches)))
    if legal and legal[-1] is Fallback.STRING and any(isinstance(branch, Temporal) for branch in legal[:-1]):
        legal.pop()
    kinds = [STRING if isinstance(branch, Fallback) else branch for branch in legal]
    if not kinds:
        return NULL
    return kinds[0] if len(kinds) == 1 else Union(tuple(kinds))


def _without_special_texts(branches: list[Branch]) -> list[Branch]:
    """The branches without a special kind of text, if another branch holds its values too."""
    if any(isinstance(branch, Record) for branch in branches):
        branches = [branch for branch in branches if branch != JSON_TEXT]
    special = [branch for branch in branches if branch in _SPECIAL_TEXTS]
    others = [branch for branch in branches if branch not in _SPECIAL_TEXTS]
    needs_plain = STRING in others or needs_text(branch for branch in others if isinstance(branch, Kind))
    if not special or (len(set(special)) == 1 and not needs_plain):
        return branches
    return [STRING if branch in _SPECIAL_TEXTS else branch for branch in branches]


def tuple_of(branches: Iterable[Branch]) -> Array:
    """The array of a tuple's items: the item is one union of all of them, without fallback, as in the connector."""
    item = kind_of(branches)
    return Array(item, fallback=not needs_text(item.as_branches()))


def distinct(branches: Iterable[Branch]) -> list[Branch]:
    """The branches without repetitions, in the order of their first occurrence.

    A fallback and a declared string have the same Avro type, and the declared one wins. A fallback that is not the last
    branch counts as declared.
    """
    branches = list(branches)
    if len(branches) < 2:
        return branches
    once = list(dict.fromkeys(branches))
    strings = [position for position, branch in enumerate(once) if branch in (Fallback.STRING, STRING)]
    if len(strings) > 1:
        once[strings[0]] = STRING
        del once[strings[1]]
    return [STRING if branch is Fallback.STRING and branch is not once[-1] else branch for branch in once]


def without_shadowed_timestamps(branches: Sequence[Branch]) -> list[Branch]:
    """The branches of anyOf, allOf or oneOf: an integer replaces a timestamp, as in the connector."""
    return [branch for branch in branches if branch != TIMESTAMP] if LONG in branches else list(branches)


def merge_records(name: str, namespace: str | None, branches: Sequence[Branch]) -> list[Branch]:
    """The branches with all records merged into one, which is called `name` and comes last, as in the connector.

    Its fields are in first-seen order. Fields with the same source name become one field with the kinds of all.
    """
    records = [branch for branch in branches if isinstance(branch, Record)]
    if not records:
        return list(branches)
    others = [branch for branch in branches if not isinstance(branch, Record)]
    return [*others, _merged_record(name, namespace, records)]


def _merged_record(name: str, namespace: str | None, records: Sequence[Record]) -> Record:
    written = standard_name(name)
    inner = f"{namespace}.{name}" if namespace else name
    fields: dict[str, list[Field]] = {}
    for record in records:
        for field in record.fields:
            fields.setdefault(field.source, []).append(field)
    names = unique_names(list(fields), reserved=(OVERFLOW,))
    merged = tuple(_merged_field(unique, inner, same) for unique, same in zip(names, fields.values(), strict=True))
    return Record(written, standard_namespace(namespace), merged, original_name_doc(name, written))


def _merged_field(name: str, namespace: str, same: Sequence[Field]) -> Field:
    branches = distinct(branch for field in same for branch in with_fallback(field.kind.as_branches()))
    docs = [field.doc for field in same if field.doc] if name == same[0].name else []
    doc = "; ".join(docs) or original_name_doc(same[0].source, name)
    return Field(name, same[0].source, kind_of(merge_records(name, namespace, branches)), doc)


def _needs_fallback(branches: Sequence[Branch]) -> bool:
    return Fallback.STRING not in branches and needs_text(branches)


def _legal(branches: Sequence[Branch]) -> list[Branch]:
    """The branches reduced to one per Avro type: a plain branch if there is one, otherwise the first."""
    by_type: dict[str, list[Kind]] = {}
    for branch in branches:
        if isinstance(branch, Kind) and branch.avro_name:
            by_type.setdefault(branch.avro_name, []).append(branch)
    legal: list[Branch] = []
    for branch in branches:
        rivals = by_type.get(branch.avro_name, []) if isinstance(branch, Kind) else []
        arrays = [rival for rival in rivals if isinstance(rival, Array)]
        if arrays and branch is arrays[0]:
            legal.append(_merged_array(arrays))
        elif not arrays and (not rivals or branch is _winner(rivals)):
            legal.append(branch)
    return legal


def _winner(rivals: Sequence[Kind]) -> Kind:
    """Among kinds with the same Avro type, the one that is not a logical type, or else the first."""
    return next((kind for kind in rivals if kind.avro_type(None) == kind.avro_name), rivals[0])


def _merged_array(arrays: Sequence[Array]) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    branches = [
        branch
        for array in arrays
        for branch in (with_fallback(array.item.as_branches()) if array.fallback else array.item.as_branches())
    ]
    records = [branch for branch in branches if isinstance(branch, Record)]
    if len(records) > 1:
        branches = merge_records(records[0].name, records[0].namespace, distinct(branches))
    if any(array.fallback for array in arrays):
        return Array(kind_of(with_fallback(branches)))
    return tuple_of(branches)
