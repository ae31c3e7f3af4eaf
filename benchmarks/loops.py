"""What one would write by hand: a loop over messages with the usual library of each format, record by record.

The loops do less than a landing: no commit, no overflow, texts stay texts where a landing makes timestamps. They must
not know the library that they are compared with.
"""

from __future__ import annotations

import csv
import gzip
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

_ROWS_AT_ONCE = 50_000
_AVRO = {"string": "string", "integer": "long", "number": "double", "boolean": "boolean"}


class Json(NamedTuple):
    """A JSON library's two functions."""

    loads: Callable[[bytes], Any]
    dumps: Callable[[Any], bytes]


def run(
    file_format: str, messages: Path, output: Path, json: Json, level: int | None, schema: Mapping[str, Any]
) -> None:
    """The loop of a format (jsonl, csv, avro, parquet). `level` is zlib's; Parquet uses snappy and needs none."""
    if file_format == "parquet":
        parquet_snappy(messages, output, json)
        return
    assert level is not None, f"{file_format} is compressed at a level"
    if file_format == "jsonl":
        jsonl_gz(messages, output, json, level)
    elif file_format == "csv":
        csv_gz(messages, output, json, level, sorted(schema["properties"]))
    else:
        avro_deflate(messages, output, json, level, schema)


def records(messages: Path, json: Json) -> Iterator[dict[str, Any]]:
    """The record of each message, decoded."""
    with messages.open("rb") as lines:
        for line in lines:
            message = json.loads(line)
            if message["type"] == "RECORD":
                yield message["record"]


def jsonl_gz(messages: Path, output: Path, json: Json, level: int) -> None:
    """JSON Lines in one gzip member."""
    with gzip.open(output, "wb", level) as file:
        for record in records(messages, json):
            line = {
                "_airbyte_ab_id": str(uuid.uuid4()),
                "_airbyte_emitted_at": str(record["emitted_at"]),
                "_airbyte_data": record["data"],
            }
            file.write(json.dumps(line) + b"\n")


def csv_gz(messages: Path, output: Path, json: Json, level: int, columns: list[str]) -> None:
    """CSV with the root level's fields as columns, nested values as JSON text, in one gzip member."""
    with gzip.open(output, "wt", level, newline="", encoding="utf-8") as file:
        _write_rows(file, messages, json, columns)


def _write_rows(file: TextIO, messages: Path, json: Json, columns: list[str]) -> None:
    writer = csv.writer(file)
    writer.writerow(["_airbyte_ab_id", "_airbyte_emitted_at", *columns])
    for record in records(messages, json):
        values = map(record["data"].get, columns)
        cells = [json.dumps(value).decode() if isinstance(value, (dict, list)) else value for value in values]
        writer.writerow([str(uuid.uuid4()), record["emitted_at"], *cells])


def avro_deflate(messages: Path, output: Path, json: Json, level: int, schema: Mapping[str, Any]) -> None:
    """An Avro container file with deflated blocks; `schema` is the records' JSON schema."""
    import fastavro

    parsed = fastavro.parse_schema(_avro_schema(schema))
    with output.open("wb") as file:
        fastavro.writer(file, parsed, _with_envelope(messages, json), codec="deflate", codec_compression_level=level)


def parquet_snappy(messages: Path, output: Path, json: Json) -> None:
    """A Parquet file with the types that the library infers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: Any = None
    for rows in _pages(_with_envelope(messages, json)):
        table = pa.Table.from_pylist(rows, None if writer is None else writer.schema)
        writer = writer or pq.ParquetWriter(output, table.schema, compression="snappy")
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _with_envelope(messages: Path, json: Json) -> Iterator[dict[str, Any]]:
    for record in records(messages, json):
        data: dict[str, Any] = record["data"]
        data["_airbyte_ab_id"] = str(uuid.uuid4())
        data["_airbyte_emitted_at"] = record["emitted_at"]
        yield data


def _pages(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    for row in rows:
        page.append(row)
        if len(page) == _ROWS_AT_ONCE:
            yield page
            page = []
    if page:
        yield page


def _avro_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    envelope = [{"name": "_airbyte_ab_id", "type": "string"}, {"name": "_airbyte_emitted_at", "type": "long"}]
    return {"type": "record", "name": "root", "fields": envelope + _avro_fields(schema, "root")}


def _avro_fields(schema: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": ["null", _avro_type(each, f"{path}_{name}")], "default": None}
        for name, each in schema["properties"].items()
    ]


def _avro_type(schema: Mapping[str, Any], path: str) -> Any:
    kind = (
        schema["type"] if isinstance(schema["type"], str) else next(each for each in schema["type"] if each != "null")
    )
    if kind == "object":
        return {"type": "record", "name": path, "fields": _avro_fields(schema, path)}
    if kind == "array":
        return {"type": "array", "items": ["null", _avro_type(schema["items"], path)]}
    return _AVRO[kind]
