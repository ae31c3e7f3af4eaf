"""Arrow extension types: columns by their meaning, not by how they are stored.

- UUIDs and pandas Periods become their texts, as such values of Python do; bool8 becomes boolean.
- JSON keeps its type: its values are JSON values, not texts.
- Types of other names become what they are stored as if that is a text or a moment, and geometries (GeoArrow) in any
  case. All others are refused, since nothing here can say what the stored bytes or numbers mean.

A type that pyarrow does not know is recognised by its field's metadata. Must not know: JSON schemas, kinds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_types import (
    as_list_column,
    as_pairs,
    is_any_list,
    is_any_string,
    is_document,
    is_moment,
    unpacked,
)
from s3dest_dagster.columns.schemas import record_id_column, uuid_texts
from s3dest_dagster.errors import RecordError

_NAME, _PARAMETERS = b"ARROW:extension:name", b"ARROW:extension:metadata"
_UUID_BYTES = 16
_STORED_ALIKE = ("geoarrow.", "ogc.")
"""The beginnings of names of types whose stored values are the usual form: WKB, or coordinates."""


def by_meaning(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with plain types, and JSON, in place of extension types at every level.

    Raises RecordError, which names the column, for a type whose meaning is not known.
    """
    if not any(map(_is_extended, batch.schema)):
        return batch
    columns = [_plain(column, field, field.name) for column, field in zip(batch.columns, batch.schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _is_extended(field: pa.Field) -> bool:
    return _extension_name(field) is not None or any(map(_is_extended, _children(field.type)))


def _extension_name(field: pa.Field) -> str | None:
    """The name of the field's extension type; None if it has none."""
    if isinstance(field.type, pa.BaseExtensionType):
        return str(getattr(field.type, "extension_name", field.type))
    name = (field.metadata or {}).get(_NAME)
    return None if name is None else name.decode()


def _children(type_: pa.DataType) -> Iterator[pa.Field]:
    """Yields the fields within a type."""
    if pt.is_dictionary(type_) or pt.is_run_end_encoded(type_):
        yield pa.field("", type_.value_type)
    elif pt.is_map(type_):
        yield from (type_.key_field, type_.item_field)
    elif is_any_list(type_):
        yield type_.value_field
    elif pt.is_nested(type_):
        yield from (type_.field(number) for number in range(type_.num_fields))


def _plain(column: pa.Array, field: pa.Field, path: str) -> pa.Array:
    """The column with plain types, at every level."""
    if not _is_extended(field):
        return column
    if (name := _extension_name(field)) is not None:
        if is_document(column.type):
            return column
        stored = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
        return _MEANINGS.get(name, _of_unknown)(stored, field, path)
    if pt.is_dictionary(column.type):
        return _plain(column.dictionary_decode(), field.with_type(column.type.value_type), path)
    if pt.is_run_end_encoded(column.type):
        return _plain(pc.run_end_decode(column), field.with_type(column.type.value_type), path)
    if pt.is_struct(column.type):
        return _plain_struct(column, path)
    if pt.is_map(column.type):
        return _plain_map(column, path)
    if is_any_list(column.type):
        return _plain_list(as_list_column(column), field.type.value_field, path)
    return _of_unknown(column, field, path)


def _plain_struct(column: pa.StructArray, path: str) -> pa.Array:
    fields = list(_children(column.type))
    members = [_plain(column.field(number), field, f"{path}.{field.name}") for number, field in enumerate(fields)]
    return pa.StructArray.from_arrays(members, names=[field.name for field in fields], mask=column.is_null())


def _plain_list(column: pa.ListArray, item: pa.Field, path: str) -> pa.Array:
    items = _plain(column.flatten(), item, f"{path}[]")
    return pa.ListArray.from_arrays(pa.array(_offsets(column)), items, mask=column.is_null())


def _plain_map(column: pa.MapArray, path: str) -> pa.Array:
    pairs = as_pairs(column)
    flat = pairs.flatten()
    keys, items = (_plain(flat.field(number), field, path) for number, field in enumerate(_children(column.type)))
    absent = np.append(column.is_null().to_numpy(zero_copy_only=False), False)
    return pa.MapArray.from_arrays(pa.array(_offsets(pairs), mask=absent), keys, items)


def _offsets(column: pa.ListArray) -> np.ndarray[Any, Any]:
    """The offsets of the rows' items among all items that are left when null rows are dropped."""
    sizes = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes, dtype=np.int32)])


