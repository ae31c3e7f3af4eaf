"""Converts Arrow columns to the types that a stream's columns have now, which are wider than those they were written
with.

Must not know: kinds, file formats.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.binary_columns import json_texts


def aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of a schema, in its order and types. A column that the table lacks is null.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: A value cannot be converted.
    """
    columns = [
        pa.chunked_array([retyped(chunk, field.type) for chunk in table.column(field.name).chunks], field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def retyped(column: pa.Array, type_: pa.DataType) -> pa.Array:
    """The column in another type. A member that its structs lack is null, and a text has the JSON text of any value.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: A value cannot be converted.
    """
    # Nested columns are cast level by level, since Arrow's own cast damages lists of nulls.
    if column.type == type_:
        return column
    if pt.is_struct(type_) and pt.is_struct(column.type):
        return _retyped_struct(column, type_)
    if pt.is_list(type_) and pt.is_list(column.type):
        ends = pa.array(column.offsets.to_numpy())
        return pa.ListArray.from_arrays(ends, retyped(column.values, type_.value_type), type_, mask=column.is_null())
    if pt.is_string(type_) and not pt.is_null(column.type):
        return json_texts(texts_of_column(column)).strings
    return column.cast(type_)


def children(type_: pa.DataType) -> list[pa.Field]:
    """The fields of a nested type."""
    return [type_.field(number) for number in range(type_.num_fields)]


def _retyped_struct(column: pa.StructArray, type_: pa.StructType) -> pa.Array:
    """A struct with other members. Members are found by name."""
    present = {field.name for field in children(column.type)}
    members = [
        retyped(column.field(child.name), child.type) if child.name in present else pa.nulls(len(column), child.type)
        for child in children(type_)
    ]
    return pa.StructArray.from_arrays(members, fields=children(type_), mask=column.is_null())
