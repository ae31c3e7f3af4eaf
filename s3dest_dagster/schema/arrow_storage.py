"""Arrow types that store one kind of value in several ways, and the way that all others are brought to.

It must not know JSON, kinds or fields.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt


def unpacked(column: pa.Array) -> pa.Array:
    """Dictionaries, run ends and extensions as the values that they stand for."""
    if isinstance(column.type, pa.BaseExtensionType):
        return unpacked(column.storage)
    if pt.is_dictionary(column.type):
        return unpacked(column.dictionary_decode())
    return unpacked(pc.run_end_decode(column)) if pt.is_run_end_encoded(column.type) else column


def is_any_list(type_: pa.DataType) -> bool:
    """Whether values are lists, however they are stored."""
    tests = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return any(test(type_) for test in tests)


def is_any_string(type_: pa.DataType) -> bool:
    """Whether values are texts, however they are stored."""
    return bool(pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_))


def is_any_binary(type_: pa.DataType) -> bool:
    """Whether values are bytes, however they are stored."""
    tests = (pt.is_binary, pt.is_large_binary, pt.is_fixed_size_binary, pt.is_binary_view)
    return any(test(type_) for test in tests)


def as_list_column(column: pa.Array) -> pa.ListArray:
    """A column of any kind of lists with 32-bit offsets."""
    return column if pt.is_list(column.type) else column.cast(pa.list_(column.type.value_type))


def as_pairs(column: pa.MapArray) -> pa.ListArray:
    """A column of maps as lists of structs `key`, `value`."""
    pair = pa.struct([pa.field("key", column.type.key_type), pa.field("value", column.type.item_type)])
    return column.cast(pa.list_(pair))
