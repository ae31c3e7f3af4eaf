"""Batches → bytes, in four formats, and one object back as Arrow. It must not know S3, keys or commits.

`encoder` gives what a sync needs for one stream; `Encoder`, `ObjectWriter` and `Encoded` say what that is.
"""

from typing import Literal

from s3dest_dagster.columns.json_schema import UnknownTypes
from s3dest_dagster.formats.avro import AvroEncoder
from s3dest_dagster.formats.csv import CsvEncoder
from s3dest_dagster.formats.jsonl import JsonlEncoder
from s3dest_dagster.formats.parquet import ParquetEncoder
from s3dest_dagster.formats.parquet_lzo import lzo_compressor
from s3dest_dagster.formats.protocol import Aside, Encoded, Encoder, ObjectWriter, Sink, at_once, contents_of
from s3dest_dagster.formats.reading import read_table, table_schema
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, FormatSettings, JsonlFormat, ParquetFormat
from s3dest_dagster.stream import Stream

__all__ = [
    "Aside",
    "Encoded",
    "Encoder",
    "ObjectWriter",
    "Sink",
    "at_once",
    "check_installed",
    "encoder",
    "read_table",
    "table_schema",
]


def check_installed(settings: FormatSettings) -> None:
    """Raises MissingExtraError when the settings need an optional package that is not installed."""
    if isinstance(settings, ParquetFormat) and settings.compression_codec == "LZO":
        lzo_compressor()


def encoder(
    settings: FormatSettings,
    stream: Stream,
    *,
    on_mismatch: Literal["overflow", "fail"] = "overflow",
    unknown_types: UnknownTypes = "text",
) -> Encoder:
    """The encoder of one stream for one sync. `on_mismatch` concerns the formats with declared types, Avro and Parquet;
    `unknown_types` says what a declared type that is not known becomes (see `record_type`).

    Raises SchemaError for a stream without a JSON schema or with one that cannot be understood, MissingExtraError for
    Parquet's LZO without the extra `lzo`.
    """
    contents = contents_of(stream, unknown_types=unknown_types)
    if isinstance(settings, JsonlFormat):
        return JsonlEncoder(settings, contents)
    if isinstance(settings, CsvFormat):
        return CsvEncoder(settings, contents, (stream.json_schema or {}).get("properties") or ())
    if isinstance(settings, AvroFormat):
        return AvroEncoder(settings, contents, on_mismatch)
    assert isinstance(settings, ParquetFormat)
    return ParquetEncoder(settings, contents, on_mismatch)
