"""Unions: the branches of a position, how they become one legal kind, and how record branches become one record.

A *position* is where a value stands: a field of a record or an item of an array. The rules are the connector's
(`JsonToAvroSchemaConverter.mergeRecordSchemas` and its neighbours); where its Avro schema would be illegal and the sync
would fail, the union is made legal instead. It must not know JSON schemas, Avro's JSON or Arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from s3dest_dagster.columns.names import original_name_doc, standard_name, standard_namespace, unique_names
from s3dest_dagster.columns.types import OVERFLOW, TEMPORAL, Array, Field, Kind, Record, Scalar, Union


class Fallback(Enum):
    """The string that Avro gets beside a temporal kind, for texts that do not parse; no declared branch."""

    STRING = "string"


Branch = Kind | Fallback


def branches(kind: Kind, *, fallback: bool = True) -> tuple[Kind, ...]:
    """Avro's branches of a nullable position, without null, in their order.

    With `fallback`, a position that can be temporal ends with a plain string, unless it declares one.
    """
    own = _declared(kind)
    return (*own, Scalar.STRING) if fallback and _needs_fallback(own) else own


def branches_to_merge(kind: Kind) -> list[Branch]:
    """As `branches`, but the string that nobody declared is told apart."""
    own = _declared(kind)
    return [*own, Fallback.STRING] if _needs_fallback(own) else list(own)


def with_fallback(found: Sequence[Branch]) -> list[Branch]:
    """The branches of a field or item: the fallback is appended where the connector appends it (reference 5.3)."""
    return [*found, Fallback.STRING] if _needs_fallback(found) else list(found)


def kind_of(found: Iterable[Branch]) -> Kind:
    """One legal kind of these branches: equal ones once, none meeting another of the same Avro type.

    A plain long drives out times and timestamps, the first of time and timestamp the other, arrays become one array.
    """
    legal = _legal(distinct(found))
    if legal and legal[-1] is Fallback.STRING and any(map(_is_temporal, legal[:-1])):
        legal.pop()
    kinds = [Scalar.STRING if b is Fallback.STRING else b for b in legal]
    if not kinds:
        return Scalar.NULL
    return kinds[0] if len(kinds) == 1 else Union(tuple(kinds))


def tuple_of(found: Iterable[Branch]) -> Array:
    """The array of a tuple's items: one union of all, without the string fallback (reference 5.4)."""
    item = kind_of(found)
    return Array(item, fallback=not _needs_fallback(_declared(item)))


def distinct(found: Iterable[Branch]) -> list[Branch]:
    """Each branch once, at its first place. A fallback and a declared string are the same Avro type: the declared one
    wins, and a fallback that is not the last branch has become one that is declared."""
    once = list(dict.fromkeys(found))
    strings = [place for place, branch in enumerate(once) if branch in (Fallback.STRING, Scalar.STRING)]
    if len(strings) > 1:
        once[strings[0]] = Scalar.STRING
        del once[strings[1]]
    return [Scalar.STRING if b is Fallback.STRING and b is not once[-1] else b for b in once]


def without_shadowed_timestamps(found: Sequence[Branch]) -> list[Branch]:
    """anyOf, allOf, oneOf: where a plain long stands, a timestamp goes (reference 5.5)."""
    return [b for b in found if b is not Scalar.TIMESTAMP] if Scalar.LONG in found else list(found)


def merge_records(name: str, namespace: str | None, found: Sequence[Branch]) -> list[Branch]:
    """The branches with all records made one, called `name`, behind the others (reference 5.6).

    Its fields stand in first-seen order; those of one source name are one field with the kinds of all.
    """
    records = [branch for branch in found if isinstance(branch, Record)]
    if not records:
        return list(found)
    others = [branch for branch in found if not isinstance(branch, Record)]
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
    found = distinct(branch for field in same for branch in branches_to_merge(field.kind))
    docs = [field.doc for field in same if field.doc] if name == same[0].name else []
    doc = "; ".join(docs) or original_name_doc(same[0].source, name)
    return Field(name, same[0].source, kind_of(merge_records(name, namespace, found)), doc)


def _declared(kind: Kind) -> tuple[Kind, ...]:
    if isinstance(kind, Union):
        return kind.branches
    return () if kind is Scalar.NULL else (kind,)


def _needs_fallback(found: Sequence[Branch]) -> bool:
    return any(map(_is_temporal, found)) and Scalar.STRING not in found and Fallback.STRING not in found


def _is_temporal(branch: Branch) -> bool:
    """Scalars only are looked up, since the hash of a deep record takes long."""
    return isinstance(branch, Scalar) and branch in TEMPORAL


def _legal(found: list[Branch]) -> list[Branch]:
    """No two branches of one Avro type: long (plain, time, timestamp) and array are what can meet."""
    longs = [b for b in found if b in (Scalar.LONG, Scalar.TIME, Scalar.TIMESTAMP)]
    keep = Scalar.LONG if Scalar.LONG in longs else longs[0] if longs else None
    arrays = [b for b in found if isinstance(b, Array)]
    legal: list[Branch] = []
    for branch in found:
        if branch in longs and branch is not keep:
            continue
        if isinstance(branch, Array):
            if branch is arrays[0]:
                legal.append(_merged_array(arrays))
            continue
        legal.append(branch)
    return legal


def _merged_array(arrays: Sequence[Array]) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    found = [b for a in arrays for b in (branches_to_merge(a.item) if a.fallback else _declared(a.item))]
    records = [branch for branch in found if isinstance(branch, Record)]
    if len(records) > 1:
        found = merge_records(records[0].name, records[0].namespace, distinct(found))
    if any(a.fallback for a in arrays):
        return Array(kind_of(with_fallback(found)))
    return tuple_of(found)
