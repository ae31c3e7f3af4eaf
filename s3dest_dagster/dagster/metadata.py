"""The metadata of a materialization: counts, objects and columns.

Must not know: when it is reported.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schemas import columns
from s3dest_dagster.commit.segment import SchemaChanges
from s3dest_dagster.dagster.preview import MAX_ROWS, Preview
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.printable import printable_lines
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
