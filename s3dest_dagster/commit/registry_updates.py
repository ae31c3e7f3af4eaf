"""Reads and changes the registry of a stream, which landings share, by conditional puts.

Must not know: who may enter a registry, and why it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from s3dest_dagster.commit.documents import registry_key
from s3dest_dagster.commit.registry_copies import delete_copies, next_version, put_copy
from s3dest_dagster.commit.registry_document import REGISTRIES, StreamRegistry
from s3dest_dagster.errors import PreconditionFailedError, StorageError
from s3dest_dagster.keys import stream_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import StreamId

ATTEMPTS = 5
"""How often a change is tried if the server fails."""
SeenRegistry = tuple[StreamRegistry, str | None]
"""A registry as it was read or put, and its ETag. The ETag is None if there is no registry yet."""


def registry_of(bucket: Bucket, destination: S3Destination, stream: StreamId) -> StreamRegistry | None:
    """The registry of a stream, whose name is that in the bucket. None if the stream has none."""
    found = _find(bucket, destination, stream)
    return found[0] if found is not None else None


def transfer(bucket: Bucket, destination: S3Destination, stream: StreamId, owner: str) -> StreamRegistry | None:
    """Gives a stream to a new owner. Returns the registry before, or None if the stream has none.

    From then on a landing by the former owner is refused when it begins. One that has begun before still lands,
    unless it begins a scope.

    Args:
        stream: The stream, with its name as it is in the bucket.
    """
    before: StreamRegistry | None = None

    def given(registry: StreamRegistry) -> StreamRegistry:
        nonlocal before
        before = registry
        return replace(registry, owner=owner)

    root = stream_root(destination.template.literal_root, stream)
    update_registry(
        bucket.with_root(destination.template.manifest_root), root, lambda: _find(bucket, destination, stream), given
    )
    return before


def update_stream(
    bucket: Bucket,
    destination: S3Destination,
    stream: StreamId,
    change: Callable[[StreamRegistry], StreamRegistry],
    empty: StreamRegistry,
) -> StreamRegistry:
    """Changes the registry of a stream, whose name is that in the bucket. See `update_registry`.

    Args:
        empty: What is changed if the stream has no registry.
    """
    root = stream_root(destination.template.literal_root, stream)
    bucket = bucket.with_root(destination.template.manifest_root)
    now = update_registry(bucket, root, lambda: _find(bucket, destination, stream) or (empty, None), change)
    assert now is not None, "there is always a registry to change"
    return now[0]


def update_registry(
    bucket: Bucket,
    root: str,
    read: Callable[[], SeenRegistry | None],
    change: Callable[[StreamRegistry], StreamRegistry],
    *,
    seen: SeenRegistry | None = None,
    attempts: int = ATTEMPTS,
) -> SeenRegistry | None:
    """Changes a stream's registry by a conditional put, or by no request if the change changes nothing. Before it, the
    copy of the registry is put, so that the registry can be restored from then on.

    Args:
        bucket: The bucket.
        root: The prefix of the stream's manifests.
        read: Reads the registry. None if there is none, which ends the update.
        change: Returns the changed registry. It is called again if the registry has changed since it was read.
        seen: The registry as it was last read or put, if it was.
        attempts: How often the put may be refused because another landing was first.

    Returns:
        The registry as it is now.
    """
    former: list[StreamRegistry] = []
    for attempt in range(1, attempts + 1):
        if attempt > 1 or seen is None:
            seen = read()
        if seen is None:
            return None
        registry, etag = seen
        changed = change(registry)
        if changed == registry:
            if former:
                delete_copies(bucket, root, former, registry)
            return seen
        changed = next_version(bucket, root, registry, changed)
        former += [registry, changed]
        try:
            seen = _put(bucket, root, changed, etag, copied=changed.version != registry.version)
            delete_copies(bucket, root, former, changed)
            return seen
        except StorageError as error:
            # Another landing was first, or the answer was lost. The registry as it is now decides.
            if attempt == (attempts if isinstance(error, PreconditionFailedError) else ATTEMPTS):
                raise
    raise AssertionError("unreachable")


def _put(bucket: Bucket, root: str, registry: StreamRegistry, etag: str | None, *, copied: bool) -> SeenRegistry:
    """Puts a registry in place of the one with this ETag, and before it the copy, if there is something new to copy."""
    if copied:
        put_copy(bucket, root, registry)
    data = REGISTRIES.encode(registry)
    return registry, bucket.put(registry_key(root), data, if_absent=etag is None, if_match=etag)


def _find(bucket: Bucket, destination: S3Destination, stream: StreamId) -> tuple[StreamRegistry, str] | None:
    root = stream_root(destination.template.literal_root, stream)
    return REGISTRIES.read(bucket.with_root(destination.template.manifest_root), root, registry_key(root))
