"""Whose a manifest is, and where it stands: it says both itself, and is refused in any other place.

Manifests are copied with a lake and restored from backups; what they list is then somebody else's. It reads nothing.
"""

from __future__ import annotations

from s3dest_dagster.commit.manifest import Head, Segment, StreamRegistry, SyncMark
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.keys import literal_root_of, manifest_root_in, scope_root, stream_root
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId


def scope_of(manifest: Head | Segment | SyncMark) -> Scope:
    """The scope that a manifest says it is of."""
    return Scope(StreamId(manifest.namespace, manifest.stream), manifest.partition)


def check_owner(bucket: Bucket, manifest: Head | Segment | SyncMark | StreamRegistry, root: str, key: str) -> None:
    """Returns only where a manifest that was read from `key` belongs under `root`; else raises ManifestError."""
    own = _root_of(manifest)
    if own == root:
        return
    if manifest_root_in(own) != manifest_root_in(root):
        raise _copied(bucket, manifest, key)
    if isinstance(manifest, StreamRegistry):
        whose = f"the register of stream {StreamId(manifest.namespace, manifest.stream)}"
        raise misplaced(bucket, key, whose, cure="Delete it: the next sync makes it anew from what has landed.")
    raise misplaced(bucket, key, f"a manifest of {scope_of(manifest)}")


def misplaced(bucket: Bucket, key: str, what: str, cure: str = "") -> ManifestError:
    """The error for a manifest that stands where another belongs."""
    cure = cure or "Restore the one that belongs there from a backup or an older version of the object."
    return ManifestError(
        f"{bucket.uri(key)} holds {what}, which does not belong there: it was put there by mistake, perhaps when a "
        f"backup was restored. Nothing was written or deleted. {cure}",
        key=key,
    )


def _root_of(manifest: Head | Segment | SyncMark | StreamRegistry) -> str:
    """The prefix under which a manifest says that it stands."""
    if isinstance(manifest, StreamRegistry):
        return stream_root(manifest.path, StreamId(manifest.namespace, manifest.stream))
    return scope_root(manifest.path, scope_of(manifest))


def _copied(bucket: Bucket, manifest: Head | Segment | SyncMark | StreamRegistry, key: str) -> ManifestError:
    there, here = bucket.uri(manifest.path), bucket.uri(literal_root_of(key))
    manifests = bucket.uri(manifest_root_in(key) or "")
    return ManifestError(
        f"{bucket.uri(key)} was copied or moved: it is a manifest of {there}, lists what is there, and says nothing "
        f"about what is under {here}. Nothing was written or deleted. Land under {there} as before, or under a bucket "
        f"path that holds no manifests. If {here} is to be a lake of its own, remove the manifests that were copied, "
        f"under {manifests}, and nothing else: it then begins without syncs and states, and the first full refresh of "
        "a stream replaces the copies of its objects.",
        key=key,
    )
