"""Groups the records of a batch by the values of the fields by which their stream is partitioned.

The values are those that the fields' columns would have: a text keeps its spelling, a number is written without zeros
before it, and what does not fit the declared type counts as null. Must not know: keys of objects, how batches are
encoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from msgspec import Raw
from numpy.typing import NDArray

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch
from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.arrow_types import is_any_string, unpacked, values_at
from s3dest_dagster.columns.binary_columns import NOTHING, OTHER, TEXT, as_object, json_texts, mask_of
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.kinds.temporal import DATE, TIMESTAMP, Temporal
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.level_plans import is_struct_name
from s3dest_dagster.columns.names import OVERFLOW_NAMES
from s3dest_dagster.columns.partition_kinds import TypedField, typed_fields
from s3dest_dagster.keys.directories import is_spelled
from s3dest_dagster.record_changes import selected_changes
from s3dest_dagster.settings.partition_fields import DateUnit, FieldValues, PartitionRule

_NO_TEXT = pa.scalar(None, pa.string())
_MICROS = pa.timestamp("us")
_LEAP_SECOND = r"([T ]\d\d:59):60(?:\.\d+)?"
_FINER_THAN_MICROS = r"(:\d\d\.\d{6})\d+"
_NARROW = 1 << 15
_COUNTABLE = 1 << 16
"""The most combinations of values that are counted one by one."""
_YEAR_DIGITS = 4
_BUCKETS: dict[DateUnit, tuple[int, str, str]] = {
    "hour": (3_600_000_000, "h", "h"),
    "day": (86_400_000_000, "D", "D"),
    "month": (86_400_000_000, "D", "M"),
    "year": (86_400_000_000, "D", "Y"),
}
"""For each unit: microseconds that are distinguished first, numpy's name of that many, and numpy's name of the unit."""


class Groups(NamedTuple):
    """The records of a batch by the values of their directories."""

    order: NDArray[np.int64] | None
    """The records, those with equal values side by side, otherwise in their order. None if that is the batch's own."""
    ends: list[int]
    """The number of records up to the end of each group."""
    values: list[FieldValues]
    """The values of each group."""


class RecordGrouper:
    """Groups the records of a stream's batches. Several threads may call `group` at the same time.

    Args:
        rule: The stream's rule, with at least one field.
        record: The stream's columns.
        stream: The stream's name, for errors.

    Raises:
        SettingsError: As `typed_fields`.
    """

    def __init__(self, rule: PartitionRule, record: Record, stream: str) -> None:
        self.fields = typed_fields(rule, record, stream)
        """The fields with their types, on which the groups depend."""
        self._paths = [field.names for field in self.fields]
        self._readers = [_FieldReader(field) for field in self.fields]
        self._texts_of = _texts_reader(self._paths)
        self._is_string = [field.kind == STRING and len(field.names) == 1 for field in self.fields]
        strings = {path[0] for path, is_string in zip(self._paths, self._is_string, strict=True) if is_string}
        is_readable = strings and all(is_struct_name(path[0]) for path in self._paths)
        self._strings_of = _texts_reader(self._paths, strings) if is_readable else None

    def group(self, batch: Batch) -> Groups:
        """The groups of a batch with at least one record."""
        return _groups(self._columns(batch), batch.num_rows)

    def group_columns(self, data: pa.RecordBatch) -> Groups | None:
        """The groups of a batch by the columns that it was converted to. None if they do not have the fields' types.

        That costs less than another look at the records. The groups are the same.
        """
        columns = [_column_at(data, field.columns) for field in self.fields]
        has_misfits = _has_misfits(data)
        if not all(reader.reads(column, has_misfits) for reader, column in zip(self._readers, columns, strict=True)):
            return None
        texts = [reader.of_column(column) for reader, column in zip(self._readers, columns, strict=True)]
        return _groups(texts, data.num_rows)

    def _columns(self, batch: Batch) -> list[pa.Array]:
        """The texts of each field, null for a value that names no directory."""
        if isinstance(batch, JsonBatch):
            return self._columns_of_texts(batch.raws)
        columns = (_column_at(batch.data, path) for path in self._paths)
        return [reader.of_arrow(column) for reader, column in zip(self._readers, columns, strict=True)]

    def _columns_of_texts(self, raws: Sequence[bytes]) -> list[pa.Array]:
        if (strings_of := self._strings_of) is not None:
            try:
                values = strings_of(raws)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._strings_of = None  # one value that is no text is seldom the only one
            else:
                fields = zip(self._readers, values, self._is_string, strict=True)
                return [
                    reader.of_strings(own) if is_string else reader.of_texts(own) for reader, own, is_string in fields
                ]
        return [reader.of_texts(own) for reader, own in zip(self._readers, self._texts_of(raws), strict=True)]


