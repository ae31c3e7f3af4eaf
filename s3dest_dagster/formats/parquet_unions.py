"""Unions in Parquet files: structs with a member for every kind, and the Avro schema that describes them.

A *typed* union is the struct of the connector's newer versions: the member `type` has the name of the member with the
value. It is made of a union with named members, so that nothing else needs to know it. Must not know: how a file is
written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.field_ids import beside_members
from s3dest_dagster.columns.kinds import Kind, Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.union import Position, Union
from s3dest_dagster.columns.retyping import children
from s3dest_dagster.columns.schemas import avro_schema

TYPE = "type"
"""The member of a typed union that names the type of its value."""
_NAMES = {
    "json": "object",
    "json_list": "object",
    "float": "number",
    "decimal": "number",
    "timestamp": "timestamp_with_timezone",
    "local_timestamp": "timestamp_without_timezone",
    "time": "time_with_timezone",
}
"""What the connector calls kinds that have another name here."""


def member_names(kinds: Iterable[Kind]) -> list[str]:
    """The names of the members of a typed union. Two members never have the same one."""
    names: list[str] = []
    for kind in kinds:
        name = _NAMES.get(kind.word, kind.word)
        names.append(kind.word if name in names else name)
    return names


class TypedUnions:
    """Converts between typed unions and unions with named members, at every level of a record.

    Args:
        record: The record type of the columns.
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    def columns(self, columns: Sequence[pa.Array]) -> list[pa.Array]:
        """The record's columns, and the overflow, with typed unions."""
        own = [
            _converted(each.kind, column, _typed) for each, column in zip(self._record.fields, columns, strict=False)
        ]
        return [*own, columns[-1]]

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """A schema of the envelope, the record's columns and the overflow, with typed unions."""
        before = len(schema) - len(self._record.fields) - 1
        fields = list(schema)
        for number, each in enumerate(self._record.fields, before):
            fields[number] = fields[number].with_type(typed_type(each.kind, fields[number].type))
        return pa.schema(fields)

    def named(self, table: pa.Table) -> pa.Table:
        """A table of a file whose unions may be typed. In the table, their members are named."""
        for each in self._record.fields:
            number = table.schema.get_field_index(each.name)
            if number >= 0 and _has_unions(each.kind) and _may_be_typed(table.schema.field(number).type):
                chunks = [_converted(each.kind, chunk, _named) for chunk in table.column(number).chunks]
                if chunks:
                    table = table.set_column(number, each.name, pa.chunked_array(chunks))
        return table


def _has_unions(kind: Kind) -> bool:
    if isinstance(kind, Record):
        return any(_has_unions(field.kind) for field in kind.fields)
    return _has_unions(kind.item) if isinstance(kind, Array) else isinstance(kind, Union)


def _may_be_typed(type_: pa.DataType) -> bool:
    """Whether a column of this type may have a typed union at any level."""
    inner = children(type_) if pt.is_nested(type_) else []
    return any(field.name == TYPE or _may_be_typed(field.type) for field in inner)


def _converted(kind: Kind, column: pa.Array, change: Callable[[Union, pa.Array], pa.Array]) -> pa.Array:
    """The column with every union in it changed."""
    if not _has_unions(kind):
        return column
    if isinstance(kind, Union):
        return change(kind, column)
    if isinstance(kind, Array):
        items = _converted(kind.item, column.values, change)
        return pa.ListArray.from_arrays(pa.array(column.offsets.to_numpy()), items, mask=column.is_null())
    assert isinstance(kind, Record), "nothing else holds unions"
    kinds = {field.name: field.kind for field in kind.fields}
    names = [field.name for field in column.type]
    members = [
        _converted(kinds[name], member, change) if name in kinds else member
        for name, member in zip(names, column.flatten(), strict=True)
    ]
    return pa.StructArray.from_arrays(members, names=names, mask=column.is_null())


