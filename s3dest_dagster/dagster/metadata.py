"""The metadata of a materialization: counts, objects, columns, and a preview of the records.

Must not know: when it is reported.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import dagster as dg
import msgspec

from s3dest_dagster.batch import ArrowBatch, Batch
from s3dest_dagster.columns.json_schema import record_type, resolve
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schemas import columns
from s3dest_dagster.commit.segment import SchemaChanges
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.printable import MASK, amount, printable, printable_lines
from s3dest_dagster.settings.formats import TypeRules
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream

STORAGE_KIND = "s3"
SHOWN_OBJECTS = 100
"""The number of objects that are listed one by one. The manifest lists all of them."""
_DIGITS = 16
_TALLIES = ("overflowed", "undeclared", "coerced", "non_finite", "excluded", "hashed", "masked")
_OBJECTS_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("key", type="string", description="Key of the object in the bucket."),
        dg.TableColumn("rows", type="int"),
        dg.TableColumn("bytes", type="int", description="Size in the bucket, compressed."),
        dg.TableColumn(
            "close_reason", type="string", description="Why the object was closed: its size, the end, or memory."
        ),
    ]
)


def receipt_metadata(
    receipt: Receipt,
    stream: Stream,
    *,
    bucket: Bucket,
    seconds: float,
    preview: Preview,
    left_elsewhere: Sequence[str] = (),
) -> dict[str, Any]:
    """The metadata of a materialization, with the most important entries first.

    Columns are included if the stream declares none, or if they have changed.
    """
    directory = _common_directory(receipt)
    return {
        "rows": receipt.rows,
        "bytes": receipt.bytes,
        "object_count": len(receipt.objects),
        "records_read": receipt.counts.read + (receipt.discarded or 0),
        **({"discarded": receipt.discarded} if receipt.discarded is not None else {}),
        **_misfits(receipt),
        **_quarantine(receipt, bucket),
        **({"location": _location(bucket, directory)} if directory is not None else {}),
        **_observed_columns(receipt, stream),
        **preview.metadata(),
        "objects": _objects(receipt),
        "removed_objects": len(receipt.removed),
        **({"manifest": dg.MetadataValue.path(receipt.manifest)} if receipt.manifest else {}),
        "seconds": round(seconds, 3),
        "rows_per_second": round((receipt.rows - _earlier_rows(receipt)) / seconds) if seconds > 0 else 0,
        "sync_id": receipt.sync_id,
        "schema_fingerprint": receipt.fingerprint,
        "dagster/storage_kind": STORAGE_KIND,
        **({"dagster/uri": bucket.uri(directory)} if directory is not None else {}),
        **_row_count(receipt),
        **({"checkpoints": receipt.checkpoints} if receipt.checkpoints else {}),
        **({"earlier_rows": _earlier_rows(receipt)} if receipt.earlier is not None else {}),
        **({"repeated": True} if receipt.repeated else {}),
        **({"aborted_uploads": receipt.swept} if receipt.swept else {}),
        **({"left_beside": [str(scope) for scope in receipt.left_beside[:MAX_ROWS]]} if receipt.left_beside else {}),
        **({"left_elsewhere": list(left_elsewhere)} if left_elsewhere else {}),
        **({"former_template": receipt.former_template} if receipt.former_template else {}),
        **({"expired_partitions": list(receipt.expired[:MAX_ROWS])} if receipt.expired else {}),
        **({"ended_early": receipt.ended_early} if receipt.ended_early else {}),
        **_partitions(receipt),
    }


def _partitions(receipt: Receipt) -> dict[str, Any]:
    """What the directories of the records' fields tell."""
    summary = receipt.partitions
    if summary is None:
        return {}
    return {
        "directories": summary.directories,
        "smallest_object": summary.smallest,
        "median_object": summary.median,
        "null_rows": dict(summary.null_rows),
    }


def _earlier_rows(receipt: Receipt) -> int:
    """Rows that checkpoints of earlier attempts at the sync had published."""
    return receipt.earlier.landed if receipt.earlier is not None else 0


def _row_count(receipt: Receipt) -> dict[str, int]:
    """The rows that the stream, or the partition, holds after the sync: Dagster's standard entries."""
    total = receipt.rows if receipt.replaces else receipt.total_rows
    if total is None:
        return {}
    return {"dagster/row_count" if receipt.scope.partition is None else "dagster/partition_row_count": total}


def _misfits(receipt: Receipt) -> dict[str, Any]:
    """Counts of values and lines that do not fit the schema, in total and, if there are any, by field.

    `quarantined` and `overflowed` are always included, so that their plots have no gaps.
    """
    counts: dict[str, Any] = {"quarantined": receipt.counts.quarantined}
    for name in _TALLIES:
        by_field: Mapping[str, int] = getattr(receipt.counts.tally, name)
        if by_field or name == "overflowed":
            counts[name] = sum(by_field.values())
        if by_field:
            counts[f"{name}_fields"] = dict(by_field)
    return counts


