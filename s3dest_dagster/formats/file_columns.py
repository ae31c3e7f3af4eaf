"""The columns of a file that the library did not write: those that the connector wrote, of either era.

The stream's declared columns are taken wherever the file's own type is theirs, since they know the source's names.
Every other column has the type that the file shows. Must not know: S3, whose file it is.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.names import OVERFLOW_NAMES
from s3dest_dagster.columns.retyping import children
from s3dest_dagster.columns.schemas import DATA, ENVELOPES
from s3dest_dagster.errors import RecordError, S3DestError, SchemaError
from s3dest_dagster.formats.csv_cells import Dialect
from s3dest_dagster.formats.csv_reading import rows_of
from s3dest_dagster.formats.parquet_unions import typed_type
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    EnvelopeName,
    Flattening,
    FormatSettings,
    ParquetFormat,
    TextFormat,
)

_LONGEST_LINE = 128 << 20
_GZIP = b"\x1f\x8b"
JsonSchema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The columns of one file."""

    record: Record
    """The record type, with its envelope. Its fields are in the order of the file, and have no ids."""
    rows: int | None = None
    """The number of its records. None if only reading all of it would show that."""


def columns_of_file(settings: FormatSettings, file: IO[bytes], declared: Record) -> FileColumns:
    """The columns of a file of the connector. Reads only its beginning or its end.

    Args:
        settings: The format in which the file is expected.
        file: The file. It can be searched.
        declared: The columns that the stream's catalog declares.

    Raises:
        RecordError: The file is not in this format, has none of the connector's envelopes, or has columns of types that
            the connector does not write.
        S3DestError: Reading the file failed.
    """
    try:
        if isinstance(settings, TextFormat):
            return _of_text(settings, file, declared)
        return _of_avro(file, declared) if isinstance(settings, AvroFormat) else _of_parquet(settings, file, declared)
    except SchemaError as error:
        raise RecordError(f"its columns cannot be taken over: {error.message}") from error
    except S3DestError:
        raise
    # Every reader raises its own errors, and files of others can have anything.
    except Exception as error:
        raise RecordError(f"it cannot be read as {settings.format_type}: {error}") from error


def connector_format(settings: FormatSettings) -> FormatSettings:
    """The settings with which the connector's files are read: in CSV, it quotes numbers, and its columns are in an
    order of their own."""
    if not isinstance(settings, CsvFormat):
        return settings
    return CsvFormat(
        flattening=settings.flattening,
        compression=settings.compression,
        gzip_effort=settings.gzip_effort,
        quoting="all",
        column_order="source",
    )


def _envelope(names: Iterable[str]) -> EnvelopeName:
    found = set(names)
    for name, envelope in ENVELOPES.items():
        if envelope.names and found.issuperset(envelope.names[:2]):
            return name
    raise RecordError("it has none of the columns that the connector writes before those of the source")


def _record(declared: Record, envelope: EnvelopeName, fields: Sequence[tuple[str, Field | JsonSchema]]) -> Record:
    """The record type with these columns: declared ones, and others by name and JSON schema."""
    shown = {name: found for name, found in fields if not isinstance(found, Field)}
    made = record_type({"type": "object", "properties": shown}, declared.name, declared.namespace)
    others = {field.source: field for field in made.fields}
    found = (field if isinstance(field, Field) else others.get(name) for name, field in fields)
    return replace(declared, fields=tuple(field for field in found if field is not None), envelope=envelope)


def _own_names(names: Iterable[str], envelope: EnvelopeName) -> list[str]:
    left_out = OVERFLOW_NAMES.union(ENVELOPES[envelope].names)
    return [name for name in names if name not in left_out]


# ---------------------------------------------------------------------- text


