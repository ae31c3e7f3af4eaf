"""Whether the texts of Arrow columns are UTF-8: Arrow takes whatever a source put there. It must not know kinds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.errors import RecordError
from s3dest_dagster.schema.arrow_storage import as_list_column, as_pairs, is_any_list, is_any_string, unpacked
from s3dest_dagster.schema.json_texts import Rows


def refuse_invalid_utf8(data: pa.RecordBatch) -> None:
    """Raise RecordError when a text of the batch is not valid UTF-8, naming its field (nested: the dotted path) and the
    number of its record in the batch."""
    for name, column in zip(data.schema.names, data.columns, strict=True):
        _refuse_in(column, name, np.arange(len(column)))


def _refuse_in(column: pa.Array, path: str, records: Rows) -> None:
    """`records` are the rows of the batch that the values belong to."""
    if pt.is_primitive(column.type):
        return
    column = unpacked(column)
    if pt.is_struct(column.type):
        for field, child in zip(column.type, column.flatten(), strict=True):
            _refuse_in(child, f"{path}.{field.name}", records)
    elif pt.is_map(column.type):
        for part in as_pairs(column).flatten().flatten():
            _refuse_in(part, path, _of_items(as_pairs(column), records))
    elif is_any_list(column.type):
        lists = as_list_column(column)
        _refuse_in(lists.flatten(), f"{path}[]", _of_items(lists, records))
    elif pt.is_union(column.type) and column.type.mode == "sparse":
        for number in range(column.type.num_fields):
            _refuse_in(column.field(number), path, records)
    elif is_any_string(column.type):
        _refuse_texts(column, path, records)


def _of_items(column: pa.ListArray, records: Rows) -> Rows:
    return np.repeat(records, column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))


def _refuse_texts(column: pa.Array, path: str, records: Rows) -> None:
    contents = column.cast(pa.large_binary())
    try:
        contents.cast(pa.large_string())
    except pa.ArrowInvalid:
        place = next(place for place, text in enumerate(contents.to_pylist()) if not _is_utf8(text or b""))
        raise RecordError(
            f"Field {path!r} holds a text that is not valid UTF-8 in record {records[place] + 1} of a batch (half of a "
            "surrogate pair is no UTF-8 either). Decode it in the source with the encoding that it has, or make the "
            "column binary."
        ) from None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