def _quarantine(receipt: Receipt, bucket: Bucket) -> dict[str, dg.MetadataValue[Any]]:
    """The location of the quarantined lines. A sync with checkpoints has several objects of them; this is the last."""
    return {"quarantine": dg.MetadataValue.path(bucket.uri(receipt.quarantine[-1]))} if receipt.quarantine else {}


def _objects(receipt: Receipt) -> dg.MetadataValue[Any]:
    """The objects as a table. If there are many, the last row says how many are not listed."""
    rows = [
        dg.TableRecord({"key": entry.key, "rows": entry.rows, "bytes": entry.bytes, "close_reason": entry.close_reason})
        for entry in receipt.objects[:SHOWN_OBJECTS]
    ]
    if rest := receipt.objects[SHOWN_OBJECTS:]:
        total, count = sum(entry.bytes for entry in rest), sum(entry.rows for entry in rest)
        more = f"… and {len(rest)} more, see the manifest"
        rows.append(dg.TableRecord({"key": more, "rows": count, "bytes": total, "close_reason": ""}))
    return dg.MetadataValue.table(rows, schema=_OBJECTS_SCHEMA)


def _common_directory(receipt: Receipt) -> str | None:
    """The deepest directory that contains all objects, as a prefix of their keys. None if there are no objects."""
    if not receipt.objects:
        return None
    common = posixpath.commonpath([f"/{posixpath.dirname(entry.key)}" for entry in receipt.objects])
    return f"{common.strip('/')}/".lstrip("/")


def _location(bucket: Bucket, directory: str) -> dg.MetadataValue[Any]:
    """A link to a directory: its page in the AWS console, or its address on another server."""
    page = bucket.console_url(directory)
    return dg.MetadataValue.url(page) if page is not None else dg.MetadataValue.path(bucket.uri(directory))


# ---------------------------------------------------------------------- columns


_SHOWN_TYPES = TypeRules(open_objects="text")
"""The types of a schema under the default settings."""


def column_schema(stream: Stream) -> dg.TableSchema | None:
    """The columns of the stream's records. None if it declares no JSON schema. Raises SchemaError for a wrong
    schema."""
    if stream.json_schema is None:
        return None
    return _table_schema(stream, record_type(stream.json_schema, stream.name, stream.namespace, _SHOWN_TYPES))


def _table_schema(stream: Stream, record: Record) -> dg.TableSchema:
    sources = {field.name: field.source for field in record.fields}
    return dg.TableSchema(
        [
            dg.TableColumn(name, type=kind, description=_joined(_description(stream, sources.get(name)), note))
            for name, kind, note in columns(record)
        ]
    )


def _description(stream: Stream, field: str | None) -> str | None:
    """The field's description in the JSON schema."""
    properties = (stream.json_schema or {}).get("properties")
    schema = properties.get(field) if isinstance(properties, Mapping) else None
    text = schema.get("description") if isinstance(schema, Mapping) else None
    return printable_lines(text) if isinstance(text, str) else None


def _joined(description: str | None, note: str | None) -> str | None:
    return f"{description} ({note})" if description and note else description or note


def _observed_columns(receipt: Receipt, stream: Stream) -> dict[str, Any]:
    """The landed columns, if the asset shows others, and the changes."""
    changes = receipt.schema_changes
    if receipt.json_schema is None:
        return {}
    inferred = replace(stream, json_schema=json.loads(receipt.json_schema))
    observed = column_schema(inferred) if receipt.columns is None else _table_schema(inferred, receipt.columns)
    if changes is None and observed == column_schema(stream):
        return {}
    return {
        "dagster/column_schema": observed,
        **({} if changes is None else {"schema_changes": changes_by_kind(changes)}),
    }


def changes_by_kind(changes: SchemaChanges) -> dict[str, Any]:
    """The columns that were added, removed and retyped. Empty kinds are left out."""
    by_kind = {
        "added": list(changes.added),
        "removed": list(changes.removed),
        "retyped": {change.name: f"{change.before} → {change.now}" for change in changes.retyped},
    }
    return {kind: names for kind, names in by_kind.items() if names}


