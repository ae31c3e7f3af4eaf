"""Arrow columns as a source made them to the columns of a record type: by casts that lose nothing, else by JSON texts.

A cast that would lose anything (an int64 beyond 2⁵³ to a double, nanoseconds), or give a date that readers cannot hold
(the year 32103), is no cast: the whole column then takes the way of JSON, value by value under the same rules. It must
not know JSON batches or plans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.arrow_moments import beyond_range, is_moment
from s3dest_dagster.columns.arrow_types import (
    Layout,
    arrow_type,
    as_list_column,
    is_any_binary,
    is_any_list,
    is_any_string,
    unpacked,
)
from s3dest_dagster.columns.conversion_log import Event
from s3dest_dagster.columns.json_texts import Rows, json_texts
from s3dest_dagster.columns.nested_columns import ListDecoder, RecordDecoder, list_array, place
from s3dest_dagster.columns.overflow import OverflowColumn
from s3dest_dagster.columns.scalar_columns import Column, ColumnDecoder, TemporalDecoder
from s3dest_dagster.columns.types import Array, Kind, Record, Scalar
from s3dest_dagster.errors import RecordError

_HELD_BY: dict[Scalar, Callable[[pa.DataType], bool]] = {
    Scalar.NULL: pt.is_null,
    Scalar.STRING: is_any_string,
    Scalar.BOOLEAN: pt.is_boolean,
    Scalar.LONG: lambda type_: pt.is_integer(type_) or pt.is_duration(type_),
    Scalar.DOUBLE: lambda type_: pt.is_floating(type_) or pt.is_integer(type_),
    Scalar.FLOAT: lambda type_: pt.is_float32(type_) or pt.is_float16(type_),
    Scalar.BYTES: is_any_binary,
    Scalar.DATE: pt.is_date,
    Scalar.TIME: pt.is_time,
    Scalar.TIMESTAMP: pt.is_timestamp,
}


def record_of_arrow(decoder: RecordDecoder, data: pa.StructArray) -> Column:
    """A record level of a struct column, its children by the source's names; children that are not declared go to the
    overflow. Raises RecordError when two children have one name."""
    children = _by_name(data)
    over, counts = OverflowColumn(len(data)), Counter[Event]()
    columns = []
    for field in decoder.fields:
        child = children.pop(field.source, None)
        if child is None:
            child = pa.nulls(len(data))
        column = _position(field.kind, field.decoder, child)
        columns.append(place(field, column, partial(_overflow_texts, child), over, counts))
    if children:
        texts = {name: texts_of_column(child) for name, child in children.items()}
        objects = [{name: raws[row] for name, raws in texts.items() if raws[row]} for row in range(len(data))]
        decoder.add_undeclared(objects, over, counts)
    mask = data.is_null() if data.null_count else None
    return Column(
        pa.StructArray.from_arrays([*columns, over.column()], fields=list(decoder.type), mask=mask), counts=counts
    )


def _position(kind: Kind, decoder: ColumnDecoder, data: pa.Array) -> Column:
    data = unpacked(data)
    if isinstance(kind, Record) and pt.is_struct(data.type):
        assert isinstance(decoder, RecordDecoder)
        return record_of_arrow(decoder, data)
    if isinstance(kind, Array) and is_any_list(data.type):
        assert isinstance(decoder, ListDecoder)
        return _list(kind, decoder, as_list_column(data))
    values = _cast(kind, data) if isinstance(kind, Scalar) else None
    if values is None:
        return decoder.decode(texts_of_column(data))
    return decoder.of_values(values) if isinstance(decoder, TemporalDecoder) else Column(values)


def _cast(kind: Scalar, data: pa.Array) -> pa.Array | None:
    """The column cast without loss; None where its type is another, or a value would lose something."""
    target = arrow_type(kind, layout=Layout.NAMED)
    if data.null_count == len(data):
        return pa.nulls(len(data), target)
    if not _HELD_BY[kind](data.type) or (is_moment(data.type) and pc.any(beyond_range(data)).as_py()):
        return None
    try:
        return data.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _list(kind: Array, decoder: ListDecoder, data: pa.ListArray) -> Column:
    """Lists, of which one unfit item makes the whole list unfit."""
    items = _position(kind.item, decoder.item, data.flatten())
    lengths = data.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    parents = np.repeat(np.arange(len(data)), lengths)
    if items.unfit.size:
        unfit = np.unique(parents[items.unfit])
        column = _list(kind, decoder, _without(data, unfit))
        column.unfit = unfit
        return column
    absent = data.is_null().to_numpy(zero_copy_only=False)
    values = list_array(lengths, items.data, absent, decoder.type)
    return Column(values, inexact=np.unique(parents[items.inexact]), counts=items.counts)


def _without(data: pa.Array, rows: Rows) -> pa.Array:
    """The column with null in these rows."""
    dropped = np.zeros(len(data), np.bool_)
    dropped[rows] = True
    return data.take(pa.array(np.arange(len(data)), mask=dropped))


def _overflow_texts(data: pa.Array, rows: Rows) -> pa.Array:
    return json_texts(texts_of_column(data.take(pa.array(rows)))).strings


def _by_name(data: pa.StructArray) -> dict[str, pa.Array]:
    names = [field.name for field in data.type]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError(
            f"Two Arrow columns are called {twice!r}; a record has each field once. Rename one of them in the source."
        )
    return dict(zip(names, data.flatten(), strict=True))