# ---------------------------------------------------------------------- meanings


def _uuid(stored: pa.Array, field: pa.Field, path: str) -> pa.Array:
    stored = unpacked(stored)
    if not pt.is_fixed_size_binary(stored.type) or stored.type.byte_width != _UUID_BYTES:
        return _of_unknown(stored, field, path)
    whole = stored.fill_null(bytes(_UUID_BYTES)) if stored.null_count else stored
    held = np.frombuffer(whole.buffers()[1], np.uint8)[whole.offset * _UUID_BYTES :][: len(whole) * _UUID_BYTES]
    texts = record_id_column(uuid_texts(held.reshape(-1, _UUID_BYTES)))
    return pc.if_else(stored.is_valid(), texts, pa.scalar(None, pa.string())) if stored.null_count else texts


def _boolean(stored: pa.Array, field: pa.Field, path: str) -> pa.Array:
    return pc.not_equal(unpacked(stored), pa.scalar(0, pa.int8()))


def _period(stored: pa.Array, field: pa.Field, path: str) -> pa.Array:
    """The texts that pandas has for its Periods ("2024-01", "2024Q1")."""
    try:
        periods = import_module("pandas").PeriodIndex
        distinct = pc.unique(stored.drop_null())
        values = periods.from_ordinals(distinct.to_numpy(zero_copy_only=False), freq=_parameters(field)["freq"])
    except (ImportError, AttributeError, KeyError, ValueError):
        return _refused(field, path)
    positions = pc.index_in(stored, distinct)
    return pa.array([str(value) for value in values], pa.string()).take(positions)


def _tensor(stored: pa.Array, field: pa.Field, path: str) -> pa.Array:
    """Lists, if the tensors have one dimension."""
    dimensions = getattr(field.type, "shape", None) or _parameters(field).get("shape", ())
    return stored if len(dimensions) == 1 else _refused(field, path)


def _of_unknown(stored: pa.Array, field: pa.Field, path: str) -> pa.Array:
    type_ = unpacked(stored[:0]).type
    is_plain = is_any_string(type_) or is_moment(type_) or pt.is_boolean(type_)
    is_plain = is_plain or (_extension_name(field) or "").startswith(_STORED_ALIKE)
    return stored if is_plain else _refused(field, path)


def _refused(field: pa.Field, path: str) -> pa.Array:
    stored = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    raise RecordError(
        f"Column {path!r} has the Arrow extension type {_extension_name(field) or str(field.type)!r}, stored as "
        f"{stored}, and what its values mean is not known here. Convert it in the source to text, numbers or another "
        "plain type."
    )


def _parameters(field: pa.Field) -> dict[str, Any]:
    """The parameters of an extension type."""
    if isinstance(field.type, pa.BaseExtensionType):
        serialize = getattr(field.type, "__arrow_ext_serialize__", bytes)
        text = serialize()
    else:
        text = (field.metadata or {}).get(_PARAMETERS, b"")
    try:
        parameters = json.loads(text)
    except ValueError:
        return {}
    return parameters if isinstance(parameters, dict) else {}


_MEANINGS: dict[str, Callable[[pa.Array, pa.Field, str], pa.Array]] = {
    "arrow.uuid": _uuid,
    "arrow.bool8": _boolean,
    "arrow.fixed_shape_tensor": _tensor,
    "pandas.period": _period,
}