def digest(*parts: Any) -> str:
    """A short text that differs if any part differs."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]


# ---------------------------------------------------------------------- the preview

MAX_ROWS = 50
MAX_COLUMNS = 20
MAX_BYTES = 120
"""The maximum number of UTF-8 bytes in a cell."""
_SECRET = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|pin|cvv|secrets?|(?:access|refresh|session|auth)?tokens?|credentials?"
    r"|auth|authorization|bearer|jwt|cookies?"
    r"|(?:api|access|private|secret|encryption|signing)_?keys?|connection_?string|dsn|signature)(?:_|$)"
)

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNIONS = ("oneOf", "anyOf", "allOf")
_MAX_JSON = 1_000_000
"""The maximum length of a JSON text that is searched for secrets, in characters."""
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


class Preview:
    """The first records of a landing as a small table of texts, bounded and without secrets.

    A cell and a name have at most 120 bytes, a record 20 columns. A value is masked if its field is named like a
    secret, or if the JSON schema marks it as one (`airbyte_secret`, `writeOnly`, the format `password`), at any depth,
    also within texts that are JSON.

    Args:
        rows: Number of records to keep; 0 for no preview.
    """

    def __init__(self, stream: Stream, rows: int) -> None:
        self._left = rows
        self._mask = _Mask(stream.json_schema or {})
        self._records: list[dict[str, str | None]] = []

    def add(self, batch: Batch) -> None:
        """Keeps the records of a batch, as long as more are needed. The batch is as it lands (see `Landing`)."""
        if self._left:
            # A preview must never fail a landing: a value that cannot be shown may still land, and types raise their
            # own errors when they are converted.
            with suppress(Exception):
                self._records += [self._texts(record) for record in _first(batch, self._left)]
            self._left -= min(batch.num_rows, self._left)

    def metadata(self) -> dict[str, Any]:
        """The table as metadata `preview`. Empty if there were no records."""
        names = list(dict.fromkeys(name for record in self._records for name in record))
        if not names:
            return {}
        shown, hidden = names[:MAX_COLUMNS], len(names) - MAX_COLUMNS
        more = {"…": amount(hidden, "more column")} if hidden > 0 else {}
        rows = [
            dg.TableRecord({**{name: printable(record.get(name) or "") for name in shown}, **more})
            for record in self._records
        ]
        schema = dg.TableSchema([dg.TableColumn(name, type="string") for name in (*shown, *more)])
        return {"preview": dg.MetadataValue.table(rows, schema=schema)}

    def _texts(self, record: Mapping[str, Any]) -> dict[str, str | None]:
        return {printable(_shortened(str(name))): _text(value) for name, value in self._mask.record(record).items()}


def _first(batch: Batch, rows: int) -> list[Any]:
    if isinstance(batch, ArrowBatch):
        return list(batch.data.slice(0, rows).to_pylist())
    return [msgspec.json.decode(raw) for raw in batch.raws[:rows]]


class _Mask:
    """Masks secrets by their names and their JSON schemas, including unions and references."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema

    def record(self, record: Mapping[Any, Any]) -> dict[Any, Any]:
        return self._members(record, self._branches([self._root]))

    def _members(self, value: Mapping[Any, Any], schemas: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
        properties = [schema["properties"] for schema in schemas if isinstance(schema.get("properties"), Mapping)]
        return {
            name: self._value(str(name), member, self._branches(fields.get(name) for fields in properties))
            for name, member in value.items()
        }

    def _value(self, name: str, value: Any, schemas: Sequence[Mapping[str, Any]]) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if any(map(_is_marked_secret, schemas)) or _SECRET.search(_HUMP.sub("_", name).lower().replace("-", "_")):
            return MASK
        if isinstance(value, Mapping):
            return self._members(value, schemas)
        if isinstance(value, list):
            items = self._branches(schema.get("items") for schema in schemas)
            return [self._value("", element, items) for element in value]
        return self._in_text(value, schemas) if isinstance(value, str) else value

    def _in_text(self, text: str, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The text, without secrets if it is JSON. "…" if it looks like JSON and is too long to be searched."""
        if text.lstrip()[:1] in ("{", "["):
            if len(text) > _MAX_JSON:
                return "…"
            with suppress(ValueError, RecursionError):
                value = json.loads(text)
                if (masked := self._value("", value, schemas)) != value:
                    return json.dumps(masked, ensure_ascii=False)
        return _URL_PASSWORD.sub(rf"\1{MASK}@", text)

    def _branches(self, schemas: Iterable[Any]) -> list[Mapping[str, Any]]:
        """These schemas, and all schemas that they refer to or are unions of."""
        branches: list[Mapping[str, Any]] = []
        left = list(schemas)
        while left:
            schema = left.pop()
            if isinstance(schema, Mapping) and not any(schema is known for known in branches):
                branches.append(schema)
                left += [branch for word in _UNIONS for branch in schema.get(word) or ()]
                reference = schema.get("$ref")
                if isinstance(reference, str) and reference.startswith("#/"):
                    left.append(resolve(self._root, reference))
        return branches


def _is_marked_secret(schema: Mapping[str, Any]) -> bool:
    return schema.get("airbyte_secret") is True or schema.get("writeOnly") is True or schema.get("format") == "password"


def _text(value: Any) -> str | None:
    """A value as a short text: a text as it is, anything else as JSON."""
    if value is None:
        return None
    return _shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _shortened(text: str) -> str:
    data = text[: MAX_BYTES + 1].encode("utf-8", "replace")
    if len(data) <= MAX_BYTES:
        return text
    return data[: MAX_BYTES - len("…".encode())].decode("utf-8", "ignore") + "…"
