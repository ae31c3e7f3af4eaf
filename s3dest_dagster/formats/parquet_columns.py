"""The columns of a Parquet file, and which of them have values in a row group.

Large connectors declare thousands of fields, of which their records have a few. `ValuedColumns` finds the columns
without values field by field, from the root down: below a field that is always null, nothing is looked at.
Must not know: files, pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from s3dest_dagster.formats.parquet_levels import Levels
from s3dest_dagster.formats.thrift import varint

BOOLEAN, INT32, INT64, _INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED_LEN_BYTE_ARRAY = range(8)
"""Parquet's physical types."""
_INTEGERS_32 = frozenset((pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32(), pa.null()))


class Leaf(NamedTuple):
    """A column of values in the file."""

    steps: int
    """The number of names in its path."""
    path: bytes
    """The names of its path, each with its length in front."""
    physical: int
    """Parquet's physical type."""
    widths: tuple[int, int]
    """The bits of its repetition and definition levels."""


class ColumnTree(NamedTuple):
    """A field of the schema with the columns below it."""

    field: pa.Field
    first: int
    """The index of its first column among those of the file."""
    leaf_columns: list[Leaf]
    inner: list[ColumnTree]
    """The members of a struct, or a list's items. Maps have none: they have values or they have not."""
    depth: int
    """The number of lists that the field is within."""


class _Nesting(NamedTuple):
    """The levels and names above a field, or with it."""

    steps: int
    path: bytes
    repetition: int
    definition: int
    """The largest levels that end above it."""

    def below(self, *names: str, repeated: int = 0, optional: int = 0) -> _Nesting:
        """The nesting below these names, with so many more repeated and optional fields."""
        path = self.path + b"".join(map(_sized, names))
        definition = self.definition + repeated + optional
        return _Nesting(self.steps + len(names), path, self.repetition + repeated, definition)

    def leaf(self, type_: pa.DataType) -> Leaf:
        """The column of values of this type."""
        widths = (self.repetition.bit_length(), self.definition.bit_length())
        return Leaf(self.steps, self.path, physical_type(type_), widths)


def column_trees(schema: pa.Schema) -> list[ColumnTree]:
    """The fields of a schema, whose structs and lists are nullable. Together they have the file's columns, in order."""
    return _trees(schema, 0, _Nesting(0, b"", 0, 0))


def _trees(fields: Iterable[pa.Field], first: int, nesting: _Nesting) -> list[ColumnTree]:
    """The trees of fields, the first column of which has this index."""
    trees = []
    for field in fields:
        trees.append(_tree(field, field.name, first, nesting))
        first += len(trees[-1].leaf_columns)
    return trees


def _tree(field: pa.Field, name: str, first: int, above: _Nesting) -> ColumnTree:
    type_, depth = field.type, above.repetition
    nesting = above.below(name, optional=field.nullable)
    if not type_.num_fields:
        return ColumnTree(field, first, [nesting.leaf(type_)], [], depth)
    if pt.is_map(type_):
        pairs = nesting.below("key_value", repeated=1)
        key, value = pairs.below("key"), pairs.below("value", optional=type_.item_field.nullable)
        return ColumnTree(field, first, [key.leaf(type_.key_type), value.leaf(type_.item_type)], [], depth)
    if pt.is_list(type_):
        item = _tree(type_.value_field, "element", first, nesting.below("list", repeated=1))
        return ColumnTree(field, first, item.leaf_columns, [item], depth)
    inner = _trees(type_, first, nesting)
    return ColumnTree(field, first, [leaf for each in inner for leaf in each.leaf_columns], inner, depth)


@lru_cache(maxsize=1024)
def _sized(name: str) -> bytes:
    encoded = name.encode()
    return varint(len(encoded)) + encoded


@lru_cache(maxsize=64)
def physical_type(type_: pa.DataType) -> int:
    """The physical type that pyarrow's writer gives to a type without inner types."""
    if pt.is_string(type_) or pt.is_binary(type_):
        return BYTE_ARRAY
    if pt.is_boolean(type_):
        return BOOLEAN
    if type_ in _INTEGERS_32 or pt.is_date32(type_) or pt.is_time32(type_):
        return INT32
    if pt.is_decimal(type_) or pt.is_fixed_size_binary(type_) or pt.is_float16(type_):
        return FIXED_LEN_BYTE_ARRAY
    if pt.is_floating(type_):
        return FLOAT if pt.is_float32(type_) else DOUBLE
    return INT64