def _groups(columns: Sequence[pa.Array], rows: int) -> Groups:
    """The groups of records by the texts of their fields."""
    coded = [_coded(texts) for texts in columns]
    sizes = [len(texts) for texts, _ in coded]
    codes = coded[0][1]
    for size, (_, own) in zip(sizes[1:], coded[1:], strict=True):
        codes = codes * size + own
    if (codes == codes[0]).all():
        return Groups(None, [rows], [tuple(texts[own[0]] for texts, own in coded)])
    distinct, groups, counts = _counted(codes, math.prod(sizes))
    digits = zip(coded, _digits(distinct, sizes), strict=True)
    values = list(zip(*([texts[code] for code in own] for (texts, _), own in digits), strict=True))
    # Narrow integers are sorted by their digits.
    narrow: NDArray[np.integer] = groups.astype(np.int16 if len(distinct) < _NARROW else np.int64, copy=False)
    is_sorted = bool((narrow[1:] >= narrow[:-1]).all())
    return Groups(None if is_sorted else np.argsort(narrow, kind="stable"), np.cumsum(counts).tolist(), values)


def _counted(codes: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.integer], NDArray[np.int64]]:
    """The different codes in ascending order, the position of each record's code among them, and the records of each.

    All codes are below `size`. If there are few, they are counted, which costs less than sorting them.
    """
    if size > _COUNTABLE:
        return np.unique(codes, return_inverse=True, return_counts=True)
    counts = np.bincount(codes, minlength=size)
    distinct = np.flatnonzero(counts)
    positions = np.zeros(size, np.int32)
    positions[distinct] = np.arange(len(distinct))
    return distinct, positions[codes], counts[distinct]


def _digits(codes: NDArray[np.int64], sizes: Sequence[int]) -> list[list[int]]:
    """The code of each field in codes that were made of all."""
    digits: list[list[int]] = []
    for size in reversed(sizes):
        codes, own = np.divmod(codes, size)
        digits.append(own.tolist())
    return digits[::-1]


def in_order(batch: Batch, order: NDArray[np.int64]) -> Batch:
    """The batch with its records in another order. It has at least two."""
    emitted_at, changes = batch.emitted_at[order], selected_changes(batch.changes, order.tolist())
    if isinstance(batch, ArrowBatch):
        columns = [values_at(column, order) for column in batch.data.columns]
        return ArrowBatch(pa.RecordBatch.from_arrays(columns, schema=batch.data.schema), emitted_at, changes)
    raws = itemgetter(*order.tolist())(batch.raws)
    return replace(batch, raws=raws, emitted_at=emitted_at, changes=changes)


def _coded(texts: pa.Array) -> tuple[list[str | None], NDArray[np.int64]]:
    """The different values of a column, null last, and the position of each record's value among them."""
    encoded = texts.dictionary_encode()
    values: list[str | None] = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    unfit = [position for position, value in enumerate(values) if value is not None and not is_spelled(value)]
    if unfit:
        codes[np.isin(codes, unfit)] = len(values)
    return [*values, None], codes


# ---------------------------------------------------------------------- one field


