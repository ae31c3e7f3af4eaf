"""Where the manifests of a stream and its scopes stand, and what the names of segments tell.

Texts only; it must not know what stands in a manifest.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from s3dest_dagster.keys import encode_name


def registry_key(root: str) -> str:
    """Key of the register of the stream whose scopes stand under `root`; no scope's directory is called so."""
    return f"{root}~stream.json"


def head_key(root: str) -> str:
    """Key of the head of the scope whose manifests stand under `root` (which ends with a slash)."""
    return f"{root}head.json"


def segment_key(root: str, name: str) -> str:
    """Key of a segment."""
    return f"{root}segments/{name}.json"


def quarantine_key(root: str, name: str) -> str:
    """Key of the quarantined records of a segment."""
    return f"{root}quarantine/{name}.jsonl"


def sync_mark_key(root: str, sync_id: str) -> str:
    """Key of the mark of a sync that the head has forgotten."""
    return f"{root}syncs/{encode_name(sync_id)}.json"


def segment_name(sync_id: str, attempt: str, number: int = 0) -> str:
    """Name of a segment of one attempt at a sync: its id, percent-encoded, what the attempt has drawn, and a number
    for those after its first checkpoint."""
    first = f"{quote(sync_id, safe='').replace('~', '%7E').replace('.', '%2E')}.{attempt}"
    return f"{first}-{number}" if number else first


def sync_of(name: str) -> str:
    """The sync id that a segment's name begins with."""
    return unquote(name.rpartition(".")[0])


def attempt_of(name: str) -> str:
    """What the attempt has drawn that a segment's name tells."""
    return name.rpartition(".")[2].partition("-")[0]
