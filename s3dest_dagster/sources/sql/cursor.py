"""The state of an incremental read: the largest value of its cursor among the rows that were read.

Rows come in the order of the cursor. A state is yielded only between two different values, so that a read which
continues after it misses none of several rows with the same value. Must not know: drivers, SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.batch import State
from s3dest_dagster.columns.arrow_types import is_any_string, is_moment, unpacked
from s3dest_dagster.columns.iso_texts import beyond_range, iso_texts
from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.sources.sql.session import Chunk
from s3dest_dagster.stream import StreamId

CursorValue = int | str
"""A value of a cursor as a state holds it: a whole number, or the text of anything else."""


def check_cursor_type(field: pa.Field) -> None:
    """Raises SettingsError for a cursor whose values cannot be compared exactly. A null type is one that the database
    does not say."""
    type_ = field.type
    moments = pt.is_date32(type_) or pt.is_timestamp(type_)
    if not (moments or pt.is_integer(type_) or pt.is_decimal(type_) or is_any_string(type_) or pt.is_null(type_)):
        raise SettingsError(
            f"cursor is {field.name!r}, a column of the type {type_}. A cursor is a column of integers, decimals, "
            "dates, timestamps or texts: their order and their next value are exact.",
            setting="cursor",
        )


def state_of(stream: StreamId, cursor: str, value: CursorValue) -> State:
    """The state after all rows up to a value."""
    descriptor = {"name": stream.name, **({"namespace": stream.namespace} if stream.namespace else {})}
    position = {"cursor": cursor, "value": value}
    inner = {"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": position}}
    text = msgspec.json.encode(inner)
    return State(stream, text, b'{"type":"STATE","state":' + text + b"}")


def value_of_state(state: bytes, cursor: str) -> CursorValue:
    """The value that a state holds. Raises SettingsError if it is a state of something else."""
    try:
        found = msgspec.json.decode(state)["stream"]["stream_state"]
        named, value = found["cursor"], found["value"]
    except (msgspec.DecodeError, KeyError, TypeError):
        raise SettingsError(
            "The stream's state is not one of a SQL source. `s3dest state show` prints it; `s3dest state set` sets "
            "another, and a full refresh starts over.",
            setting="cursor",
        ) from None
    if named != cursor or type(value) not in (int, str):
        raise SettingsError(
            f"The stream's state is a value of the column {named!r}, and cursor is {cursor!r}. Keep the cursor, set "
            "a state of the new one with `s3dest state set`, or start over with a full refresh.",
            setting="cursor",
        )
    value_found: CursorValue = value
    return value_found


def between_values(chunks: Iterable[Chunk], cursor: str) -> Iterator[tuple[Chunk, CursorValue | None]]:
    """Yields rows, and the value up to which no row is left after them; None after rows that others may equal.

    The rows are in the order of the cursor. The last pair has no rows, and the largest value. Raises SourceError for a
    row without a value.
    """
    last: pa.Scalar | None = None
    for chunk in chunks:
        column = _column(chunk, cursor)
        if not len(column):
            continue
        _check_values(column, cursor)
        equal = 0 if last is None else _count_equal(column, last)
        if last is not None and equal < len(column):
            yield part_of(chunk, 0, equal), _value(last)
        yield part_of(chunk, equal if equal < len(column) else 0, len(column)), None
        last = column[len(column) - 1]
    if last is not None:
        yield [], _value(last)


def part_of(chunk: Chunk, start: int, stop: int) -> Chunk:
    """Some of the rows."""
    return chunk[start:stop] if isinstance(chunk, list) else chunk.slice(start, stop - start)


def _column(chunk: Chunk, cursor: str) -> pa.Array:
    if not isinstance(chunk, list):
        return unpacked(chunk.column(cursor))
    values = [row[cursor] for row in chunk]
    kinds = {type(value) for value in values} - {type(None)}
    if kinds and kinds not in ({int}, {str}):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise SourceError(
            f"The cursor {cursor!r} has values of the types {names}. All must be integers, or all texts. Cast the "
            "column in the query."
        )
    return pa.array(values, pa.string() if kinds == {str} else pa.int64())


def _check_values(column: pa.Array, cursor: str) -> None:
    if column.null_count:
        raise null_cursor(cursor)
    if is_moment(column.type) and pc.any(beyond_range(column)).as_py():
        raise SourceError(
            f"The cursor {cursor!r} has a value outside of the years 1 to 9999, which no later row would exceed. Leave "
            "such rows out in the query."
        )


def null_cursor(cursor: str) -> SourceError:
    """The error for rows without a value of the cursor."""
    return SourceError(
        f"The cursor {cursor!r} is null in some rows. Later reads, which ask for larger values, would never find such "
        f"rows. Leave them out (where {cursor} is not null), give them a value (coalesce), or choose another cursor."
    )


def _count_equal(column: pa.Array, value: pa.Scalar) -> int:
    """How many rows at the beginning have this value."""
    first_other = pc.index(pc.not_equal(column, value), True).as_py()
    return len(column) if first_other < 0 else int(first_other)


def _value(scalar: Any) -> CursorValue:
    if pt.is_integer(scalar.type):
        return int(scalar.as_py())
    if is_moment(scalar.type):
        stored = pa.array([scalar.value], pa.int64()).cast(_storage(scalar.type))
        return str(iso_texts(stored.cast(scalar.type)).cast(pa.string())[0])
    return str(scalar.as_py())


def _storage(type_: pa.DataType) -> pa.DataType:
    return pa.int32() if pt.is_date32(type_) else pa.int64()
