"""Finds the streams and scopes in a bucket by their manifests.

Only directories are listed, never their content: one request lists a thousand, however many syncs they have had.
Must not: change anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.documents import head_key
from s3dest_dagster.commit.head import HEADS
from s3dest_dagster.commit.segment import Segment, holds_objects
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.keys import KeyTemplate, decode_name, encode_name, literal_root_of, scope_root, stream_root
from s3dest_dagster.storage import Bucket, each_in_parallel, in_parallel
from s3dest_dagster.stream import Scope, StreamId


@dataclass(frozen=True, slots=True)
class FoundScope:
    """A scope that has a head."""

    commit_log: CommitLog
    """The scope's documents."""
    seen: SeenHead
    """The head as it was read."""

    @property
    def scope(self) -> Scope:
        return self.commit_log.scope

    def segments(self) -> list[Segment]:
        """The live segments, oldest first, and the segment that is decided but not yet published."""
        head, commit_log = self.seen.head, self.commit_log
        pending = [commit_log.read_segment(head.pending_segment)] if head.pending_segment is not None else []
        return [*commit_log.live_segments(head), *pending]


@dataclass(frozen=True, slots=True)
class DamagedHead:
    """A head that cannot be read."""

    scope: Scope
    """The scope as its key names it. Truncated if a name is too long for a key."""
    error: ManifestError
    """Why it cannot be read."""


@dataclass(frozen=True, slots=True)
class FoundStream:
    """A stream that has heads."""

    stream: StreamId
    """The stream."""
    scopes: tuple[Scope, ...]
    """The scopes whose heads can be read."""
    damaged: tuple[DamagedHead, ...]
    """The other heads."""


def found_streams(
    bucket: Bucket, template: KeyTemplate, streams: Collection[StreamId] | None = None, partition: str | None = None
) -> Iterator[FoundStream]:
    """Yields every stream of the bucket path that has a head. Unlike `scopes`, it continues if a head cannot be read.

    Args:
        bucket: The bucket.
        template: The template whose bucket path is searched.
        streams: Only these streams; None for all.
        partition: Only the scopes of this partition; None for all scopes.
    """
    for root in _stream_roots(bucket, template, streams):
        roots = bucket.list_directories(root) if partition is None else [f"{root}{encode_name(partition)}/"]
        # Heads are dropped as soon as they are read: ten thousand of them are large.
        found = list(filter(None, each_in_parallel(partial(_readable_at, bucket), roots)))
        if found:
            readable = tuple(each for each in found if isinstance(each, Scope))
            damaged = tuple(each for each in found if isinstance(each, DamagedHead))
            yield FoundStream((readable or [each.scope for each in damaged])[0].stream, readable, damaged)


def scopes(bucket: Bucket, template: KeyTemplate, streams: Collection[StreamId] | None = None) -> Iterator[Scope]:
    """Yields every scope of the bucket path that has a head, or only those of some streams (names as in the bucket).

    Raises:
        ManifestError: A head cannot be read.
    """
    for root in _stream_roots(bucket, template, streams):
        yield from (found.scope for found in scopes_of_stream(bucket, root))


def _stream_roots(bucket: Bucket, template: KeyTemplate, streams: Collection[StreamId] | None) -> list[str]:
    if streams is None:
        return stream_roots(bucket, template.manifest_root)
    return [stream_root(template.literal_root, stream) for stream in sorted(set(streams), key=str)]


def stream_roots(bucket: Bucket, root: str) -> list[str]:
    """The roots of all streams that have manifests under a manifest root."""
    return [stream for namespace in bucket.list_directories(root) for stream in bucket.list_directories(namespace)]


def streams_of_only_namespace(bucket: Bucket, template: KeyTemplate) -> list[StreamId]:
    """The streams that have landed under the bucket path, with their names in the bucket, by two requests.

    Empty if they have several namespaces, since each would take a request. Long names are cut.
    """
    namespaces = _namespaces(bucket, template)
    return _streams_of(bucket, template, namespaces[0]) if len(namespaces) == 1 else []


def names_of_streams(bucket: Bucket, template: KeyTemplate) -> list[StreamId]:
    """The streams that have landed under the bucket path, with their names in the bucket: at most 1000 of each
    namespace, by one request for each. Long names are cut.
    """
    of_namespaces = in_parallel(partial(_streams_of, bucket, template), _namespaces(bucket, template))
    return [stream for streams in of_namespaces for stream in streams]


def _namespaces(bucket: Bucket, template: KeyTemplate) -> list[str]:
    """The namespaces as directories. Others that begin with "~" hold no streams."""
    names = [each.split("/")[-2] for each in islice(bucket.list_directories(template.manifest_root), 1000)]
    return [name for name in names if name in ("~", "~~") or not name.startswith("~")]


def _streams_of(bucket: Bucket, template: KeyTemplate, namespace: str) -> list[StreamId]:
    found = bucket.list_directories(f"{template.manifest_root}{namespace}/")
    streams = (decode_name(each.split("/")[-2]) for each in islice(found, 1000))
    return [StreamId(decode_name(namespace), name) for name in streams if name]


def scopes_of_stream(bucket: Bucket, root: str) -> list[FoundScope]:
    """All scopes of the stream with this root, in the order of their names."""
    found = each_in_parallel(partial(scope_at, bucket), bucket.list_directories(root))
    return [scope for scope in found if scope is not None]


def scopes_beside(bucket: Bucket, root: str, scope: Scope) -> list[Scope]:
    """The scopes of a stream that hold objects and do not belong with this one.

    For data without a partition, those are all partitions; for a partition, it is the data without one. The stream
    has become partitioned, or no longer is, and readers of the bucket see both.

    Args:
        root: `keys.stream_root` of the stream.
        scope: The scope, with its stream's name as it is in the bucket.
    """
    if scope.partition is None:
        found = [each for each in scopes_of_stream(bucket, root) if each.scope.partition is not None]
    else:
        whole = scope_at(bucket, scope_root(literal_root_of(root), Scope(scope.stream)))
        found = [whole] if whole is not None else []
    holds = in_parallel(lambda each: holds_objects(each.commit_log.live_segments(each.seen.head)), found)
    return [each.scope for each, has_objects in zip(found, holds, strict=True) if has_objects]


def scope_at(bucket: Bucket, root: str) -> FoundScope | None:
    """The scope whose manifests are under `root`. None if it has no head: no sync of it was ever decided."""
    found = HEADS.read(bucket, root, head_key(root))
    return FoundScope(CommitLog(bucket, root, found[0].location.scope), SeenHead(*found)) if found is not None else None


def _readable_at(bucket: Bucket, root: str) -> Scope | DamagedHead | None:
    try:
        found = scope_at(bucket, root)
        return found.scope if found is not None else None
    except ManifestError as error:
        namespace, stream, partition = map(decode_name, root.split("/")[-4:-1])
        return DamagedHead(Scope(StreamId(namespace, stream or ""), partition), error)
