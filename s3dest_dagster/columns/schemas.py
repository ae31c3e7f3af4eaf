"""What a record type looks like outside: its Avro and Arrow schemas, and its columns in words. Must not know: data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pyarrow as pa

from s3dest_dagster.columns.envelope import AVRO_ENVELOPE
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.record import Record

PARQUET_LEVELS = 100
"""Levels of a schema, its root among them. pyarrow, and through it pandas, Dask and Polars, refuse a file with more."""


def avro_schema(record: Record, *, envelope: bool = True) -> dict[str, Any]:
    """The Avro schema as JSON values, as version 0.6.2 of the connector writes it.

    Every record level ends with the overflow map. With `envelope`, record id and emission time come first.
    """
    schema: dict[str, Any] = record.avro_type(None, AVRO_ENVELOPE if envelope else ())
    return schema


def avro_schema_text(record: Record) -> str:
    """The canonical text of the Avro schema with its envelope. Equal record types have equal texts."""
    return json.dumps(avro_schema(record), ensure_ascii=False, separators=(",", ":"))


def fingerprint(record: Record) -> str:
    """SHA-256 of the canonical text of the Avro schema, in hexadecimal."""
    return sha256(avro_schema_text(record).encode()).hexdigest()


def arrow_schema(record: Record, *, layout: Layout) -> pa.Schema:
    """The columns of a record level without the envelope, all nullable, the overflow map last."""
    return pa.schema(list(record.arrow_type(layout)))


def within_parquet(record: Record) -> Record:
    """The record type with JSON text (a string) for every field that nests too deep for readers of Parquet.

    It is the same in every layout. If one kind of a union is too deep, the whole union becomes text.
    """
    limited = record.within_levels(PARQUET_LEVELS)
    assert limited is not None
    return limited


def columns(record: Record) -> list[tuple[str, str, str | None]]:
    """Name, kind in words, and description of each column, for display, without envelope and overflow.

    The description tells the source's name of a field that was renamed; else it is None.
    """
    return [
        (f.name, f.kind.words(), None if f.name == f.source else f"{f.source!r} in the source") for f in record.fields
    ]


def paths(record: Record) -> Iterator[tuple[str, str]]:
    """Dotted path and kind in words of every field at every level. The items of a list stand under `name[]`."""
    return record.field_paths()
