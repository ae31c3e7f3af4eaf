"""Finds NaN and infinities, in JSON texts and in Arrow data, and replaces them with null.

JSON has no such numbers, but many programs write them. Must not know: what is done about them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.batch import ArrowBatch, BadRecord, FiniteRecord
from s3dest_dagster.columns.arrow_json_texts import Spelled, object_texts
from s3dest_dagster.columns.arrow_types import (
    as_list_column,
    as_pairs,
    is_any_list,
    is_document,
    union_positions,
    unpacked,
)
from s3dest_dagster.columns.binary_columns import Mask, as_text, mask_of, pieces
from s3dest_dagster.record_changes import Changes, nulled

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
    others = _selected(batch.data, odd)
    raws = pieces(object_texts(others.schema.names, others.columns, others.num_rows, _AsWritten()))
    times = batch.emitted_at[odd].tolist()
    rows = (others.slice(row, 1) for row in range(others.num_rows))
    finite = ArrowBatch(_selected(batch.data, ~odd), batch.emitted_at[~odd])
    return SplitBatch(finite, tuple(map(_bad_record, rows, raws, times)))


class _AsWritten(Spelled):
    """Keeps documents with such numbers as texts."""

    def document(self, text: bytes, problem: str, path: str) -> bytes:
        return msgspec.json.encode(text.decode())


def _selected(data: pa.RecordBatch, rows: Mask) -> pa.RecordBatch:
    """These rows. Arrow's filter does not know run-end encoding, its slices do."""
    edges = np.flatnonzero(np.diff(rows.astype(np.int8), prepend=0, append=0)).reshape(-1, 2).tolist()
    return pa.concat_batches([data.slice(start, end - start) for start, end in edges] or [data.slice(0, 0)])


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


def non_finite_changes(data: pa.RecordBatch) -> Changes:
    """The changes of the records in which `finite_batch` puts null in place of NaN and infinities."""
    fields: defaultdict[int, list[str]] = defaultdict(list)
    for name, column in zip(data.schema.names, data.columns, strict=True):
        for row in np.flatnonzero(_odd_rows(column)).tolist():
            within: Counter[str] = Counter()
            _finite(column.slice(row, 1), name, within)
            fields[row] += within
    return {row: nulled(names) for row, names in fields.items()}


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
    made = _finite_within(decoded, path, counts)
    return column if counts.total() == before else made


def _finite_within(column: pa.Array, path: str, counts: Counter[str]) -> pa.Array:
    if is_document(column.type):
        return _finite_documents(column, path, counts)
    return (_finite_union if pt.is_union(column.type) else _finite_nested)(column, path, counts)


def _finite_documents(column: pa.Array, path: str, counts: Counter[str]) -> pa.Array:
    texts = column.storage.cast(pa.large_string())
    found = texts.to_pylist()
    for row in pc.indices_nonzero(pc.match_substring_regex(texts, "NaN|Infinity").fill_null(False)).to_pylist():
        text, paths = finite_text(found[row].encode())
        found[row] = text.decode()
        counts.update(field_of((path, *names)) for names in paths)
    return pa.ExtensionArray.from_storage(column.type, pa.array(found, column.type.storage_type))


def _finite_union(column: pa.UnionArray, path: str, counts: Counter[str]) -> pa.Array:
    """The union, whose numbers are counted only where a row holds them."""
    type_ = column.type
    codes, positions = union_positions(column)
    children = [column.field(number) for number in range(type_.num_fields)]
    for code, child in zip(type_.type_codes, children, strict=True):
        held = positions[codes == code]
        for position in held[_odd_rows(child)[held]].tolist():
            _finite(child.slice(position, 1), path, counts)
    finite = [_finite(child, path, Counter()) for child in children]
    names = [type_.field(number).name for number in range(type_.num_fields)]
    if type_.mode == "sparse":
        return pa.UnionArray.from_sparse(pa.array(codes), finite, names, type_.type_codes)
    return pa.UnionArray.from_dense(pa.array(codes), pa.array(positions), finite, names, type_.type_codes)


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
        return is_document(type_) or _may_be_odd(type_.storage_type)
    if pt.is_dictionary(type_) or pt.is_run_end_encoded(type_):
        return _may_be_odd(type_.value_type)
    if pt.is_struct(type_) or pt.is_union(type_):
        return any(_may_be_odd(type_.field(number).type) for number in range(type_.num_fields))
    if pt.is_map(type_):
        return _may_be_odd(type_.item_type)
    return _may_be_odd(type_.value_type) if is_any_list(type_) else bool(pt.is_floating(type_))