class _FieldReader:
    """Reads one field as texts."""

    def __init__(self, field: TypedField) -> None:
        self._kind = field.kind
        self._unit, self._zone = field.rule.unit, field.rule.tz
        self._is_union = isinstance(field.kind, Union)
        is_dated = self._unit is not None and field.kind != DATE
        self._moments = field.kind if is_dated and isinstance(field.kind, Temporal) else None
        self._decoder = None if self._is_union else field.kind.decoder(Layout.NAMED, str(field.rule.field))

    def of_strings(self, values: Sequence[str | None]) -> pa.Array:
        """The texts of the values of a field of strings, None for null or a missing value."""
        return self._of_strings(pa.array(values, pa.string()))

    def of_texts(self, raws: Sequence[Any]) -> pa.Array:
        """The texts of JSON values."""
        if self._is_union:
            return self._of_strings(_scalar_texts(raws))
        assert self._decoder is not None, "only unions have none"
        values = self._decoder.decode(raws).data
        if self._moments is not None and values.null_count:
            values = _with_coarser(values, json_texts(raws).of_kind(TEXT), self._moments)
        return self.of_column(values)

    def of_arrow(self, column: pa.Array) -> pa.Array:
        """The texts of Arrow values."""
        column = unpacked(column)
        if self._decoder is None:
            return self.of_texts(texts_of_column(column))
        if self._moments is not None and is_any_string(column.type):
            return self.of_texts(texts_of_column(column))
        if self._moments is not None and pt.is_timestamp(column.type) and column.type.unit == "ns":
            column = pc.floor_temporal(column, unit="microsecond")
        return self.of_column(self._decoder.decode_arrow(column).data)

    def reads(self, column: pa.Array, has_misfits: bool) -> bool:
        """Whether `of_column` can read a column of converted records.

        A moment that is too fine for its column has a directory, and is null there.
        """
        if self._moments is not None and has_misfits and column.null_count:
            return False
        return self._decoder is not None and bool(column.type == self._decoder.type)

    def of_column(self, column: pa.Array) -> pa.Array:
        """The texts of a column of the kind's own type."""
        return self._of_strings(column) if self._kind == STRING else self._of_values(column)

    def _of_strings(self, strings: pa.Array) -> pa.Array:
        if self._unit is None:
            return strings
        moments = TIMESTAMP.column(strings)
        if moments.null_count > strings.null_count:
            moments = _with_coarser(moments, strings, TIMESTAMP)
        days = DATE.column(pc.if_else(moments.is_null(), strings, _NO_TEXT))
        if days.null_count == len(days):
            return self._of_values(moments)
        # A date alone is a day, whatever the zone.
        dated = pc.if_else(days.is_null(), _NO_TEXT, _parts(days.cast(_MICROS), self._unit))
        return pc.coalesce(self._of_values(moments), dated)

    def _of_values(self, values: pa.Array) -> pa.Array:
        """The texts of a column of the kind's own type, or of timestamps."""
        if pt.is_null(values.type):
            return pa.nulls(len(values), pa.string())
        if self._unit is None:
            return _mapped(values, lambda each: each.cast(pa.string()))
        if pt.is_timestamp(values.type) and values.type.tz is not None and self._zone != "UTC":
            values = pc.local_timestamp(values.cast(pa.timestamp("us", self._zone)))
        return _parts(
            values.cast(pa.timestamp("us", values.type.tz) if pt.is_timestamp(values.type) else _MICROS), self._unit
        )


def _with_coarser(moments: pa.Array, texts: pa.Array, kind: Temporal) -> pa.Array:
    """The moments, and those of texts that are too fine for their type: the directory of a moment needs no nanosecond.

    A leap second counts as the second before it.
    """
    is_finer = pc.match_substring_regex(texts, f"{_LEAP_SECOND}|{_FINER_THAN_MICROS}")
    missing = pc.and_(moments.is_null(), is_finer.fill_null(False))
    if not pc.any(missing).as_py():
        return moments
    coarser = pc.replace_substring_regex(pc.if_else(missing, texts, _NO_TEXT), _LEAP_SECOND, r"\1:59")
    coarser = pc.replace_substring_regex(coarser, _FINER_THAN_MICROS, r"\1")
    return pc.coalesce(moments, kind.column(coarser))


def _has_misfits(data: pa.RecordBatch) -> bool:
    """Whether converted records have values that did not fit their columns."""
    overflow = [data.column(name) for name in OVERFLOW_NAMES if name in data.schema.names]
    return any(column.null_count < len(column) for column in overflow)


