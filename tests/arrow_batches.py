"""Arrow data of every type for property tests: views, dictionaries, nested values, numbers and days at their limits."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", '"', '""', "\\", "a,b", "a\r\nb", "\x00", "\x1f\x7f", "null", "true", "1.5", "é\u2028", "\ufeffx", " x "]
)
_BYTES = st.binary(max_size=6)
_DAY = 86_400
_DEPTH = 2
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _as_float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(1.5, value)


def _moments(unit: str) -> st.SearchStrategy[int]:
    """Stored numbers of timestamps, mostly within the years 1 to 9999, some of them whole seconds."""
    per_second = _PER_SECOND[unit]
    first = max(_FIRST_DAY * _DAY * per_second, -(2**63))
    last = min((_LAST_DAY + 1) * _DAY * per_second - 1, 2**63 - 1)
    recent = st.integers(1_600_000_000, 1_600_000_003).map(lambda second: second * per_second)
    thousands = st.integers(-5_000, 5_000).map(lambda number: number * max(per_second // 1_000, 1))
    return st.integers(first, last) | recent | thousands | st.sampled_from([first, last, -1, 0])


def _of_storage(values: st.SearchStrategy[int], type_: pa.DataType) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
    """A temporal type with its stored integers. `_array` makes the column."""
    return type_, values


def _scalars() -> list[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    units = ("s", "ms", "us", "ns")
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return [
        *((getattr(pa, f"int{bits}")(), _signed(bits)) for bits in (8, 16, 32, 64)),
        *((getattr(pa, f"uint{bits}")(), st.integers(0, 2**bits - 1)) for bits in (8, 16, 32, 64)),
        (pa.float64(), finite | st.floats(-1e6, 1e6).map(lambda value: round(value, 2))),
        (pa.float64(), finite),
        (pa.float32(), finite.map(_as_float32)),
        (pa.bool_(), st.booleans()),
        *((type_, _TEXT) for type_ in (pa.string(), pa.string(), pa.string(), pa.large_string(), pa.string_view())),
        *((type_, _BYTES) for type_ in (pa.binary(), pa.large_binary(), pa.binary_view())),
        (pa.binary(3), st.binary(min_size=3, max_size=3)),
        (pa.decimal128(20, 4), st.decimals(-(10**15), 10**15, places=4)),
        (pa.decimal256(50, 0), _signed(150).map(Decimal)),
        (pa.date32(), st.integers(_FIRST_DAY, _LAST_DAY) | st.integers(19_000, 19_010)),
        (pa.date64(), st.integers(-1_000, 1_000).map(lambda day: day * _DAY * 1_000) | st.integers(-(10**12), 10**12)),
        *((pa.timestamp(unit, zone), _moments(unit)) for unit in units for zone in (None, "UTC", "Asia/Kathmandu")),
        *((pa.time32(unit), st.integers(0, _DAY * _PER_SECOND[unit] - 1)) for unit in ("s", "ms")),
        *((pa.time64(unit), st.integers(0, _DAY * _PER_SECOND[unit] - 1)) for unit in ("us", "ns")),
        (pa.time64("ns"), st.integers(0, _DAY * 10**6 - 1).map(lambda number: number * 1_000)),
        (pa.duration("ms"), _signed(64)),
        (pa.month_day_nano_interval(), st.tuples(_signed(32), _signed(32), _signed(64))),
        (pa.null(), st.none()),
    ]


def _array(values: list[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_temporal(type_) and not pa.types.is_interval(type_):
        width = pa.int32() if type_.bit_width == 32 else pa.int64()
        return pa.array(values, width).cast(type_)
    return pa.array(values, type_)


@st.composite
def scalar_columns(draw: st.DrawFn, rows: int) -> pa.Array:
    """A column of a type without inner structure, with nulls or without."""
    type_, values = draw(st.sampled_from(_scalars()))
    values = draw(st.sampled_from([values, st.none() | values]))
    return _array(draw(st.lists(values, min_size=rows, max_size=rows)), type_)


@st.composite
def columns(draw: st.DrawFn, rows: int, depth: int = _DEPTH) -> pa.Array:
    """A column of any type."""
    shape = draw(st.sampled_from(["scalar"] * 4 + ["struct", "list", "list", "map", "union", "coded", "runs", "odd"]))
    if shape == "odd":
        return draw(_odd(rows))
    if shape in ("coded", "runs") and rows:
        return draw(_compressed(rows, shape))
    # pyarrow aborts the process for a union in a struct with nulls, and cannot decode a dictionary of views.
    if depth and (shape in ("struct", "list", "map") or (shape == "union" and depth == _DEPTH)):
        return draw(_nested(rows, depth, shape))
    return draw(scalar_columns(rows))


@st.composite
def _odd(draw: st.DrawFn, rows: int) -> pa.Array:
    """Values that JSON cannot write, and JSON documents as their source spells them."""
    if draw(st.booleans()):
        type_, value = draw(
            st.sampled_from([(pa.float64(), math.inf), (pa.timestamp("s"), 2**60), (pa.date32(), 2**30)])
        )
        return _array([value if number == rows - 1 else None for number in range(rows)], type_)
    documents = st.none() | st.sampled_from(["1", ' {"a": "b c"} ', "null", '"x"', "[1,\n 2]", "true"])
    return pa.array(draw(st.lists(documents, min_size=rows, max_size=rows)), pa.json_())


@st.composite
def _compressed(draw: st.DrawFn, rows: int, shape: str) -> pa.Array:
    values = draw(
        scalar_columns(3).filter(lambda column: not any(word in str(column.type) for word in ("view", "date64")))
    )
    positions = sorted(draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)))
    if shape == "coded":
        codes = [draw(st.none() | st.just(position)) for position in positions]
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int16()), values)
    ends = pa.array([rows // 3, 2 * rows // 3, rows] if rows > 2 else [rows], pa.int32())
    return pa.RunEndEncodedArray.from_arrays(ends, values.slice(0, len(ends)))


@st.composite
def _nested(draw: st.DrawFn, rows: int, depth: int, shape: str) -> pa.Array:
    absent = pa.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), pa.bool_())
    if shape == "struct":
        names = draw(st.lists(_TEXT, max_size=3, unique=True))
        made = [draw(columns(rows, depth - 1)) for _ in names]
        fields = [pa.field(name, column.type) for name, column in zip(names, made, strict=True)]
        return (
            pa.StructArray.from_arrays(made, fields=fields, mask=absent)
            if fields
            else pa.array([{}] * rows, pa.struct([]))
        )
    lengths = draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    offsets = [sum(lengths[:row]) for row in range(rows + 1)]
    items = draw(columns(offsets[-1], depth - 1))
    if shape == "list":
        made = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, mask=absent)
        return draw(st.sampled_from([made, made.cast(pa.large_list(items.type))]))
    if shape == "map":
        keys = pa.array([f'{number}"' for number in range(offsets[-1])], pa.string())
        return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, items)
    codes = pa.array(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)), pa.int8())
    return pa.UnionArray.from_sparse(codes, [draw(scalar_columns(rows)), draw(scalar_columns(rows))])


@st.composite
def record_batches(draw: st.DrawFn) -> pa.RecordBatch:
    """A batch of one to eight records, which may be a slice of a longer one."""
    rows = draw(st.integers(1, 8))
    names = draw(st.lists(_TEXT | st.sampled_from(["id", "_airbyte_data", "_airbyte_ab_id"]), max_size=5, unique=True))
    batch = pa.RecordBatch.from_arrays([draw(columns(rows)) for _ in names], names=names)
    if not names:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    start = draw(st.integers(0, rows - 1))
    return batch.slice(start, draw(st.integers(1, rows - start)))
