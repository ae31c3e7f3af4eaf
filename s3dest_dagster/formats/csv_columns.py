"""The cells of CSV made from Arrow columns, without a JSON text for each record. They are those of `csv_cells`.

Numbers, booleans, texts, dates and times become cells by column. Values whose cell depends on their JSON text, such as
unions, take the way through it. Must not know: envelopes, records.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_json_texts import Refused, column_texts, object_texts, value_parts
from s3dest_dagster.columns.arrow_types import is_any_list, is_any_string, is_moment, unpacked
from s3dest_dagster.columns.binary_columns import Parts, bounds, content, glued, replaced, scalar
from s3dest_dagster.formats.csv_cells import Dialect, cell_rows, without_first_delimiter

_DOUBLED = {ord('"'): b'""'}


def cells_of_column(column: pa.Array, dialect: Dialect, path: str) -> Parts:
    """The cell of each value. Raises RecordError if JSON has no text for a value, which names the field's path."""
    column = unpacked(column)
    if column.null_count == len(column):
        return [dialect.null]
    cells = _cells_of_values(column, dialect, path)
    if cells is None:
        return [_cells_of_texts(column_texts(column, Refused(), path), dialect)]
    if not column.null_count:
        return cells
    return [pc.if_else(column.is_valid(), glued(cells, len(column)), scalar(dialect.null))]


def cells_of_records(data: pa.RecordBatch) -> Parts | None:
    """One cell for each record, which has all its fields as JSON. None if a value may have blanks between its tokens.

    Raises RecordError as `cells_of_column` does.
    """
    if any(_has_documents(column.type) for column in data.columns):
        return None
    return _quoted(object_texts(data.schema.names, data.columns, data.num_rows, Refused()))


def _cells_of_values(column: pa.Array, dialect: Dialect, path: str) -> Parts | None:
    """The cell of each value, any for null; None if the cells depend on the JSON texts of the values."""
    type_ = column.type
    if is_any_string(type_):
        return _quoted(column.cast(pa.string()).cast(pa.binary())) if dialect.quotes_plain_texts else None
    if is_moment(type_):
        return value_parts(column, Refused(), path)
    if pt.is_boolean(type_):
        return _spelled(column, path, quoted=dialect.quotes_booleans)
    if pt.is_integer(type_) or pt.is_floating(type_) or pt.is_decimal(type_) or pt.is_duration(type_):
        return _spelled(column, path, quoted=dialect.quotes_numbers)
    if (pt.is_struct(type_) or is_any_list(type_)) and not _has_documents(type_):
        return _quoted(glued(value_parts(column, Refused(), path), len(column)))
    return None


def _spelled(column: pa.Array, path: str, *, quoted: bool) -> Parts:
    texts = value_parts(column, Refused(), path)
    return [b'"', *texts, b'"'] if quoted else texts


def _quoted(texts: pa.Array) -> Parts:
    return [b'"', replaced(texts, _DOUBLED), b'"']


def _has_documents(type_: pa.DataType) -> bool:
    """Whether values may hold JSON documents as their source spells them. A field with that name only costs time."""
    return "arrow.json" in str(type_)


def _cells_of_texts(texts: pa.Array, dialect: Dialect) -> pa.Array:
    """The cells of JSON texts."""
    lines = glued([b"\n", texts], len(texts))
    characters = np.frombuffer(bytes(content(lines)) + b"\n", np.uint8)
    breaks = bounds(lines).astype(np.int64)
    return without_first_delimiter(cell_rows(characters, breaks - breaks[0], 1, dialect))
