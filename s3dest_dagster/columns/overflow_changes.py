"""Which fields of which records did not land as they were: the changes that the newer envelope tells of.

The overflow maps of the columns have the values, so that nothing has to be noted while values are converted. A batch
without such values costs nothing. Must not know: how the columns were made, where the changes land.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.batch import Tally
from s3dest_dagster.columns.arrow_types import as_pairs
from s3dest_dagster.columns.binary_columns import mask_of
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.decimal import Decimal
from s3dest_dagster.columns.kinds.number import DOUBLE, FLOAT, LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.record_changes import NULLED, SERIALIZATION_ERROR, SIZE_LIMITATION, TRUNCATED, Change, Changes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_LONGEST_LONG = len(str(-(2**63)))
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def overflow_changes(record: Record, columns: Sequence[pa.Array], tally: Tally) -> Changes:
    """The changes of records whose declared fields have values in the overflow, at every level.

    A field is `NULLED` if it is null, and `TRUNCATED` if its column has a part of what the source sent: the nearest
    double, or the last value of a name that the record repeats.

    Args:
        record: The record type of the columns.
        columns: The columns of its fields, and the overflow.
        tally: The counts of the values that overflowed. Other fields are not looked at.
    """
    found: defaultdict[int, list[Change]] = defaultdict(list)
    rows = np.arange(len(columns[-1]))
    for row, change in _of_level(record, columns, rows, "", tally.overflowed):
        found[row].append(change)
    return {row: tuple(dict.fromkeys(changes)) for row, changes in found.items()}


def _of_level(
    record: Record, columns: Sequence[pa.Array], rows: NDArray[np.int64], prefix: str, counts: Mapping[str, int]
) -> Iterator[tuple[int, Change]]:
    """Yields the changes of a level with the rows of their records. `rows` has the row of each of its objects."""
    fields = {field.source: (field, column) for field, column in zip(record.fields, columns, strict=False)}
    yield from _of_overflow(fields, columns[-1], rows, prefix)
    for name, (field, column) in fields.items():
        path = prefix + name
        if field.kind.has_structure and _is_counted_within(path, counts):
            yield from _within(field.kind, column, rows, path, counts)


def _is_counted_within(path: str, counts: Mapping[str, int]) -> bool:
    return Tally.OTHERS in counts or any(name.startswith(f"{path}.") for name in counts)


def _of_overflow(
    fields: Mapping[str, tuple[Field, pa.Array]], overflow: pa.Array, rows: NDArray[np.int64], prefix: str
) -> Iterator[tuple[int, Change]]:
    """Yields the changes of the entries of one level's maps that are values of its fields."""
    pairs = as_pairs(overflow)
    entries = pairs.flatten()
    names = entries.field(0)
    positions = np.flatnonzero(mask_of(pc.is_in(names, pa.array(list(fields), pa.string()))))
    if not len(positions):
        return
    objects = np.repeat(np.arange(len(pairs)), _sizes(pairs))[positions]
    texts = entries.field(1).take(pa.array(positions)).to_pylist()
    absent: dict[str, NDArray[np.bool_]] = {}
    for number, name, text in zip(objects.tolist(), names.take(pa.array(positions)).to_pylist(), texts, strict=True):
        field, column = fields[name]
        if name not in absent:
            absent[name] = mask_of(column.is_null())
        change = NULLED if absent[name][number] else TRUNCATED
        yield int(rows[number]), Change(prefix + name, change, _reason(field.kind, text))


def _within(
    kind: Kind, column: pa.Array, rows: NDArray[np.int64], path: str, counts: Mapping[str, int]
) -> Iterator[tuple[int, Change]]:
    """Yields the changes of the records within a column."""
    if isinstance(kind, Record):
        yield from _of_level(kind, column.flatten(), rows, f"{path}.", counts)
    elif isinstance(kind, Array):
        yield from _within(kind.item, column.flatten(), np.repeat(rows, _sizes(column)), path, counts)
    elif isinstance(kind, Union) and pt.is_struct(column.type):
        for branch, member in zip(kind.branches, column.flatten(), strict=False):
            if branch.has_structure:
                yield from _within(branch, member, rows, path, counts)


def _sizes(lists: pa.Array) -> NDArray[np.int64]:
    sizes: NDArray[np.int64] = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    return sizes


def _is_long(text: str) -> bool:
    """Whether an integer has 64 bits. Python refuses to read integers of thousands of digits."""
    return len(text) <= _LONGEST_LONG and -(2**63) <= int(text) < 2**63


def _reason(kind: Kind, text: str) -> str:
    """Why a value did not land: it has the declared type and is too large or too precise, or another type."""
    branches = kind.as_branches()
    is_large = LONG in branches and _INTEGER.fullmatch(text) and not _is_long(text)
    is_precise = any(each in (DOUBLE, FLOAT) or isinstance(each, Decimal) for each in branches)
    return SIZE_LIMITATION if is_large or (is_precise and _NUMBER.fullmatch(text)) else SERIALIZATION_ERROR
