"""Which streams and scopes a bucket holds, found by their manifests.

Directories are listed, never what stands in them: a request tells a thousand of them, however many syncs they have had.
It must not change anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.manifest import Head, from_json
from s3dest_dagster.commit.manifest_keys import head_key
from s3dest_dagster.commit.placement import check_owner, scope_of
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.keys import KeyTemplate, decode_name, encode_name, manifest_root, stream_root
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import Scope, StreamId


@dataclass(frozen=True, slots=True)
class FoundScope:
    """A scope that has a head, the ledger of its manifests, and the head as it was read."""

    commit_log: CommitLog
    seen: SeenHead

    @property
    def scope(self) -> Scope:
        return self.commit_log.scope


@dataclass(frozen=True, slots=True)
class DamagedHead:
    """A head that cannot be read. `scope` is what its key tells, cut where a name is too long for a key."""

    scope: Scope
    error: ManifestError


@dataclass(frozen=True, slots=True)
class FoundStream:
    """A stream that has heads: the scopes of those that can be read, and the others."""

    stream: StreamId
    scopes: tuple[Scope, ...]
    damaged: tuple[DamagedHead, ...]


def found_streams(
    bucket: Bucket, template: KeyTemplate, streams: Collection[StreamId] | None = None, partition: str | None = None
) -> Iterator[FoundStream]:
    """Every stream of the bucket path that has a head, or of some streams; of one partition, or of all scopes.

    Unlike `scopes` it goes on where a head cannot be read.
    """
    for root in _stream_roots(bucket, template, streams):
        roots = bucket.list_directories(root) if partition is None else [f"{root}{encode_name(partition)}/"]
        heads = [each for each in in_parallel(lambda each: _head_at(bucket, each), roots) if each is not None]
        if heads:
            readable = tuple(each.scope for each in heads if isinstance(each, FoundScope))
            damaged = tuple(each for each in heads if isinstance(each, DamagedHead))
            yield FoundStream((readable or [each.scope for each in damaged])[0].stream, readable, damaged)


def scopes(bucket: Bucket, template: KeyTemplate, streams: Collection[StreamId] | None = None) -> Iterator[Scope]:
    """Every scope of the bucket path that has a head, or those of some streams (names as they stand in the bucket).

    Raises ManifestError for a head that cannot be read.
    """
    for root in _stream_roots(bucket, template, streams):
        yield from (each.scope for each in scopes_of_stream(bucket, root))


def _stream_roots(bucket: Bucket, template: KeyTemplate, streams: Collection[StreamId] | None) -> list[str]:
    if streams is None:
        return stream_roots(bucket, manifest_root(template.literal_root))
    return [stream_root(template.literal_root, each) for each in sorted(set(streams), key=str)]


def stream_roots(bucket: Bucket, root: str) -> list[str]:
    """The roots of all streams that have manifests under a manifest root."""
    return [stream for namespace in bucket.list_directories(root) for stream in bucket.list_directories(namespace)]


def scopes_of_stream(bucket: Bucket, root: str) -> list[FoundScope]:
    """All scopes of the stream with this root, in the order of their names."""
    found = in_parallel(lambda each: _scope_at(bucket, each), bucket.list_directories(root))
    return [each for each in found if each is not None]


def _scope_at(bucket: Bucket, root: str) -> FoundScope | None:
    """The scope whose manifests stand under `root`; None when it has no head: then no sync of it was ever decided."""
    found = bucket.get(head_key(root))
    if found is None:
        return None
    head = from_json(Head, found[0], head_key(root))
    check_owner(bucket, head, root, head_key(root))
    return FoundScope(CommitLog(bucket, root, scope_of(head)), SeenHead(head, found[1]))


def _head_at(bucket: Bucket, root: str) -> FoundScope | DamagedHead | None:
    try:
        return _scope_at(bucket, root)
    except ManifestError as error:
        namespace, stream, partition = map(decode_name, root.split("/")[-4:-1])
        return DamagedHead(Scope(StreamId(namespace, stream or ""), partition), error)
