"""What Dagster compares to tell what is unchanged: an asset's code version, and the data version of what was landed.

It must not know when either is asked for.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import dagster as dg

from s3dest_dagster.columns.arrow_types import columns, paths
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.commit.manifest import SchemaChanges
from s3dest_dagster.dagster.preview import Preview
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.printable import printable_lines
from s3dest_dagster.settings.formats import FormatSettings
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream

DATA_VERSION_TAG = "dagster/data_version"
"""Tag of a materialization in which Dagster notes its data version."""
_DIGITS = 16


def code_version(stream: Stream, format: FormatSettings | None) -> str:
    """Another text whenever what is declared would land the same records as other bytes.

    It is made of the stream's name, namespace and sync mode, the names and types of its columns as its JSON schema
    declares them, and the options of the format that are not the defaults, where the format is known. A function's own
    code is not in it. SchemaError for a wrong schema.
    """
    columns: list[Any] = []
    if stream.json_schema is not None:
        columns = list(paths(record_type(stream.json_schema, stream.name, stream.namespace)))
    options = [] if format is None else [type(format).__name__, _chosen(format)]
    return _digest(stream.namespace, stream.name, stream.sync_mode.value, columns, options)


def _chosen(format: FormatSettings) -> dict[str, str]:
    return {each.name: str(value) for each in fields(format) if (value := getattr(format, each.name)) != each.default}


def data_version(receipt: Receipt, before: Callable[[], str | None]) -> str:
    """Equal texts mean equal data: the same records landed again under the same settings have the same version.

    A sync that replaces what its scope held has a version made of its records as the source gave them, in their order
    (see `ContentChecksum`), of its columns and of the format's settings; ids and times of the landing do not count. A
    sync that added records has one of its own, since the scope holds more now. One that changed nothing has the version
    that the scope had before, for which `before` is asked.
    """
    if receipt.replaces and receipt.content is not None:
        return _digest(receipt.content, receipt.fingerprint, dict(receipt.format))
    if not receipt.replaces and not receipt.objects:
        return unchanged(before())
    return _digest(receipt.sync_id)


def unchanged(before: str | None) -> str:
    """The version of data that nothing was done to; of none, where there was none before."""
    return before or _digest()


def common_version(versions: Iterable[str]) -> dg.DataVersion:
    """The version of what one step landed: of its one scope, or of all, in their order, since Dagster notes one."""
    each = list(versions)
    return dg.DataVersion(each[0] if len(each) == 1 else _digest(each))


def version_before(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> str | None:
    """The data version of the last materialization of an asset, or of its partition; None where there is none."""
    wanted: Any = key
    if partition is not None:
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    records = instance.fetch_materializations(wanted, limit=1).records
    event = records[0].asset_materialization if records else None
    return (event.tags or {}).get(DATA_VERSION_TAG) if event is not None else None


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]


STORAGE_KIND = "s3"
SHOWN_OBJECTS = 100
"""Objects that are listed one by one; the manifest has all of them."""
_TALLIES = ("overflowed", "undeclared", "coerced")
_OBJECTS_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("key", type="string", description="Key of the object in the bucket."),
        dg.TableColumn("rows", type="int"),
        dg.TableColumn("bytes", type="int", description="Size as it lies in the bucket, compressed."),
        dg.TableColumn(
            "closed_at", type="string", description="Why the object was closed: its size, the end, or memory."
        ),
    ]
)


def column_schema(stream: Stream) -> dg.TableSchema | None:
    """The columns of the stream's records; None where it declares no JSON schema. SchemaError for a wrong one."""
    if stream.json_schema is None:
        return None
    record = record_type(stream.json_schema, stream.name, stream.namespace)
    sources = {each.name: each.source for each in record.fields}
    return dg.TableSchema(
        [
            dg.TableColumn(name, type=kind, description=_joined(_description(stream, sources.get(name)), note))
            for name, kind, note in columns(record)
        ]
    )


def _description(stream: Stream, field: str | None) -> str | None:
    """What the JSON schema says about a field."""
    properties = (stream.json_schema or {}).get("properties")
    declared = properties.get(field) if isinstance(properties, Mapping) else None
    text = declared.get("description") if isinstance(declared, Mapping) else None
    return printable_lines(text) if isinstance(text, str) else None


def _joined(description: str | None, note: str | None) -> str | None:
    return f"{description} ({note})" if description and note else description or note


