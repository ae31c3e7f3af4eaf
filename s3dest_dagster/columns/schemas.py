"""The external forms of a record type: its Avro and Arrow schemas, its columns in words, and the envelope columns.

The envelope is the first columns of every record: its id and the time of emission, or nothing. Must not know: records'
data.
"""

from __future__ import annotations

import json
from binascii import hexlify
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.record_changes import Change
from s3dest_dagster.settings.formats import EnvelopeName

RECORD_ID = "_airbyte_ab_id"
EMITTED_AT = "_airbyte_emitted_at"
RAW_ID = "_airbyte_raw_id"
EXTRACTED_AT = "_airbyte_extracted_at"
META = "_airbyte_meta"
GENERATION_ID = "_airbyte_generation_id"
DATA = "_airbyte_data"
"""The record as JSON text, in text formats that are not flattened."""
ID_BYTES = 16
"""The number of random bytes for one record id."""
AVRO_ENVELOPE: tuple[dict[str, Any], ...] = (
    {"name": RECORD_ID, "type": {"type": "string", "logicalType": "uuid"}},
    {"name": EMITTED_AT, "type": {"type": "long", "logicalType": "timestamp-millis"}},
)
"""The Avro fields."""
EMITTED_AT_TYPE = pa.timestamp("ms", "UTC")
ARROW_ENVELOPE = (
    pa.field(RECORD_ID, pa.string(), nullable=False),
    pa.field(EMITTED_AT, EMITTED_AT_TYPE, nullable=False),
)
"""The Arrow fields."""
CHANGE_TYPE = pa.struct([(name, pa.string()) for name in Change._fields])
CHANGES_TYPE = pa.list_(CHANGE_TYPE)
META_TYPE = pa.struct([("sync_id", pa.int64()), ("changes", CHANGES_TYPE)])
"""What the newer envelope says of a record: the sync that landed it, and what was changed in it."""
_AVRO_CHANGE = {
    "type": "record",
    "name": "change",
    "fields": [{"name": name, "type": "string"} for name in Change._fields],
}
_AVRO_META = {
    "type": "record",
    "name": META,
    # Without a namespace of their own, a field of the source that is named "change" could have the same full name.
    "namespace": META,
    "fields": [
        {"name": "sync_id", "type": "long"},
        {"name": "changes", "type": {"type": "array", "items": _AVRO_CHANGE}},
    ],
}


class Envelope(NamedTuple):
    """The columns that every record has besides its own fields. They are the first columns."""

    names: tuple[str, ...]
    avro: tuple[dict[str, Any], ...]
    arrow: tuple[pa.Field, ...]


ENVELOPES: Mapping[EnvelopeName, Envelope] = {
    "airbyte_0": Envelope((RECORD_ID, EMITTED_AT), AVRO_ENVELOPE, ARROW_ENVELOPE),
    "airbyte_1": Envelope(
        (RAW_ID, EXTRACTED_AT, META, GENERATION_ID),
        (
            {**AVRO_ENVELOPE[0], "name": RAW_ID},
            {**AVRO_ENVELOPE[1], "name": EXTRACTED_AT},
            {"name": META, "type": _AVRO_META},
            {"name": GENERATION_ID, "type": "long"},
        ),
        (
            ARROW_ENVELOPE[0].with_name(RAW_ID),
            ARROW_ENVELOPE[1].with_name(EXTRACTED_AT),
            pa.field(META, META_TYPE),
            pa.field(GENERATION_ID, pa.int64()),
        ),
    ),
    "none": Envelope((), (), ()),
}
ENVELOPE_NAMES = frozenset(name for envelope in ENVELOPES.values() for name in envelope.names)
"""The names of the columns of all envelopes."""
_SAME_MEANING = {RECORD_ID: RAW_ID, EMITTED_AT: EXTRACTED_AT, RAW_ID: RECORD_ID, EXTRACTED_AT: EMITTED_AT}


def in_envelope(table: pa.Table, written: Record, wanted: Record) -> pa.Table:
    """The table in which the columns of another era's envelope have the names that they have in the wanted one.

    Args:
        table: Records.
        written: Their record type.
        wanted: The record type, which says what the envelope is to be.
    """
    before, now = envelope_of(written).names, envelope_of(wanted).names
    names = {name: _SAME_MEANING.get(name) for name in before if name not in now}
    renamed = {name: other for name, other in names.items() if other in now}
    return table.rename_columns([renamed.get(name) or name for name in table.column_names])


