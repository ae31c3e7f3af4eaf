"""The Arrow types of a record type, in the shape that each format writes. It must not know data.

Every field is nullable. A record level is a struct whose last child is the overflow map (null when empty, entries
sorted by name). A position of several types is a struct of which one member is set, since Parquet has no union.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.types import OVERFLOW, Array, Kind, Record, Scalar, Union
from s3dest_dagster.columns.unions import branches


class Layout(StrEnum):
    """How positions of several types look."""

    AVRO = "avro"
    """member0, member1, … in the order of Avro's branches, the string beside a temporal kind included."""
    NAMED = "named"
    """Members named after their type; temporal kinds are plain, and a text that does not parse overflows."""
    MEMBER = "member"
    """The same shape as AVRO, which is what the connector's Parquet files have."""


OVERFLOW_TYPE = pa.map_(pa.string(), pa.string())
TIMESTAMP_TYPE = pa.timestamp("us", "UTC")
_SCALARS: dict[Scalar, pa.DataType] = {
    Scalar.NULL: pa.null(),
    Scalar.STRING: pa.string(),
    Scalar.BOOLEAN: pa.bool_(),
    Scalar.LONG: pa.int64(),
    Scalar.DOUBLE: pa.float64(),
    Scalar.FLOAT: pa.float32(),
    Scalar.BYTES: pa.binary(),
    Scalar.DATE: pa.date32(),
    Scalar.TIME: pa.time64("us"),
    Scalar.TIMESTAMP: TIMESTAMP_TYPE,
}
_NAMES: dict[Scalar, str] = {
    Scalar.STRING: "string",
    Scalar.BOOLEAN: "boolean",
    Scalar.LONG: "integer",
    Scalar.DOUBLE: "number",
    Scalar.FLOAT: "float",
    Scalar.BYTES: "bytes",
    Scalar.DATE: "date",
    Scalar.TIME: "time",
    Scalar.TIMESTAMP: "timestamp",
}


def arrow_type(kind: Kind, *, layout: Layout, fallback: bool = True) -> pa.DataType:
    """The Arrow type of a position of this kind. `fallback` False: an item of an array that has none."""
    parts = members(kind, layout, fallback=fallback)
    if parts:
        return pa.struct([pa.field(name, arrow_type(part, layout=layout, fallback=False)) for name, part in parts])
    if isinstance(kind, Array):
        return pa.list_(pa.field("item", arrow_type(kind.item, layout=layout, fallback=kind.fallback)))
    if isinstance(kind, Record):
        return pa.struct(list(arrow_schema(kind, layout=layout)))
    assert isinstance(kind, Scalar)  # a union has members
    return _SCALARS[kind]


def arrow_schema(record: Record, *, layout: Layout) -> pa.Schema:
    """The columns of a record level, the overflow map last, without the envelope."""
    fields = [pa.field(field.name, arrow_type(field.kind, layout=layout)) for field in record.fields]
    return pa.schema([*fields, pa.field(OVERFLOW, OVERFLOW_TYPE)])


def members(kind: Kind, layout: Layout, *, fallback: bool = True) -> tuple[tuple[str, Kind], ...]:
    """Name and kind of each member of a position that is a struct of several types; () where it is plain."""
    parts = branches(kind, fallback=fallback and layout is not Layout.NAMED)
    if len(parts) < 2:
        return ()
    if layout is Layout.NAMED:
        return tuple((_type_name(part), part) for part in parts)
    return tuple((f"member{number}", part) for number, part in enumerate(parts))


def columns(record: Record) -> list[tuple[str, str, str | None]]:
    """Name, type in words, and description of each column, for display; without envelope and overflow. The description
    tells the source's name where it had to be changed."""
    return [
        (f.name, _words(f.kind), None if f.name == f.source else f"{f.source!r} in the source") for f in record.fields
    ]


def paths(record: Record) -> Iterator[tuple[str, str]]:
    """Dotted path and type in words of every field at every level; the items of an array stand under `name[]`."""
    for field in record.fields:
        yield from _paths(field.name, field.kind)


def _paths(path: str, kind: Kind) -> Iterator[tuple[str, str]]:
    if isinstance(kind, Record):
        yield path, "object"
        for field in kind.fields:
            yield from _paths(f"{path}.{field.name}", field.kind)
    elif isinstance(kind, Array) and isinstance(kind.item, Record | Array):
        yield path, "array"
        yield from _paths(f"{path}[]", kind.item)
    else:
        yield path, _words(kind)


def _type_name(kind: Kind) -> str:
    if isinstance(kind, Record):
        return "object"
    return "array" if isinstance(kind, Array) else _NAMES[Scalar(kind)]  # type: ignore[arg-type]


def _words(kind: Kind) -> str:
    if isinstance(kind, Union):
        return " or ".join(_words(branch) for branch in kind.branches)
    if isinstance(kind, Array):
        return f"array of {_words(kind.item)}"
    if isinstance(kind, Record):
        return f"object ({', '.join(field.name for field in kind.fields)})" if kind.fields else "object"
    return _NAMES.get(kind, "null")


def unpacked(column: pa.Array) -> pa.Array:
    """Dictionaries, run ends and extensions as the values that they stand for."""
    if isinstance(column.type, pa.BaseExtensionType):
        return unpacked(column.storage)
    if pt.is_dictionary(column.type):
        return unpacked(column.dictionary_decode())
    return unpacked(pc.run_end_decode(column)) if pt.is_run_end_encoded(column.type) else column


def is_any_list(type_: pa.DataType) -> bool:
    """Whether values are lists, however they are stored."""
    tests = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return any(test(type_) for test in tests)


def is_any_string(type_: pa.DataType) -> bool:
    """Whether values are texts, however they are stored."""
    return bool(pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_))


def is_any_binary(type_: pa.DataType) -> bool:
    """Whether values are bytes, however they are stored."""
    tests = (pt.is_binary, pt.is_large_binary, pt.is_fixed_size_binary, pt.is_binary_view)
    return any(test(type_) for test in tests)


def as_list_column(column: pa.Array) -> pa.ListArray:
    """A column of any kind of lists with 32-bit offsets."""
    return column if pt.is_list(column.type) else column.cast(pa.list_(column.type.value_type))


def as_pairs(column: pa.MapArray) -> pa.ListArray:
    """A column of maps as lists of structs `key`, `value`."""
    pair = pa.struct([pa.field("key", column.type.key_type), pa.field("value", column.type.item_type)])
    return column.cast(pa.list_(pair))