class Valueless(NamedTuple):
    """A field without values in a row group."""

    tree: ColumnTree
    levels: Callable[[], Levels]
    """Computes the levels that all of its columns have, once."""


class ValuedColumns:
    """The columns of a row group that have values, as a table of their own, and the fields that have none."""

    def __init__(self, rows: pa.Table, trees: Sequence[ColumnTree]) -> None:
        self.without: list[Valueless] = []
        """The fields without values: the uppermost ones, so none is within another one."""
        levels = cache(lambda: Levels.of_rows(rows.num_rows))
        valued = [
            (tree, self._valued(tree, column.chunks, levels)) for tree, column in zip(trees, rows.columns, strict=True)
        ]
        columns = [(_typed(tree, chunks), pa.chunked_array(chunks)) for tree, chunks in valued if chunks]
        self.rows = pa.Table.from_arrays(
            [column for _, column in columns], schema=pa.schema(field for field, _ in columns)
        )
        """The columns with values. Structs lack the members without values."""

    def _valued(self, tree: ColumnTree, chunks: list[pa.Array], levels: Callable[[], Levels]) -> list[pa.Array] | None:
        """A field's values without the columns that have none; None if no column has values."""
        if all(chunk.null_count == len(chunk) for chunk in chunks):
            self.without.append(Valueless(tree, levels))
            return None
        if not tree.inner:
            return chunks
        return (
            self._valued_list(tree, chunks, levels)
            if pt.is_list(tree.field.type)
            else self._valued_struct(tree, chunks, levels)
        )

    def _valued_struct(
        self, tree: ColumnTree, chunks: list[pa.Array], levels: Callable[[], Levels]
    ) -> list[pa.Array] | None:
        inner = cache(lambda: levels().in_struct(_is_valid(chunks)))
        before = len(self.without)
        members = [
            (each, self._valued(each, [chunk.field(number) for chunk in chunks], inner))
            for number, each in enumerate(tree.inner)
        ]
        if len(self.without) == before:
            return chunks
        valued = [(each, values) for each, values in members if values]
        if not valued:
            return None
        fields = [_typed(each, values) for each, values in valued]
        return [
            pa.StructArray.from_arrays(values, fields=fields, mask=chunk.is_null() if chunk.null_count else None)
            for chunk, *values in zip(chunks, *(values for _, values in valued), strict=True)
        ]

    def _valued_list(
        self, tree: ColumnTree, chunks: list[pa.Array], levels: Callable[[], Levels]
    ) -> list[pa.Array] | None:
        def inner() -> Levels:
            return levels().in_list(
                _is_valid(chunks), np.concatenate([_lengths(chunk) for chunk in chunks]), tree.depth + 1
            )

        before = len(self.without)
        items = self._valued(tree.inner[0], [chunk.flatten() for chunk in chunks], cache(inner))
        if items is None:
            return None
        if len(self.without) == before:
            return chunks
        type_ = pa.list_(_typed(tree.inner[0], items))
        return [_list_of(chunk, values, type_) for chunk, values in zip(chunks, items, strict=True)]


def _typed(tree: ColumnTree, values: Sequence[pa.Array]) -> pa.Field:
    """A field of the schema with the type that is left of its own."""
    return tree.field.with_type(values[0].type)


def _is_valid(chunks: Sequence[pa.Array]) -> NDArray[np.bool_]:
    return np.concatenate([chunk.is_valid().to_numpy(zero_copy_only=False) for chunk in chunks])


def _lengths(chunk: pa.ListArray) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.list_value_length(chunk).fill_null(0).to_numpy().astype(np.int64)
    return lengths


def _list_of(chunk: pa.ListArray, items: pa.Array, type_: pa.DataType) -> pa.ListArray:
    """The same lists with other items. Lists that are null have none."""
    ends = np.append(0, np.cumsum(_lengths(chunk))).astype(np.int32)
    mask = chunk.is_null() if chunk.null_count else None
    return pa.ListArray.from_arrays(pa.array(ends), items, type=type_, mask=mask)
