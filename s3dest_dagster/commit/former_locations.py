"""Finds what a stream that has never landed may have left elsewhere in its bucket, under another name or path.

Nothing in a bucket says that a stream was renamed or has moved. What is found is a likely place, for people to judge.
The search is bounded, and only for those who plan: a landing does not wait for it. Must not: change anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from s3dest_dagster.commit.documents import StreamLocation, registry_key
from s3dest_dagster.commit.registry_document import REGISTRIES, StreamRegistry
from s3dest_dagster.commit.scopes import scopes_of_stream
from s3dest_dagster.errors import AccessDeniedError, ManifestError
from s3dest_dagster.keys import KeyTemplate, encode_name, manifest_root, stream_root
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import StreamId

MOST_LOOKED_AT = 20
"""The most neighbours that are looked at: directories beside the bucket path, and streams of the same namespace."""


def former_locations(
    bucket: Bucket, template: KeyTemplate, stream: StreamId, owner: str | None
) -> list[StreamLocation]:
    """Where a stream that has never landed may have landed before, and still holds something.

    That is the stream itself under a bucket path above this one, or in one of the first 20 directories beside it; and,
    among the first 20 streams of its namespace, those of the same owner. It takes two requests to list, one for each
    registry, and some for each place that is found. What the identity may not read is left out.

    Args:
        bucket: The bucket.
        template: The template whose bucket path is the new one.
        stream: The stream, with its name as it is in the bucket.
        owner: Who will land it. None if nobody is named.
    """
    path = template.literal_root
    roots = [stream_root(each, stream) for each in _neighbours(bucket, path)]
    moved = [each for each in in_parallel(lambda root: _registry(bucket, root), roots) if each is not None]
    renamed = list(_of_same_owner(bucket, path, stream, owner)) if owner is not None else []
    return [each.location for each in (*moved, *renamed) if _holds_anything(bucket, each)]


def _neighbours(bucket: Bucket, path: str) -> list[str]:
    """The bucket paths above this one, and the directories beside it."""
    if not path:
        return []
    names = path.split("/")
    above = ["/".join(names[:depth]) for depth in range(len(names))]
    parent = f"{above[-1]}/" if above[-1] else ""
    beside = (each.rstrip("/") for each in _directories(bucket, parent)[:MOST_LOOKED_AT])
    return [*above, *(each for each in beside if each != path)]


def _of_same_owner(bucket: Bucket, path: str, stream: StreamId, owner: str) -> Iterator[StreamRegistry]:
    namespace = f"{manifest_root(path)}{encode_name(stream.namespace or None)}/"
    own = stream_root(path, stream)
    roots = [each for each in _directories(bucket, namespace)[:MOST_LOOKED_AT] if each != own]
    for registry in in_parallel(lambda root: _registry(bucket, root), roots):
        if registry is not None and registry.owner == owner:
            yield registry


def _directories(bucket: Bucket, prefix: str) -> list[str]:
    try:
        return list(bucket.list_directories(prefix))
    except AccessDeniedError:
        return []


def _registry(bucket: Bucket, root: str) -> StreamRegistry | None:
    try:
        found = REGISTRIES.read(bucket, root, registry_key(root))
    except (AccessDeniedError, ManifestError):
        return None
    return found[0] if found is not None else None


def _holds_anything(bucket: Bucket, registry: StreamRegistry) -> bool:
    try:
        found = scopes_of_stream(bucket, registry.location.root)
        return not all(each.commit_log.is_empty(each.seen.head) for each in found)
    except (AccessDeniedError, ManifestError):
        return False
