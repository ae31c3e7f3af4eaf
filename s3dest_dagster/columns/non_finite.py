"""Finds NaN and infinities, in JSON texts and in Arrow data, and replaces them with null.

JSON has no such numbers, but many programs write them. Must not know: what is done about them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.batch import ArrowBatch, BadRecord, FiniteRecord
from s3dest_dagster.columns.arrow_json_texts import Spelled, object_texts
from s3dest_dagster.columns.arrow_types import as_list_column, as_pairs, is_any_list, unpacked
from s3dest_dagster.columns.binary_columns import Mask, as_text, mask_of, pieces

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],]|-?(?:NaN|Infinity)', re.DOTALL)
_REASON = "{} is not a finite number, which JSON has no word for"


class FiniteText(NamedTuple):
    """A text in which NaN and infinities are null."""

    text: bytes
    paths: tuple[tuple[str, ...], ...]
    """The names that lead to every such number. An item of a list has the name `[]`."""


def finite_text(text: bytes) -> FiniteText:
    """A text that is JSON but for NaN, Infinity and -Infinity, with null in their places."""
    parts: list[bytes] = []
    paths: list[tuple[str, ...]] = []
    names: list[str | None] = []
    is_name = False
    end = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == b"{":
            names.append(None)
        elif token == b"[":
            names.append("[]")
        elif token in (b"}", b"]"):
            del names[-1:]
        elif token != b"," and not token.startswith(b'"'):
            paths.append(tuple(name or "" for name in names))
            parts += [text[end : match.start()], b"null"]
            end = match.end()
        elif is_name:
            names[-1] = as_text(token)
        is_name = token == b"{" or (token == b"," and bool(names) and names[-1] != "[]")
    return FiniteText(b"".join([*parts, text[end:]]), tuple(paths))


def field_of(path: tuple[str, ...]) -> str:
    """The dotted name of a field."""
    return ".".join(path).replace(".[]", "[]")


def reason_of(fields: tuple[str, ...]) -> str:
    """Why a record with these fields is bad."""
    return _REASON.format(f"field {fields[0]!r}")


# ---------------------------------------------------------------------- Arrow data


class SplitBatch(NamedTuple):
    """The rows of a batch, apart from those with NaN or infinite numbers."""

    finite: ArrowBatch
    bad: tuple[BadRecord, ...]


def split_batch(batch: ArrowBatch) -> SplitBatch:
    """The rows with finite numbers, and the others as bad records."""
    odd = np.zeros(batch.num_rows, np.bool_)
    for column in batch.data.columns:
        odd |= _odd_rows(column)
    if not odd.any():
        return SplitBatch(batch, ())
    others = batch.data.filter(pa.array(odd))
    raws = pieces(object_texts(others.schema.names, others.columns, others.num_rows, Spelled()))
    times = batch.emitted_at[odd].tolist()
    rows = (others.slice(row, 1) for row in range(others.num_rows))
    finite = ArrowBatch(batch.data.filter(pa.array(~odd)), batch.emitted_at[~odd])
    return SplitBatch(finite, tuple(map(_bad_record, rows, raws, times)))


def _bad_record(row: pa.RecordBatch, raw: bytes, emitted_at: int) -> BadRecord:
    finite, counts = finite_batch(ArrowBatch(row, np.array([emitted_at])))
    (text,) = pieces(object_texts(finite.data.schema.names, finite.data.columns, 1, Spelled()))
    fields = tuple(counts.elements())
    return BadRecord(None, raw, reason_of(fields), finite=FiniteRecord(text, emitted_at, fields))


def finite_batch(batch: ArrowBatch) -> tuple[ArrowBatch, Counter[str]]:
    """The batch with null in place of NaN and infinities, and their number by field."""
    counts: Counter[str] = Counter()
    names = batch.data.schema.names
    columns = [_finite(column, name, counts) for name, column in zip(names, batch.data.columns, strict=True)]
    if not counts:
        return batch, counts
    return ArrowBatch(pa.RecordBatch.from_arrays(columns, names=names), batch.emitted_at), counts


def _finite(column: pa.Array, path: str, counts: Counter[str]) -> pa.Array:
    """The column with null in place of NaN and infinities, which are counted. Without any, it is the same column."""
    if not _may_be_odd(column.type):
        return column
    decoded = unpacked(column)
    if pt.is_floating(decoded.type):
        odd = _beyond(decoded)
        count = pc.sum(odd).as_py() or 0
        counts.update({path: count} if count else {})
        return pc.if_else(odd, pa.scalar(None, decoded.type), decoded) if count else column
    before = counts.total()
    made = _finite_nested(decoded, path, counts)
    return column if counts.total() == before else made


def _finite_nested(column: pa.Array, path: str, counts: Counter[str]) -> pa.Array:
    absent = column.is_null() if column.null_count else None
    if pt.is_struct(column.type):
        names = [field.name for field in column.type]
        members = [_finite(part, f"{path}.{name}", counts) for name, part in zip(names, column.flatten(), strict=True)]
        return pa.StructArray.from_arrays(members, names=names, mask=absent)
    pairs = pt.is_map(column.type)
    lists = as_pairs(column) if pairs else as_list_column(column)
    items = lists.flatten()
    if pairs:
        values = _finite(items.field(1), path, counts)
        offsets = _offsets(lists)
        return pa.MapArray.from_arrays(offsets, items.field(0), values)
    return pa.ListArray.from_arrays(_offsets(lists), _finite(items, f"{path}[]", counts))


def _offsets(lists: pa.Array) -> pa.Array:
    """The offsets of lists whose items are flattened, null for null lists."""
    sizes = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    absent = np.append(mask_of(lists.is_null()), False)
    return pa.array(ends, pa.int32(), mask=absent)


def _odd_rows(column: pa.Array) -> Mask:
    """True for the rows with NaN or infinite numbers, at any depth."""
    odd = np.zeros(len(column), np.bool_)
    if _may_be_odd(column.type):
        for row in _rows_within(column, 0):
            odd[row] = True
    return odd


def _rows_within(column: pa.Array, start: int) -> Iterator[int]:
    """Yields the rows with such numbers, by halving the column. Their numbers begin with `start`."""
    decoded = unpacked(column)
    if pt.is_floating(decoded.type):
        yield from (start + np.flatnonzero(mask_of(_beyond(decoded)))).tolist()
        return
    counts: Counter[str] = Counter()
    _finite(decoded, "", counts)
    if counts and len(decoded) == 1:
        yield start
    elif counts:
        half = len(decoded) // 2
        yield from _rows_within(decoded.slice(0, half), start)
        yield from _rows_within(decoded.slice(half), start + half)


def _beyond(column: pa.Array) -> pa.Array:
    wide = column.cast(pa.float32()) if pt.is_float16(column.type) else column
    return pc.fill_null(pc.invert(pc.is_finite(wide)), False)


def _may_be_odd(type_: pa.DataType) -> bool:
    """Whether values of this type may contain floats."""
    if isinstance(type_, pa.BaseExtensionType):
        return _may_be_odd(type_.storage_type)
    if pt.is_dictionary(type_) or pt.is_run_end_encoded(type_):
        return _may_be_odd(type_.value_type)
    if pt.is_struct(type_):
        return any(_may_be_odd(field.type) for field in type_)
    if pt.is_map(type_):
        return _may_be_odd(type_.item_type)
    return _may_be_odd(type_.value_type) if is_any_list(type_) else bool(pt.is_floating(type_))