def receipt_metadata(
    receipt: Receipt, stream: Stream, *, bucket: Bucket, seconds: float, preview: Preview
) -> dict[str, Any]:
    """What a materialization says about the sync that made it, what people look for first.

    `stream` as it was declared: where it declares no schema, or its columns have changed, those of this sync are told.
    The row count of the table, or of the partition, is told where this sync made all of it.
    """
    directory = _common_directory(receipt)
    return {
        "rows": receipt.rows,
        "bytes": receipt.bytes,
        "object_count": len(receipt.objects),
        "records_read": receipt.counts.read,
        **_misfits(receipt),
        **_quarantine(receipt, bucket),
        **({"location": _location(bucket, directory)} if directory is not None else {}),
        **_observed_columns(receipt, stream),
        **preview.metadata(),
        "objects": _objects(receipt),
        "removed_objects": len(receipt.removed),
        "manifest": dg.MetadataValue.path(receipt.manifest),
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
        **({"ended_early": receipt.ended_early} if receipt.ended_early else {}),
    }


def _earlier_rows(receipt: Receipt) -> int:
    """Rows that earlier attempts at the sync had published by checkpoints."""
    return receipt.earlier.landed if receipt.earlier is not None else 0


def _row_count(receipt: Receipt) -> dict[str, int]:
    if not receipt.replaces:
        return {}
    name = "dagster/row_count" if receipt.scope.partition is None else "dagster/partition_row_count"
    return {name: receipt.rows}


def _misfits(receipt: Receipt) -> dict[str, Any]:
    """Counts of what is not as the schema says; by field, where there is any, since that tells what to do. Those that
    one watches are told always, so that their plots have no gaps."""
    found: dict[str, Any] = {"quarantined": receipt.counts.quarantined}
    for name in _TALLIES:
        by_field: Mapping[str, int] = getattr(receipt.counts.tally, name)
        if by_field or name == "overflowed":
            found[name] = sum(by_field.values())
        if by_field:
            found[f"{name}_fields"] = dict(by_field)
    return found


def _quarantine(receipt: Receipt, bucket: Bucket) -> dict[str, dg.MetadataValue[Any]]:
    """Where the lines are that were kept aside: the last object of them, of a sync with checkpoints."""
    return {"quarantine": dg.MetadataValue.path(bucket.uri(receipt.quarantine[-1]))} if receipt.quarantine else {}


def _objects(receipt: Receipt) -> dg.MetadataValue[Any]:
    """The objects as a table; of many, the first, and a last line that tells how many more there are."""
    rows = [
        dg.TableRecord({"key": each.key, "rows": each.rows, "bytes": each.bytes, "closed_at": each.reason})
        for each in receipt.objects[:SHOWN_OBJECTS]
    ]
    if rest := receipt.objects[SHOWN_OBJECTS:]:
        size, count = sum(each.bytes for each in rest), sum(each.rows for each in rest)
        more = f"… and {len(rest)} more, see the manifest"
        rows.append(dg.TableRecord({"key": more, "rows": count, "bytes": size, "closed_at": ""}))
    return dg.MetadataValue.table(rows, schema=_OBJECTS_SCHEMA)


def _common_directory(receipt: Receipt) -> str | None:
    """The deepest directory that has all of the objects, as a prefix of their keys; None where there are none."""
    if not receipt.objects:
        return None
    common = posixpath.commonpath([f"/{posixpath.dirname(each.key)}" for each in receipt.objects])
    return f"{common.strip('/')}/".lstrip("/")


def _location(bucket: Bucket, directory: str) -> dg.MetadataValue[Any]:
    """Where a person looks at a directory: its page in AWS's console, or its address on other servers."""
    page = bucket.console_url(directory)
    return dg.MetadataValue.url(page) if page is not None else dg.MetadataValue.path(bucket.uri(directory))


def _observed_columns(receipt: Receipt, stream: Stream) -> dict[str, Any]:
    """The columns of a stream that declares none, or whose columns are others than before, and how they differ."""
    changes = receipt.schema_changes
    if receipt.json_schema is None or (stream.json_schema is not None and changes is None):
        return {}
    observed = replace(stream, json_schema=json.loads(receipt.json_schema))
    return {
        "dagster/column_schema": column_schema(observed),
        **({} if changes is None else {"schema_changes": plain_changes(changes)}),
    }


def plain_changes(changes: SchemaChanges) -> dict[str, Any]:
    """What there is of each kind of change."""
    found = {
        "added": list(changes.added),
        "removed": list(changes.removed),
        "retyped": {each.name: f"{each.before} → {each.now}" for each in changes.retyped},
    }
    return {kind: names for kind, names in found.items() if names}
