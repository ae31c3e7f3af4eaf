"""Files as the Airbyte connector writes them, in each format and with the columns of either era. Made without the
library.

Era 0.6: `_airbyte_ab_id`, `_airbyte_emitted_at`; dates beside texts; undeclared fields in a map. Era 1:
`_airbyte_raw_id`, `_airbyte_extracted_at`, `_airbyte_meta`, `_airbyte_generation_id`; dates alone.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

Era = Literal["0.6", "1"]
EMITTED_AT = 1_767_609_000_000
SYNC_ID = 42
GENERATION_ID = 7
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "price": {"type": "number"},
        "born": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
COLUMNS = tuple(SCHEMA["properties"])
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "csv": {"format_type": "CSV", "flattening": "No flattening"},
    "flat csv": {"format_type": "CSV", "flattening": "Root level flattening"},
    "jsonl": {"format_type": "JSONL", "flattening": "No flattening"},
    "flat jsonl": {"format_type": "JSONL", "flattening": "Root level flattening"},
    "avro": {"format_type": "Avro", "compression_codec": {"codec": "no compression"}},
    "parquet": {"format_type": "Parquet", "compression_codec": "SNAPPY"},
}
"""The connector's settings, by the name of the format."""
EXTENSIONS = {
    "csv": ".csv.gz",
    "flat csv": ".csv.gz",
    "jsonl": ".jsonl.gz",
    "flat jsonl": ".jsonl.gz",
    "avro": ".avro",
    "parquet": ".parquet",
}


def user(number: int) -> dict[str, Any]:
    """A record."""
    return {"id": number, "name": f"user {number}", "price": number + 0.5, "born": "2001-02-03", "tags": ["a", "b"]}


def connector_file(name: str, era: Era, records: Sequence[Mapping[str, Any]]) -> bytes:
    """A file of the format with this name."""
    make = {"csv": _csv, "flat csv": _csv, "jsonl": _jsonl, "flat jsonl": _jsonl, "avro": _avro, "parquet": _parquet}
    return make[name](records, era, is_flat=name.startswith("flat"))


def envelope(era: Era, number: int) -> dict[str, Any]:
    """The columns before those of the source."""
    record_id = f"00000000-0000-4000-8000-{number:012}"
    if era == "0.6":
        return {"_airbyte_ab_id": record_id, "_airbyte_emitted_at": EMITTED_AT}
    change = {"field": "name", "change": "TRUNCATED", "reason": "SOURCE_FIELD_SIZE_LIMITATION"}
    return {
        "_airbyte_raw_id": record_id,
        "_airbyte_extracted_at": EMITTED_AT,
        "_airbyte_meta": {"sync_id": SYNC_ID, "changes": [change]},
        "_airbyte_generation_id": GENERATION_ID,
    }


def _csv(records: Sequence[Mapping[str, Any]], era: Era, *, is_flat: bool) -> bytes:
    rows = []
    columns = sorted(COLUMNS) if era == "0.6" else COLUMNS
    for number, record in enumerate(records):
        own = {name: _cell(record.get(name)) for name in columns} if is_flat else {"_airbyte_data": json.dumps(record)}
        before = envelope(era, number)
        rows.append(
            {name: json.dumps(value) if isinstance(value, dict) else value for name, value in before.items()} | own
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode())


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _jsonl(records: Sequence[Mapping[str, Any]], era: Era, *, is_flat: bool) -> bytes:
    lines = [
        envelope(era, number) | (dict(record) if is_flat else {"_airbyte_data": record})
        for number, record in enumerate(records)
    ]
    return gzip.compress("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())


def _avro(records: Sequence[Mapping[str, Any]], era: Era, *, is_flat: bool) -> bytes:
    born = {"type": "int", "logicalType": "date"}
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": ["null", "long"], "default": None},
        {"name": "name", "type": ["null", "string"], "default": None},
        {"name": "price", "type": ["null", "double"], "default": None},
        {"name": "born", "type": ["null", born, *(["string"] if era == "0.6" else [])], "default": None},
        {"name": "tags", "type": ["null", {"type": "array", "items": ["null", "string"]}], "default": None},
    ]
    uuid, moment = {"type": "string", "logicalType": "uuid"}, {"type": "long", "logicalType": "timestamp-millis"}
    change = {
        "type": "record",
        "name": "change",
        "fields": [{"name": each, "type": "string"} for each in ("field", "change", "reason")],
    }
    meta = {
        "type": "record",
        "name": "meta",
        "fields": [
            {"name": "sync_id", "type": "long"},
            {"name": "changes", "type": {"type": "array", "items": change}},
        ],
    }
    if era == "0.6":
        own = [{"name": "_airbyte_ab_id", "type": uuid}, {"name": "_airbyte_emitted_at", "type": moment}]
        more = {
            "name": "_airbyte_additional_properties",
            "type": ["null", {"type": "map", "values": "string"}],
            "default": None,
        }
        fields.append(more)
    else:
        own = [
            {"name": "_airbyte_raw_id", "type": uuid},
            {"name": "_airbyte_extracted_at", "type": moment},
            {"name": "_airbyte_meta", "type": meta},
            {"name": "_airbyte_generation_id", "type": "long"},
        ]
    schema = {"type": "record", "name": "users", "namespace": "public", "fields": own + fields}
    rows = [envelope(era, number) | _dated(record) for number, record in enumerate(records)]
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema), rows)
    return file.getvalue()


def _dated(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "born": date.fromisoformat(record["born"])}


def _parquet(records: Sequence[Mapping[str, Any]], era: Era, *, is_flat: bool) -> bytes:
    moment = pa.timestamp("ms", "UTC")
    born: pa.DataType = pa.date32()
    if era == "0.6":
        born = pa.struct([("member0", pa.date32()), ("member1", pa.string())])
        own = [("_airbyte_ab_id", pa.string()), ("_airbyte_emitted_at", moment)]
        more = [("_airbyte_additional_properties", pa.map_(pa.string(), pa.string()))]
    else:
        change = pa.struct([(name, pa.string()) for name in ("field", "change", "reason")])
        meta = pa.struct([("sync_id", pa.int64()), ("changes", pa.list_(change))])
        own = [
            ("_airbyte_raw_id", pa.string()),
            ("_airbyte_extracted_at", moment),
            ("_airbyte_meta", meta),
            ("_airbyte_generation_id", pa.int64()),
        ]
        more = []
    types = [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("price", pa.float64()),
        ("born", born),
        ("tags", pa.list_(pa.string())),
    ]
    rows = []
    for number, record in enumerate(records):
        row = envelope(era, number) | _dated(record)
        at = "_airbyte_emitted_at" if era == "0.6" else "_airbyte_extracted_at"
        row[at] = datetime.fromtimestamp(EMITTED_AT / 1000, UTC)
        if era == "0.6":
            row["born"] = {"member0": row["born"], "member1": None}
        rows.append(row)
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([*own, *types, *more])), file)
    return file.getvalue()
