"""How deep a record type nests in Parquet, and the same type with what is too deep for its readers as JSON text.

pyarrow, and so pandas, Dask and Polars by way of it, refuses a whole file whose schema has more than 100 levels. An
object is one level, a list two, a field of several types one; an overflow map has three. It must not know data.
"""

from __future__ import annotations

from s3dest_dagster.columns.arrow_types import Layout, members
from s3dest_dagster.columns.types import Array, Field, Kind, Record, Scalar

PARQUET_LEVELS = 100
"""Levels of a schema that every reader takes, its root among them."""
_OVERFLOW_LEVELS = 3


def within_parquet(record: Record) -> Record:
    """The record type with JSON text (a string) in place of each position that lies too deep, the same in every layout.

    A field of several types of which one is too deep becomes text as a whole.
    """
    return _record(record, PARQUET_LEVELS)


def _record(record: Record, levels: int) -> Record:
    fields = tuple(Field(f.name, f.source, _position(f.kind, levels - 1), f.doc) for f in record.fields)
    return Record(record.name, record.namespace, fields, record.doc)


def _position(kind: Kind, levels: int, *, fallback: bool = True) -> Kind:
    """The kind of a position below which there are so many levels, its own among them."""
    if _height(kind, fallback=fallback) <= levels:
        return kind
    if isinstance(kind, Record) and levels > _OVERFLOW_LEVELS:
        return _record(kind, levels)
    if isinstance(kind, Array) and levels > 2:
        return Array(_position(kind.item, levels - 2, fallback=kind.fallback), kind.fallback)
    return Scalar.STRING


def _height(kind: Kind, *, fallback: bool) -> int:
    """The levels of a position, counted in the connector's layout, which is never the lower one."""
    if parts := members(kind, Layout.MEMBER, fallback=fallback):
        return 1 + max(_height(part, fallback=False) for _, part in parts)
    if isinstance(kind, Array):
        return 2 + _height(kind.item, fallback=kind.fallback)
    if isinstance(kind, Record):
        return 1 + max([_OVERFLOW_LEVELS, *(_height(field.kind, fallback=True) for field in kind.fields)])
    return 1