def _scalar_texts(raws: Sequence[Any]) -> pa.Array:
    """The texts of JSON strings, and of whole numbers and booleans as they are spelled. Null for other values."""
    texts = json_texts(raws)
    if not (texts.kinds == OTHER).any():
        return texts.strings
    pattern = "^(?:-?[0-9]+|true|false)$"
    unfit = (texts.kinds == OTHER) & ~mask_of(pc.match_substring_regex(texts.strings, pattern))
    return texts.where(~unfit)


def _parts(moments: pa.Array, unit: DateUnit) -> pa.Array:
    """The year, month, day or hour of timestamps in microseconds. Null if the year has not four digits."""
    micros, finer, name = _BUCKETS[unit]
    buckets = moments.cast(pa.int64()).fill_null(0).to_numpy() // micros

    def spelled(distinct: pa.Array) -> pa.Array:
        dates = distinct.to_numpy().astype(f"datetime64[{finer}]").astype(f"datetime64[{name}]")
        texts = (str(each).replace("T", "-") for each in dates)
        return pa.array([each if _has_plain_year(each) else None for each in texts], pa.string())

    texts = _mapped(pa.array(buckets), spelled)
    return texts if not moments.null_count else pc.if_else(moments.is_valid(), texts, _NO_TEXT)


def _has_plain_year(date: str) -> bool:
    """Whether the year has four digits, as in keys. A time zone can lead beyond."""
    year, _, _ = date.partition("-")
    return len(year) == _YEAR_DIGITS


def _mapped(values: pa.Array, text_of: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """The texts of a column's values, each made once."""
    encoded = values.dictionary_encode()
    return text_of(encoded.dictionary).take(encoded.indices)


# ---------------------------------------------------------------------- reading fields


def _texts_reader(
    paths: Sequence[tuple[str, ...]], strings: Collection[str] = ()
) -> Callable[[Sequence[bytes]], list[list[Any]]]:
    """A function that reads the JSON texts at these paths from records, path by path.

    The root members `strings` are read as `str`, or None. That costs less, and raises msgspec.DecodeError if one of
    them is neither a string nor null.
    """
    roots = list(dict.fromkeys(path[0] for path in paths))
    members = _members_reader(roots, strings)

    def read(raws: Sequence[bytes]) -> list[list[Any]]:
        values = dict(zip(roots, members(raws), strict=True))
        return [_texts_within(values[path[0]], path[1:]) for path in paths]

    return read


def _texts_within(raws: list[Any], names: tuple[str, ...]) -> list[Any]:
    for name in names:
        raws = [as_object(raw).get(name, NOTHING) if bytes(raw[:1]) == b"{" else NOTHING for raw in map(bytes, raws)]
    return raws


def _members_reader(names: Sequence[str], strings: Collection[str]) -> Callable[[Sequence[bytes]], list[list[Any]]]:
    """A function that reads the root members of these names, those of `strings` as `str` if it can."""
    if not all(map(is_struct_name, names)):
        return lambda raws: _transposed(names, [as_object(raw) for raw in raws])
    fields = [
        (f"field{number}", *((str | None, None) if name in strings else (Raw, NOTHING)))
        for number, name in enumerate(names)
    ]
    renamed = {field[0]: name for field, name in zip(fields, names, strict=True)}
    row = msgspec.defstruct("PartitionFields", fields, rename=renamed, gc=False)
    decode = msgspec.json.Decoder(row).decode
    getters = [attrgetter(field[0]) for field in fields]

    def read(raws: Sequence[bytes]) -> list[list[Any]]:
        if len(getters) == 1:
            return [list(map(getters[0], map(decode, raws)))]
        rows = list(map(decode, raws))
        return [list(map(getter, rows)) for getter in getters]

    return read


def _transposed(names: Sequence[str], rows: Sequence[dict[str, Raw]]) -> list[list[Any]]:
    return [[row.get(name, NOTHING) for row in rows] for name in names]


def _column_at(data: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    """The Arrow column at a path; nulls if there is none."""
    column: pa.Array | None = None
    number = data.schema.get_field_index(path[0])
    column = data.column(number) if number >= 0 else None
    for name in path[1:]:
        column = unpacked(column) if column is not None else None
        if column is None or not pt.is_struct(column.type) or (number := column.type.get_field_index(name)) < 0:
            column = None
            break
        column = column.flatten()[number]
    return pa.nulls(data.num_rows) if column is None else column