def envelope_of(record: Record) -> Envelope:
    """The columns before the fields of a root record."""
    return ENVELOPES[record.envelope]


_GROUPS = (8, 4, 4, 4, 12)
"""The digits of a UUID between its dashes."""
_NAMES = [f"group{number}" for number in range(len(_GROUPS))]
_WIDTHS = [f"V{digits}" for digits in _GROUPS]
_DIGITS = np.dtype({"names": _NAMES, "formats": _WIDTHS})
_DASHED = np.dtype({"names": _NAMES, "formats": _WIDTHS, "offsets": [0, 9, 14, 19, 24], "itemsize": 36})


def reserved_names(record: Record, *, overflow: bool) -> set[str]:
    """The names of the columns in every row of a flattened text format. A field with such a name counts as undeclared.

    Args:
        record: The record type, which says what the envelope is.
        overflow: Whether the overflow column is included.
    """
    return {*envelope_of(record).names} | ({OVERFLOW} if overflow else set())


def record_ids(entropy: bytes) -> NDArray[np.uint8]:
    """UUIDs of version 4 as ASCII texts, shape (n, 36), made from 16 random bytes each. Equal bytes give equal ids."""
    random = np.frombuffer(entropy, np.uint8).reshape(-1, ID_BYTES).copy()
    random[:, 6] = random[:, 6] & 0x0F | 0x40
    random[:, 8] = random[:, 8] & 0x3F | 0x80
    return uuid_texts(random)


def uuid_texts(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The ASCII texts of UUIDs of 16 bytes each, shape (n, 36)."""
    digits = np.frombuffer(hexlify(values.tobytes()), _DIGITS)
    texts = np.full((len(values), 36), ord("-"), np.uint8)
    dashed = texts.view(_DASHED).reshape(-1)
    for name in _NAMES:
        dashed[name] = digits[name]
    return texts


def record_id_column(ids: NDArray[np.uint8]) -> pa.Array:
    """Record ids as a string column."""
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * np.int32(36)
    return pa.Array.from_buffers(
        pa.string(), len(ids), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(ids))]
    )


def emitted_at_column(emitted_at: NDArray[np.int64]) -> pa.Array:
    """Emission times (milliseconds since 1970) as a timestamp column."""
    millis: Any = np.ascontiguousarray(emitted_at, np.int64)
    return pa.array(millis).cast(EMITTED_AT_TYPE)


PARQUET_LEVELS = 100
"""The most levels of a schema, including its root. pyarrow, and so pandas, Dask and Polars, refuse files with more."""


def avro_schema(record: Record, *, envelope: bool = True) -> dict[str, Any]:
    """The Avro schema as JSON values, as version 0.6.2 of the connector writes it.

    Every record level ends with the overflow map. With `envelope`, the envelope's columns come first.
    """
    schema: dict[str, Any] = record.avro_type(None, envelope_of(record).avro if envelope else ())
    return schema


def avro_schema_text(record: Record) -> str:
    """The canonical text of the Avro schema with its envelope. Equal record types have equal texts."""
    return json.dumps(avro_schema(record), ensure_ascii=False, separators=(",", ":"))


def fingerprint(record: Record) -> str:
    """SHA-256 of the canonical text of the Avro schema, in hexadecimal."""
    return text_fingerprint(avro_schema_text(record))


def text_fingerprint(schema_text: str) -> str:
    """The `fingerprint` of the record with this canonical text."""
    return sha256(schema_text.encode()).hexdigest()


def arrow_schema(record: Record, *, layout: Layout) -> pa.Schema:
    """The columns of a record level without the envelope. All are nullable, and the overflow map is last."""
    return pa.schema(list(record.arrow_type(layout)))


def within_parquet(record: Record) -> Record:
    """The record type with JSON text (a string) for every field that nests too deep for readers of Parquet.

    The result is the same in every layout. If one kind of a union is too deep, the whole union becomes text.
    """
    limited = record.within_levels(PARQUET_LEVELS)
    assert limited is not None
    return limited


def columns(record: Record) -> list[tuple[str, str, str | None]]:
    """The name, kind in words, and description of every column, for display, without envelope and overflow.

    The description has the source's name of a renamed field; otherwise it is None.
    """
    return [
        (f.name, f.kind.words(), None if f.name == f.source else f"{f.source!r} in the source") for f in record.fields
    ]


def paths(record: Record) -> Iterator[tuple[str, str]]:
    """Yields the dotted path and the kind in words of every field at every level. Items are under `name[]`."""
    return record.field_paths()
