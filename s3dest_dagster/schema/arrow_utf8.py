"""Whether the texts of Arrow columns are UTF-8: Arrow takes whatever a source put there. It must not know kinds."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.errors import RecordError
from s3dest_dagster.schema.arrow_texts import as_list_column, is_any_list, is_any_string, unpacked


def refuse_invalid_utf8(data: pa.RecordBatch) -> None:
    """Raise RecordError, naming the field (nested: its dotted path), when a text of the batch is not valid UTF-8."""
    for name, column in zip(data.schema.names, data.columns, strict=True):
        _refuse_in(column, name)


def _refuse_in(column: pa.Array, path: str) -> None:
    if not _may_hold_texts(column.type):
        return
    column = unpacked(column)
    if pt.is_struct(column.type):
        for field, child in zip(column.type, column.flatten(), strict=True):
            _refuse_in(child, f"{path}.{field.name}")
    elif pt.is_map(column.type):
        pair = pa.struct([pa.field("key", column.type.key_type), pa.field("value", column.type.item_type)])
        for part in column.cast(pa.list_(pair)).flatten().flatten():
            _refuse_in(part, path)
    elif is_any_list(column.type):
        _refuse_in(as_list_column(column).flatten(), f"{path}[]")
    elif is_any_string(column.type):
        _refuse_texts(column, path)


def _may_hold_texts(type_: pa.DataType) -> bool:
    """Whether it is worth unpacking: most columns are plain numbers."""
    return not pt.is_primitive(type_)


def _refuse_texts(column: pa.Array, path: str) -> None:
    try:
        column.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        raise RecordError(
            f"Field {path!r} holds a text that is not valid UTF-8. Decode it in the source with the encoding that it "
            "has, or make the column binary."
        ) from None
