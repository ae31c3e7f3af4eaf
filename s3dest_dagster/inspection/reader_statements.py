"""Statements with which readers see a stream by its directories: a table of Athena or Hive, DuckDB, Polars.

Must not know: a bucket's content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.decimal import Decimal
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schemas import DATA, EMITTED_AT, EXTRACTED_AT, GENERATION_ID, META, avro_schema, envelope_of
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.keys.directories import directory_name
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, FormatSettings, JsonlFormat, ParquetFormat
from s3dest_dagster.settings.partition_fields import PartitionField, PartitionRule
from s3dest_dagster.stream import StreamId

_STORED = {
    ParquetFormat: "STORED AS PARQUET",
    JsonlFormat: "ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'",
    CsvFormat: "ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde'",
}
_ENVELOPE_TYPES = {
    META: "struct<`sync_id`:bigint,`changes`:array<struct<`field`:string,`change`:string,`reason`:string>>>",
    GENERATION_ID: "bigint",
}
_HIVE_TYPES = {
    "integer": "bigint",
    "number": "double",
    "float": "float",
    "boolean": "boolean",
    "bytes": "binary",
    "date": "date",
    "timestamp": "timestamp",
    "local_timestamp": "timestamp",
}
_PROJECTIONS = {
    "year": ("yyyy", "YEARS"),
    "month": ("yyyy-MM", "MONTHS"),
    "day": ("yyyy-MM-dd", "DAYS"),
    "hour": ("yyyy-MM-dd-HH", "HOURS"),
}
_FIRST_DAY = "2000-01-01-00"


@dataclass(frozen=True, slots=True)
class ReaderStatement:
    """A statement for one reader."""

    reader: str
    """The name of the reader."""
    text: str
    """The statement, in one or more lines."""


def reader_statements(
    bucket_uri: str, template: KeyTemplate, stream: StreamId, record: Record, format_: FormatSettings
) -> tuple[ReaderStatement, ...]:
    """The statements for a stream. Empty if it has no directories, or others that differ from sync to sync.

    Args:
        bucket_uri: The `s3://` address of the bucket, with a slash at the end.
        template: The rule for the stream's keys.
        stream: The stream, with its name as it is in the bucket.
        record: The stream's columns.
        format_: The format of the objects.
    """
    rule, root = template.partition_by or (), template.directories_root(stream)
    if not rule or root is None:
        return ()
    location = bucket_uri + root
    files = f"{location}{'*/' * len(rule)}*{format_.extension}"
    made = [ReaderStatement("Athena", _table(location, template, stream, record, format_))]
    if template.fields_style == "hive":
        made += _one_liners(files, rule, format_)
    return tuple(made)


def _table(location: str, template: KeyTemplate, stream: StreamId, record: Record, format_: FormatSettings) -> str:
    """A table with partition projection, which needs no list of partitions."""
    rule = template.partition_by or ()
    name = re.sub("[^a-z0-9_]", "_", str(stream).lower())
    columns = ",\n".join(f"  {_quoted(column)} {type_}" for column, type_ in _distinct(record, rule, format_))
    partitions = ", ".join(f"{_quoted(each.name)} string" for each in rule)
    layout = location + "".join(
        f"{directory_name(each, template.fields_style)}${{{each.name.lower()}}}/" for each in rule
    )
    properties = {"projection.enabled": "true", **dict(_projections(rule)), "storage.location.template": layout}
    if isinstance(format_, CsvFormat) and format_.header:
        properties["skip.header.line.count"] = "1"
    stored = _stored_as_avro(record, rule) if isinstance(format_, AvroFormat) else _STORED[type(format_)]
    listed = ",\n".join(f"  {_hive_text(key)} = {_hive_text(value)}" for key, value in properties.items())
    return (
        f"CREATE EXTERNAL TABLE `{name}` (\n{columns}\n)\nPARTITIONED BY ({partitions})\n{stored}\n"
        f"LOCATION {_hive_text(location)}\nTBLPROPERTIES (\n{listed}\n)"
    )


def _stored_as_avro(record: Record, rule: PartitionRule) -> str:
    """The format of Avro objects, with the schema that Athena reads them by. It takes none from the objects."""
    schema = avro_schema(record)
    # A table has no column twice, in capitals or not, and a directory's only once. Avro skips fields that the reader's
    # schema lacks.
    seen = {each.name.lower() for each in rule}
    fields = {field["name"].lower(): field for field in reversed(schema["fields"])}
    schema["fields"] = [field for name, field in reversed(fields.items()) if name not in seen]
    return (
        "ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.avro.AvroSerDe'\n"
        f"WITH SERDEPROPERTIES ('avro.schema.literal' = {_hive_text(json.dumps(schema))})\nSTORED AS AVRO"
    )


def _distinct(record: Record, rule: PartitionRule, format_: FormatSettings) -> Iterator[tuple[str, str]]:
    """The columns of the table, in which capitals make no difference. Of two names, the table has the first."""
    seen = {each.name.lower() for each in rule}
    for name, type_ in _columns(record, rule, format_):
        distinct, number = name, 1
        # CSV has its columns by their positions, so that none can be left out.
        while distinct.lower() in seen and isinstance(format_, CsvFormat):
            number += 1
            distinct = f"{name}_{number}"
        if distinct.lower() not in seen:
            seen.add(distinct.lower())
            yield distinct, type_


def _columns(record: Record, rule: PartitionRule, format_: FormatSettings) -> Iterator[tuple[str, str]]:
    """The columns of the objects. A table cannot have a column twice, and a directory has the values of its column."""
    directories = {each.name.lower() for each in rule}
    is_text = not format_.is_typed
    for name in envelope_of(record).names:
        yield name, _envelope_type(name, format_)
    if is_text and format_.flattening.value == "No flattening":  # type: ignore[attr-defined]
        yield DATA, _hive_type(record, is_text=True) if isinstance(format_, JsonlFormat) else "string"
        return
    for column in record.fields:
        name = column.source if is_text else column.name
        if name.lower() not in directories:
            yield name, "string" if isinstance(format_, CsvFormat) else _hive_type(column.kind, is_text=is_text)
        elif isinstance(format_, CsvFormat):
            yield f"{name}_in_file", "string"  # CSV has its columns by their positions


def _envelope_type(name: str, format_: FormatSettings) -> str:
    if name in (EMITTED_AT, EXTRACTED_AT) and format_.is_typed:
        return "timestamp"
    return "string" if isinstance(format_, CsvFormat) else _ENVELOPE_TYPES.get(name, "string")


def _hive_type(kind: Kind, *, is_text: bool) -> str:
    if isinstance(kind, Record):
        kinds = {(field.source if is_text else field.name).lower(): field.kind for field in reversed(kind.fields)}
        inner = ",".join(f"{_quoted(name)}:{_hive_type(kinds[name], is_text=is_text)}" for name in reversed(kinds))
        return f"struct<{inner}>" if inner else "string"
    if isinstance(kind, Array):
        return f"array<{_hive_type(kind.item, is_text=is_text)}>"
    if isinstance(kind, Decimal) and kind.is_known:
        return f"decimal({kind.precision},{kind.scale})"
    named = _HIVE_TYPES.get(kind.words(), "string")
    # JSON has texts for these.
    return "string" if is_text and named in ("date", "timestamp", "binary") else named


def _projections(rule: PartitionRule) -> Iterator[tuple[str, str]]:
    for each in rule:
        prefix = f"projection.{each.name.lower()}"
        if each.unit is None:
            # The values are not known beforehand: a query names the ones that it reads.
            yield f"{prefix}.type", "injected"
            continue
        pattern, unit = _PROJECTIONS[each.unit]
        yield f"{prefix}.type", "date"
        yield f"{prefix}.format", pattern
        yield f"{prefix}.range", f"{_FIRST_DAY[: len(pattern)]},NOW"
        yield f"{prefix}.interval", "1"
        yield f"{prefix}.interval.unit", unit


def _one_liners(files: str, rule: PartitionRule, format_: FormatSettings) -> Iterator[ReaderStatement]:
    function = {ParquetFormat: "read_parquet", JsonlFormat: "read_json", CsvFormat: "read_csv"}.get(type(format_))
    if function is not None:
        types = ", ".join(f"{_sql_text(each.name)}: VARCHAR" for each in rule)
        yield ReaderStatement(
            "DuckDB",
            f"SELECT * FROM {function}({_sql_text(files)}, hive_partitioning = true, hive_types = {{{types}}})",
        )
    if isinstance(format_, ParquetFormat):
        schema = ", ".join(f"{_python_text(each)}: pl.String" for each in rule)
        yield ReaderStatement(
            "Polars", f"pl.scan_parquet({json.dumps(files)}, hive_partitioning=True, hive_schema={{{schema}}})"
        )


def _python_text(field: PartitionField) -> str:
    return json.dumps(field.name, ensure_ascii=False)


def _sql_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _hive_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quoted(name: str) -> str:
    doubled = name.lower().replace("`", "``")
    return f"`{doubled}`"
