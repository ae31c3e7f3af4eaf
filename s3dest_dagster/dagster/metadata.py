"""What Dagster compares to tell what is unchanged: an asset's code version, and the data version of what was landed.

It must not know when either is asked for.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import dagster as dg
import msgspec

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch, SourceItem, StreamBatch
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schemas import columns, paths
from s3dest_dagster.commit.segment import SchemaChanges
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.printable import amount, printable, printable_lines
from s3dest_dagster.settings.formats import FormatSettings
from s3dest_dagster.sources.airbyte.config import MASK
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
        dg.TableRecord({"key": each.key, "rows": each.rows, "bytes": each.bytes, "closed_at": each.close_reason})
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


MOST_ROWS = 50
MOST_COLUMNS = 20
MOST_BYTES = 120
"""UTF-8 bytes of a cell."""
_SECRET = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|pin|cvv|secrets?|(?:access|refresh|session|auth)?tokens?|credentials?"
    r"|auth|authorization|bearer|jwt|cookies?"
    r"|(?:api|access|private|secret|encryption|signing)_?keys?|connection_?string|dsn|signature)(?:_|$)"
)

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNIONS = ("oneOf", "anyOf", "allOf")
_LONGEST_JSON = 1_000_000
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


class Preview:
    """Takes what is landed, and keeps the texts of its first `rows` records; nothing at all of 0.

    A cell and a name have at most 120 bytes, a record 20 columns. Values of fields that are called like secrets, or
    that the JSON schema marks as such (`airbyte_secret`, `writeOnly`, the format `password`), are struck out, however
    deep, also within texts that are JSON.
    """

    def __init__(self, stream: Stream, rows: int) -> None:
        self._left = rows
        self._masked = _Masked(stream.json_schema or {})
        self._records: list[dict[str, str | None]] = []

    def of(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each of them looked at on its way."""
        for item in items:
            self.take(item)
            yield item

    def take(self, item: SourceItem | Batch) -> None:
        """Looks at the next item, as long as records are wanted."""
        batch = item.batch if isinstance(item, StreamBatch) else item
        if self._left and isinstance(batch, JsonBatch | ArrowBatch):
            # Types have errors of their own. What cannot be shown may be landed; a landing says itself what it refuses.
            with suppress(Exception):
                self._records += [self._texts(each) for each in _first(batch, self._left)]
            self._left -= min(batch.num_rows, self._left)

    def metadata(self) -> dict[str, Any]:
        """The table as metadata `preview`; nothing where no record was seen."""
        names = list(dict.fromkeys(name for record in self._records for name in record))
        if not names:
            return {}
        shown, hidden = names[:MOST_COLUMNS], len(names) - MOST_COLUMNS
        more = {"…": amount(hidden, "more column")} if hidden > 0 else {}
        rows = [
            dg.TableRecord({**{name: _shown(record.get(name)) for name in shown}, **more}) for record in self._records
        ]
        schema = dg.TableSchema([dg.TableColumn(name, type="string") for name in (*shown, *more)])
        return {"preview": dg.MetadataValue.table(rows, schema=schema)}

    def _texts(self, record: Mapping[str, Any]) -> dict[str, str | None]:
        return {printable(_cut(str(name))): _text(value) for name, value in self._masked.record(record).items()}


def _first(batch: Batch, rows: int) -> list[Any]:
    if isinstance(batch, ArrowBatch):
        return list(batch.data.slice(0, rows).to_pylist())
    return [msgspec.json.decode(raw) for raw in batch.raws[:rows]]


class _Masked:
    """Values without secrets, by their names and by what a JSON schema says of them, also in unions and references."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema

    def record(self, record: Mapping[Any, Any]) -> dict[Any, Any]:
        return self._members(record, self._branches([self._root]))

    def _members(self, value: Mapping[Any, Any], declared: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
        properties = [each["properties"] for each in declared if isinstance(each.get("properties"), Mapping)]
        return {
            name: self._value(str(name), each, self._branches(within.get(name) for within in properties))
            for name, each in value.items()
        }

    def _value(self, name: str, value: Any, declared: Sequence[Mapping[str, Any]]) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if any(map(_marked, declared)) or _SECRET.search(_HUMP.sub("_", name).lower().replace("-", "_")):
            return MASK
        if isinstance(value, Mapping):
            return self._members(value, declared)
        if isinstance(value, list):
            items = self._branches(each.get("items") for each in declared)
            return [self._value("", each, items) for each in value]
        return self._in_text(value, declared) if isinstance(value, str) else value

    def _in_text(self, text: str, declared: Sequence[Mapping[str, Any]]) -> str:
        """The text, and where it is JSON, the same without secrets; nothing of one that is too long to be looked at."""
        if text.lstrip()[:1] in ("{", "["):
            if len(text) > _LONGEST_JSON:
                return "…"
            with suppress(ValueError, RecursionError):
                within = json.loads(text)
                if (masked := self._value("", within, declared)) != within:
                    return json.dumps(masked, ensure_ascii=False)
        return _URL_PASSWORD.sub(rf"\1{MASK}@", text)

    def _branches(self, declared: Iterable[Any]) -> list[Mapping[str, Any]]:
        """These schemas, and all that they refer to or are unions of."""
        found: list[Mapping[str, Any]] = []
        todo = list(declared)
        while todo:
            each = todo.pop()
            if isinstance(each, Mapping) and not any(each is known for known in found):
                found.append(each)
                todo += [branch for word in _UNIONS for branch in each.get(word) or ()]
                todo.append(self._referred(each.get("$ref")))
        return found

    def _referred(self, reference: Any) -> Any:
        place: Any = self._root
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        for step in reference[2:].split("/"):
            place = place.get(step) if isinstance(place, Mapping) else None
        return place


def _marked(declared: Mapping[str, Any]) -> bool:
    return (
        declared.get("airbyte_secret") is True
        or declared.get("writeOnly") is True
        or declared.get("format") == "password"
    )


def _text(value: Any) -> str | None:
    """A value as a short text: texts as they are, all else as JSON."""
    if value is None:
        return None
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: str) -> str:
    data = text[: MOST_BYTES + 1].encode("utf-8", "replace")
    if len(data) <= MOST_BYTES:
        return text
    return data[: MOST_BYTES - len("…".encode())].decode("utf-8", "ignore") + "…"


def _shown(text: str | None) -> str:
    return "" if text is None else printable(text)