def _of_text(settings: TextFormat, file: IO[bytes], declared: Record) -> FileColumns:
    line = _first_line(file)
    if isinstance(settings, CsvFormat):
        names, _ = rows_of(line, Dialect.of(settings), None)
    else:
        names = list(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    envelope = _envelope(names)
    is_flat = DATA not in names
    if is_flat != (settings.flattening is Flattening.ROOT):
        raise RecordError(
            f"its records are {'' if is_flat else 'not '}flattened, and by the settings they are "
            f"{'not' if is_flat else 'flattened'}; adopt it with another flattening"
        )
    if not is_flat or not isinstance(settings, CsvFormat):
        return FileColumns(replace(declared, envelope=envelope))
    known = {field.source: field for field in declared.fields}
    text = {"type": "string"}
    fields = [(name, known.get(name, text)) for name in _own_names(names, envelope)]
    return FileColumns(_record(declared, envelope, fields))


def _first_line(file: IO[bytes]) -> bytes:
    is_packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    line = (gzip.GzipFile(fileobj=file) if is_packed else file).readline(_LONGEST_LINE)
    if not line.strip():
        raise RecordError("it has no record, so that nothing shows its columns")
    return line


# ---------------------------------------------------------------------- Avro


def _of_avro(file: IO[bytes], declared: Record) -> FileColumns:
    schema = fastavro.block_reader(file).writer_schema
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise RecordError("its Avro schema is no record")
    types = {each["name"]: each["type"] for each in schema["fields"]}
    envelope = _envelope(types)
    known = {field.name: field for field in declared.fields}
    fields = [(name, _avro_field(known.get(name), types[name])) for name in _own_names(types, envelope)]
    return FileColumns(_record(declared, envelope, fields))


def _avro_field(declared: Field | None, type_: Any) -> Field | JsonSchema:
    if declared is not None:
        own = list(map(_outline, _branches(declared.position().avro_type(None))))
        if all(_outline(branch) in own for branch in _branches(type_)):
            return declared
    return _avro_json_schema(type_)


def _branches(type_: Any) -> list[Any]:
    """The types other than null that a value can have."""
    return [each for each in (type_ if isinstance(type_, list) else [type_]) if each != "null"]


def _outline(type_: Any) -> Any:
    """The type without names of records and without what does not change how values are read."""
    if isinstance(type_, list):
        return [_outline(each) for each in type_]
    if not isinstance(type_, dict):
        return type_
    if type_["type"] == "record":
        return {each["name"]: _outline(each["type"]) for each in type_["fields"] if each["name"] not in OVERFLOW_NAMES}
    if type_["type"] == "array":
        return ["array", _outline(type_["items"])]
    return type_.get("logicalType") or _outline(type_["type"])


_AVRO_TYPES: Mapping[str, JsonSchema] = {
    "boolean": {"type": "boolean"},
    "int": {"type": "integer"},
    "long": {"type": "integer"},
    "float": {"type": "number", "airbyte_type": "float"},
    "double": {"type": "number"},
    "string": {"type": "string"},
    "uuid": {"type": "string"},
    "bytes": {"$ref": "WellKnownTypes.json#/definitions/BinaryData"},
    "date": {"type": "string", "format": "date"},
    "time-millis": {"type": "string", "format": "time"},
    "time-micros": {"type": "string", "format": "time"},
    "timestamp-millis": {"type": "string", "format": "date-time"},
    "timestamp-micros": {"type": "string", "format": "date-time"},
}


def _avro_json_schema(type_: Any) -> JsonSchema:
    """The JSON schema whose values an Avro type holds."""
    branches = _branches(type_)
    if len(branches) > 1 and any(_is_temporal(branch) for branch in branches):
        branches = [branch for branch in branches if branch != "string"]  # texts that are no times
    if len(branches) != 1:
        return {"anyOf": [_avro_json_schema(branch) for branch in branches]} if branches else {"type": "null"}
    (branch,) = branches
    if isinstance(branch, dict) and branch["type"] == "record":
        own = [each for each in branch["fields"] if each["name"] not in OVERFLOW_NAMES]
        return {"type": "object", "properties": {each["name"]: _avro_json_schema(each["type"]) for each in own}}
    if isinstance(branch, dict) and branch["type"] == "array":
        return {"type": "array", "items": _avro_json_schema(branch["items"])}
    outline = _outline(branch)
    if not isinstance(outline, str) or outline not in _AVRO_TYPES:
        raise RecordError(f"its Avro schema has the type {outline!r}, which the connector does not write")
    return _AVRO_TYPES[outline]


def _is_temporal(branch: Any) -> bool:
    outline = _outline(branch)
    return isinstance(outline, str) and "format" in _AVRO_TYPES.get(outline, {})


# ---------------------------------------------------------------------- Parquet


def _of_parquet(settings: FormatSettings, file: IO[bytes], declared: Record) -> FileColumns:
    assert isinstance(settings, ParquetFormat), "the only other format"
    found = pq.ParquetFile(file)
    types = {field.name: field.type for field in found.schema_arrow}
    envelope = _envelope(types)
    known = {field.name: field for field in declared.fields}
    fields = [(name, _parquet_field(known.get(name), types[name])) for name in _own_names(types, envelope)]
    return FileColumns(_record(declared, envelope, fields), found.metadata.num_rows)


def _parquet_field(declared: Field | None, type_: pa.DataType) -> Field | JsonSchema:
    if declared is not None:
        named, member = map(declared.position().arrow_type, (Layout.NAMED, Layout.MEMBER))
        if any(_is_alike(own, type_) for own in (named, typed_type(declared.kind, named), member)):
            return declared
    return _arrow_json_schema(type_)


def _is_alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether values of both types are read in the same way."""
    if pt.is_struct(one) and pt.is_struct(other):
        first, second = _members(one), _members(other)
        return list(first) == list(second) and all(_is_alike(first[name], second[name]) for name in first)
    if pt.is_list(one) and pt.is_list(other):
        return _is_alike(one.value_type, other.value_type)
    if pt.is_timestamp(one) and pt.is_timestamp(other):
        return (one.tz is None) == (other.tz is None)
    return bool(one == other) or (pt.is_map(one) and pt.is_map(other)) or (pt.is_time(one) and pt.is_time(other))


def _members(type_: pa.DataType) -> dict[str, pa.DataType]:
    return {child.name: child.type for child in children(type_) if child.name not in OVERFLOW_NAMES}


def _arrow_json_schema(type_: pa.DataType) -> JsonSchema:
    """The JSON schema whose values an Arrow type holds, with a union for a struct of the connector's members."""
    if pt.is_list(type_):
        return {"type": "array", "items": _arrow_json_schema(type_.value_type)}
    if not pt.is_struct(type_):
        schema: JsonSchema = json_schema_of_arrow(pa.schema([("value", type_)]))["properties"]["value"]
        return schema
    members = _members(type_)
    if "member0" not in members:
        return {"type": "object", "properties": {name: _arrow_json_schema(each) for name, each in members.items()}}
    kinds = list(members.values())
    if any(map(pt.is_temporal, kinds)):
        kinds = [each for each in kinds if not pt.is_string(each)]  # texts that are no times
    schemas = [_arrow_json_schema(each) for each in kinds]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
