"""The JSON schema of the manifests, made from the values that the library reads and writes; every field described."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from s3dest_dagster.commit.manifest import FORMAT_VERSION, Head, Segment, StreamRegistry, SyncMark

_PATH = "bucket path under which it stands, as far as it is literal; a reader refuses it under another"
_NAME = "name of the stream, with its prefix"
_NAMESPACE = "namespace of the stream, or null"
_PARTITION = "key of the partition, or null for an unpartitioned stream"
_VERSION = f"version of this format, now {FORMAT_VERSION}; a reader refuses a newer one"
_KEY = "key of the object"
_ROWS = "records in it"
_BYTES = "its size"
_CRC = "CRC-32 of its bytes, in hexadecimal"

DESCRIPTIONS: dict[str, dict[str, str]] = {
    "Head": {
        "path": _PATH,
        "stream": _NAME,
        "namespace": _NAMESPACE,
        "partition": _PARTITION,
        "format_version": _VERSION,
        "serial": "number that grows with every put of the head",
        "segments": "names of the live segments, level by level; each is older than those of the levels before",
        "next_part": "the lowest part number that was never given",
        "latest_start": "when the latest of its syncs began",
        "syncs": "the last 20 syncs, oldest first; those before have marks",
        "pending": "name of a segment that is decided and not yet published; all other fields are of before it",
        "state": "name of the segment with the newest state",
        "schema": "the newest schema",
        "retired": "replaced objects that are kept for readers of before",
    },
    "SyncEntry": {
        "id": "id of the sync",
        "complete": "false: a checkpoint, after which the sync went on",
        "segment": "name of its last segment",
    },
    "SyncMark": {
        "path": _PATH,
        "stream": _NAME,
        "namespace": _NAMESPACE,
        "partition": _PARTITION,
        "sync_id": "id of the sync",
        "segment": "name of its last segment, which may be gone",
        "complete": "false: a checkpoint, after which the sync went on or broke off",
        "format_version": _VERSION,
    },
    "LastSchema": {"fingerprint": "SHA-256 of the schema", "segment": "name of the segment that holds it"},
    "Leaving": {
        "segment": "name of the segment whose `removes` are kept, and those of the segments that it `retires_with`",
        "until": "when they may be deleted",
    },
    "Segment": {
        "name": "its name: the sync's id, percent-encoded, a dot and what the attempt has drawn",
        "sync_id": "id of the sync",
        "path": _PATH,
        "stream": _NAME,
        "namespace": _NAMESPACE,
        "partition": _PARTITION,
        "sync_mode": "`full_refresh` or `append`",
        "replaces": "whether the scope held only this sync's objects once it was published",
        "started_at": "when the sync began",
        "objects": "what it landed",
        "quarantine": "the object with the lines that were no records, or null",
        "removes": "keys of the objects that left, or leave, for it",
        "removes_unchanged": "of those that a later sync may land again, the ETag of the object that is meant, by key",
        "staged_since": "a moment of the server's clock before its first upload began; null where it does not matter",
        "next_part": "the lowest part number that it did not use",
        "counts": "what became of its records",
        "schema": "Avro schema of its records as text, or null when it had none",
        "fingerprint": "SHA-256 of that",
        "json_schema": "JSON schema of the stream as text",
        "format": "type and settings of the format of the objects",
        "settings": "settings of the destination",
        "state": "state of the source that the records reach, as text",
        "state_number": "how many reads led to the state, of one of all streams; 0: set by hand, or not known",
        "state_ancestors": "states of all streams that the state descends from, oldest first, not all of them",
        "library_version": "version of the library that wrote it",
        "content": "CRC-32 and Adler-32 of its records as the source gave them, and their number; null if not noted",
        "format_version": _VERSION,
        "complete": "false: a checkpoint, after which the sync went on",
        "continues": "name of the sync's checkpoint before it",
        "absorbs": "earlier syncs that it tells of, oldest first; its format and schema are theirs",
        "compacts": "names of older segments that stand for the syncs before those",
        "level": "at which level of the head's segments it stands",
        "retires_with": "name of a segment whose `removes` are kept and deleted with its own",
        "forgets_state": "whether the scope has no state any more",
        "schema_changes": "how its columns differ from those of the sync before it, or null",
    },
    "KnownState": {
        "id": "first 16 digits of the SHA-256 of the state's JSON without blanks",
        "number": "how many reads led to it; 0: set by hand, or not known",
        "segment": "key of a segment that holds its text",
    },
    "ManifestObject": {
        "key": _KEY,
        "rows": _ROWS,
        "bytes": _BYTES,
        "reason": "why it was closed: `end`, `size` …",
        "upload_id": "the multipart upload that it was until the sync was published",
        "parts": "ETags of the upload's parts, in order",
        "crc32": _CRC,
        "short_row_groups": "row groups that ended early because memory was short",
    },
    "Counts": {
        "read": "records read, lines that were none included",
        "landed": "records landed",
        "quarantined": "lines kept aside",
        "tally": "values that were changed to fit, by column",
    },
    "Tally": {
        "coerced": "values that became the declared type without loss",
        "overflowed": "values that went to the overflow column",
        "undeclared": "values of fields that the schema does not declare",
    },
    "LandedSync": {
        "segment": "name of the sync's own segment",
        "started_at": "when the sync began",
        "objects": "what it landed",
        "quarantine": "the object with the lines that were no records, or null",
    },
    "LandedObject": {
        "key": _KEY,
        "rows": _ROWS,
        "bytes": _BYTES,
        "etag": "its ETag by S3's rule for uploads in parts; empty where that does not tell",
        "crc32": _CRC,
    },
    "SchemaChanges": {"added": "new columns", "removed": "columns that are gone", "retyped": "columns of another type"},
    "Retyped": {"name": "the column", "before": "its type before", "now": "its type now"},
    "StreamRegistry": {
        "path": _PATH,
        "stream": _NAME,
        "namespace": _NAMESPACE,
        "format_version": _VERSION,
        "lost": "whether it was made anew for a stream that had landed: then other templates than these are possible",
        "templates": "all templates under which a scope of the stream has landed, the one that counts now last",
        "swept_at": "when its abandoned uploads were last looked for",
    },
    "UsedTemplate": {
        "s3_bucket_path": "the setting of this name",
        "s3_path_format": "the setting of this name",
        "file_name_pattern": "the setting of this name",
    },
}


def manifest_schema() -> str:
    """The JSON schema as a block of the documentation. KeyError for a field that nobody has described."""
    _, definitions = msgspec.json.schema_components(
        [Head, Segment, SyncMark, StreamRegistry], ref_template="#/$defs/{name}"
    )
    schema = {"$defs": {name: _described(name, each) for name, each in definitions.items()}}
    return f"```json\n{json.dumps(schema, indent=1)}\n```\n"


def _described(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    told = DESCRIPTIONS[name]
    properties = {field: {"description": told[field], **kind} for field, kind in definition["properties"].items()}
    kept = {key: value for key, value in definition.items() if key != "description"}
    return {**kept, "properties": properties}