def _typed(kind: Union, column: pa.StructArray) -> pa.Array:
    names = member_names(kind.branches)
    members = [_converted(each, part, _typed) for each, part in zip(kind.branches, column.flatten(), strict=True)]
    nothing = pa.nulls(len(column), pa.string())
    types = reduce(
        lambda found, each: pc.if_else(each[1].is_valid(), each[0], found), zip(names, members, strict=True), nothing
    )
    return pa.StructArray.from_arrays([types, *members], names=[TYPE, *names], mask=column.is_null())


def _named(kind: Union, column: pa.StructArray) -> pa.Array:
    if TYPE not in {field.name for field in column.type}:
        return column
    words = [each.word for each in kind.branches]
    _, *parts = column.flatten()
    members = [_converted(each, part, _named) for each, part in zip(kind.branches, parts, strict=True)]
    return pa.StructArray.from_arrays(members, names=words, mask=column.is_null())


def typed_type(kind: Kind, type_: pa.DataType) -> pa.DataType:
    """The type of a column with typed unions. The ids of fields stay."""
    if isinstance(kind, Array):
        item = type_.value_field
        return pa.list_(item.with_type(typed_type(kind.item, item.type)))
    if isinstance(kind, Record):
        kinds = {field.name: field.kind for field in kind.fields}
        return pa.struct(
            field.with_type(typed_type(kinds[field.name], field.type)) if field.name in kinds else field
            for field in type_
        )
    if not isinstance(kind, Union) or not pt.is_struct(type_):
        return type_
    names = member_names(kind.branches)
    members = [
        field.with_name(name).with_type(typed_type(each, field.type))
        for each, name, field in zip(kind.branches, names, type_, strict=True)
    ]
    return pa.struct([beside_members(pa.field(TYPE, pa.string()), type_.field(0), kind.branches[0]), *members])


# ---------------------------------------------------------------------- the Avro schema in the file


def avro_schema_of_columns(record: Record, layout: Layout, *, is_typed: bool = False) -> str:
    """The Avro schema of a file's columns as JSON text, with the envelope, for readers such as parquet-avro.

    Such a reader expects columns with the shape of the schema. The connector's union layout has the shape of the
    stream's own Avro schema. With named members, a union is a record, and a temporal column has no additional text.
    `is_typed` says whether the members are those of `TypedUnions`.
    """
    schema = avro_schema(record)
    if layout is Layout.NAMED:
        of_envelope = len(schema["fields"]) - len(record.fields) - 1
        _UnionNames(is_typed).apply(schema, record, of_envelope, record.name)
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


class _UnionNames:
    """Gives the unions of an Avro schema the shape of their columns. `is_typed` says which of the two shapes."""

    def __init__(self, is_typed: bool) -> None:
        self._is_typed = is_typed

    def apply(self, schema: dict[str, Any], record: Record, skipped: int, path: str) -> None:
        """Changes the types of a record level's fields in place. The first `skipped` fields are not its own."""
        for own, field in zip(schema["fields"][skipped:], record.fields, strict=False):
            own["type"] = self._position(own["type"], field.kind, f"{path}_{field.name}", fallback=True)

    def _position(self, schema: Any, kind: Kind, path: str, *, fallback: bool) -> Any:
        """The type of a field or item. `schema` is "null", or a union that begins with null."""
        if schema == "null":
            return schema
        named = Position(kind, fallback).members(Layout.NAMED)
        if not named:
            return ["null", self._branch(schema[1], kind, path)]
        words = [word for word, _ in named]
        names = member_names([part for _, part in named]) if self._is_typed else words
        fields = [
            {"name": name, "type": ["null", self._branch(branch, part, f"{path}_{word}")], "default": None}
            # A fallback text has no member.
            for branch, name, (word, part) in zip(schema[1:], names, named, strict=False)
        ]
        first = [{"name": TYPE, "type": ["null", "string"], "default": None}] if self._is_typed else []
        return ["null", {"type": "record", "name": f"{path}_union", "namespace": "", "fields": first + fields}]

    def _branch(self, schema: Any, kind: Kind, path: str) -> Any:
        if isinstance(kind, Array):
            items = self._position(schema["items"], kind.item, f"{path}_item", fallback=kind.fallback)
            return {**schema, "items": items}
        if isinstance(kind, Record):
            self.apply(schema, kind, 0, path)
        return schema
