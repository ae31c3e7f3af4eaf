"""The copy of a stream's registry, from which a landing restores it by a few requests if it is lost.

The copy is put before the registry, under a key of its own, and the copy of the former registry is deleted after it. So
whenever the registry is lost, its copy is there, and nothing newer save the copy of a change that was not completed.
Must not know: what a registry means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from s3dest_dagster.commit.documents import registry_copy_key, registry_copy_prefix, version_of_registry_copy
from s3dest_dagster.commit.registry_document import REGISTRIES, StreamRegistry
from s3dest_dagster.errors import StorageError
from s3dest_dagster.storage import Bucket, in_parallel


def next_version(bucket: Bucket, root: str, before: StreamRegistry, changed: StreamRegistry) -> StreamRegistry:
    """The changed registry with the version that follows.

    It keeps its version, and so its copy, if only the time of the last sweep has changed. Without a template it has
    neither: a landing enters its template before anything is visible, so that there is nothing to lose yet.

    Args:
        root: The prefix of the stream's manifests.
        before: The registry that was changed.
    """
    version = before.version
    if not changed.templates or (version and _content(before) == _content(changed)):
        return changed
    if not version and before.templates:
        # An older version of the library put it, or it was recreated: there may be copies of earlier registries.
        version = max(map(version_of_registry_copy, _keys(bucket, root)), default=0)
    return replace(changed, version=version + 1)


def put_copy(bucket: Bucket, root: str, registry: StreamRegistry) -> None:
    """Puts the copy of a registry that is about to be put."""
    if registry.version:
        data = REGISTRIES.encode(_content(registry))
        bucket.put(_key(root, registry.version, data), data)


def delete_copies(bucket: Bucket, root: str, former: Iterable[StreamRegistry], now: StreamRegistry) -> None:
    """Deletes the copies of former registries, and of changes that were refused. If that fails, they stay unused."""
    keys = {_key(root, each.version, REGISTRIES.encode(_content(each))) for each in (*former, now) if each.version}
    if now.version:
        keys.remove(_key(root, now.version, REGISTRIES.encode(_content(now))))
    with suppress(StorageError):
        bucket.delete(sorted(keys))


def newest_copy(bucket: Bucket, root: str) -> StreamRegistry | None:
    """The registry that was lost, with all columns that were ever reserved. Needs a listing and one or two requests.

    None if there is no copy, if it was altered, or if the copies leave open what the registry said: a change was not
    completed, and differs from the registry before it by more than columns.

    Raises:
        ManifestError: The copy belongs elsewhere, or its format version is newer than ours.
    """
    keys = _keys(bucket, root)
    newest = max(map(version_of_registry_copy, keys), default=0)
    # The registry had this version, or, if the change to this version was not completed, the one before.
    candidates = [key for key in keys if version_of_registry_copy(key) >= newest - 1]
    copies = list(in_parallel(lambda key: _read(bucket, root, key), candidates))
    found = [each for each in copies if each is not None]
    if not found or len(found) < len(copies):
        return None
    last = [each for each in found if each.version == newest]
    agree = all(_without_columns(each) == _without_columns(last[0]) for each in found)
    return last[0] if len(last) == 1 and agree else None


def _read(bucket: Bucket, root: str, key: str) -> StreamRegistry | None:
    """A copy as it was put. None if it was deleted or altered."""
    found = bucket.get(key)
    if found is None or key != _key(root, version_of_registry_copy(key), found[0]):
        return None
    return REGISTRIES.accept(bucket, root, key, found[0])


def _keys(bucket: Bucket, root: str) -> list[str]:
    listed = (each.key for each in bucket.list_objects(registry_copy_prefix(root)))
    return [key for key in listed if version_of_registry_copy(key)]


def _key(root: str, version: int, data: bytes) -> str:
    return registry_copy_key(root, version, hashlib.sha256(data).hexdigest()[:16])


def _content(registry: StreamRegistry) -> StreamRegistry:
    """What a copy holds: everything but the time of the last sweep, which changes every day and may be lost."""
    return replace(registry, uploads_swept_at=None)


def _without_columns(registry: StreamRegistry) -> StreamRegistry:
    return replace(registry, columns=None, retyped=(), version=0)
