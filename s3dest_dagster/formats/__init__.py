"""File formats: encode batches as bytes, and read one object back as Arrow. Must not know: S3, keys, commits.

`format_of` returns the format for some settings. `Format`, `Encoder`, `ObjectWriter` and `Encoded` are its interface.
"""

from pkgutil import resolve_name
from typing import IO, Any

import pyarrow as pa

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.partition_values import RecordGrouper
from s3dest_dagster.formats.protocol import (
    Background,
    Content,
    Encoded,
    Encoder,
    Format,
    ObjectWriter,
    OnMismatch,
    Sink,
    contents_of,
    run_now,
)
from s3dest_dagster.formats.reading import table_schema
from s3dest_dagster.formats.row_filter import RowFilter
from s3dest_dagster.settings.formats import CONNECTOR_TYPES, FORMATS, FormatSettings, TypeRules
from s3dest_dagster.stream import Stream

__all__ = [
    "Background",
    "Encoded",
    "Encoder",
    "Format",
    "ObjectWriter",
    "Sink",
    "encoder",
    "format_of",
    "read_table",
    "run_now",
    "table_schema",
]


def format_of(settings: FormatSettings) -> Format[Any]:
    """The format with these settings. Its module is imported at the first request."""
    implementation: type[Format[Any]] = resolve_name(FORMATS[type(settings)])
    return implementation(settings)


def encoder(
    settings: FormatSettings,
    stream: Stream,
    record: Record | None = None,
    *,
    reports_new_fields: bool = False,
    on_mismatch: OnMismatch = "overflow",
    rules: TypeRules = CONNECTOR_TYPES,
    grouper: RecordGrouper | None = None,
    sync_number: int = 0,
) -> Encoder:
    """The encoder of one stream for one sync.

    Args:
        settings: The format's settings.
        stream: The stream, with its JSON schema.
        record: The stream's columns. Default: those of its JSON schema.
        reports_new_fields: Whether CSV and JSON Lines count fields without a column as undeclared, even where these
            land in their place.
        on_mismatch: What happens to a value that does not fit its declared type, in Avro and Parquet.
        rules: The types of what the schema leaves open (see `record_type`).
        grouper: Groups the records by their directories, if the stream has `partition_by`.
        sync_number: The number of the sync in the envelope `airbyte_1`, if the stream's generation does not name one.

    Raises:
        SchemaError: The stream has no JSON schema, or one that cannot be understood.
        MissingExtraError: The codec is Parquet's LZO, and the extra `lzo` is not installed.
    """
    contents = contents_of(stream, record, reports_new_fields=reports_new_fields, rules=rules, sync_number=sync_number)
    made = format_of(settings).encoder(contents, on_mismatch)
    made.grouper = grouper
    return made


def read_table(
    settings: FormatSettings,
    columns: Stream | Record,
    data: Content | IO[bytes],
    rules: TypeRules = CONNECTOR_TYPES,
    *,
    written: Record | None = None,
    rows: RowFilter | None = None,
) -> pa.Table:
    """The records of one object, in its order.

    Columns have the types of the schema that is given. If the object was written under another schema, columns that it
    lacks are null. CSV does not distinguish an object from a text that looks like one, so such a text is read as an
    object if its field may be one. Values that nest deeper than Parquet allows (`within_parquet`) are JSON text.

    Args:
        settings: The format's settings.
        columns: The record type of the object, or a stream with its JSON schema.
        data: The object.
        written: The record type with which the object was written, if values are read with wider types.
        rows: The records that are needed. Others may be left out, where that saves reading them.

    Raises:
        RecordError: The content is not in this format.
        SchemaError: As for `encoder`.
    """
    content = data if isinstance(data, bytes | memoryview) else data.read()
    record = columns if isinstance(columns, Record) else contents_of(columns, rules=rules).record
    return format_of(settings).read(record, content, written or record, rows)
