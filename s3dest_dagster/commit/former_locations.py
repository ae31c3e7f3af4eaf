"""Finds what a stream that has never landed may have left elsewhere in its bucket, under another name or path.

Nothing in a bucket says that a stream was renamed or has moved. What is found is a likely place, for people to judge.
The search is bounded, and a landing does not wait for it. Must not: change anything.
"""

from __future__ import annotations

from functools import cached_property
from itertools import islice

from s3dest_dagster.commit.documents import StreamLocation, registry_key
from s3dest_dagster.commit.registry_document import REGISTRIES, StreamRegistry
from s3dest_dagster.commit.scopes import scopes_of_stream
from s3dest_dagster.errors import AccessDeniedError, ManifestError
from s3dest_dagster.keys import KeyTemplate, encode_name, manifest_root, stream_root
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import StreamId

MOST_LOOKED_AT = 20
"""The most neighbours that are looked at: directories next to the bucket path, and streams of the same namespace."""


class FormerLocations:
    """Finds where streams that have never landed may have landed before.

    What all streams have in common is looked up once: a request to list the directories next to the bucket path, one
    for each of the first 20 to see whether anything has landed there, and, for streams with an owner, one to list their
    namespace and one for each of its first 20 streams. Each stream then costs a request for each such directory, and
    some for each place that is found. What the identity may not read is left out.

    Args:
        bucket: The bucket.
        template: The template whose bucket path is the new one.
    """

    def __init__(self, bucket: Bucket, template: KeyTemplate) -> None:
        self._bucket = bucket
        self._path = template.literal_root
        self._of_namespaces: dict[str, list[StreamRegistry]] = {}

    def find(self, stream: StreamId, owner: str | None) -> list[StreamLocation]:
        """Where a stream that has never landed may have landed before, and still holds something.

        That is the stream itself under a bucket path above this one, or in one of the first 20 directories next to it;
        and, among the first 20 streams of its namespace, those of the same owner.

        Args:
            stream: The stream, with its name as it is in the bucket.
            owner: Who lands it. None if nobody is named.
        """
        roots = [stream_root(each, stream) for each in self._neighbours]
        moved = [each for each in in_parallel(self._registry, roots) if each is not None]
        renamed = self._of_same_owner(stream, owner) if owner is not None else []
        return [each.location for each in (*moved, *renamed) if self._holds_anything(each)]

    @cached_property
    def _neighbours(self) -> list[str]:
        """The bucket paths above this one and next to it, under which anything has landed."""
        if not self._path:
            return []
        above = _paths_above(self._path)
        beside = [each for each in _paths_below(self._bucket, above[-1]) if each != self._path]
        return _with_streams(self._bucket, [*above, *beside])

    def _of_same_owner(self, stream: StreamId, owner: str) -> list[StreamRegistry]:
        namespace = f"{manifest_root(self._path)}{encode_name(stream.namespace or None)}/"
        if namespace not in self._of_namespaces:
            found = in_parallel(self._registry, _directories(self._bucket, namespace))
            self._of_namespaces[namespace] = [each for each in found if each is not None]
        own = stream_root(self._path, stream)
        return [each for each in self._of_namespaces[namespace] if each.owner == owner and each.location.root != own]

    def _registry(self, root: str) -> StreamRegistry | None:
        try:
            found = REGISTRIES.read(self._bucket, root, registry_key(root))
        except (AccessDeniedError, ManifestError):
            return None
        return found[0] if found is not None else None

    def _holds_anything(self, registry: StreamRegistry) -> bool:
        try:
            found = scopes_of_stream(self._bucket, registry.location.root)
            return not all(each.commit_log.is_empty(each.seen.head) for each in found)
        except (AccessDeniedError, ManifestError):
            return False


def paths_near(bucket: Bucket, path: str) -> list[str]:
    """The bucket paths under which streams have landed and that may be meant by one without any: those above it, and
    among the first 20 directories next to it and in it.
    """
    above = _paths_above(path)
    beside = [each for each in _paths_below(bucket, above[-1]) if each != path] if above else []
    return _with_streams(bucket, [*above, *beside, *_paths_below(bucket, path)])


def _paths_above(path: str) -> list[str]:
    names = path.split("/") if path else []
    return ["/".join(names[:depth]) for depth in range(len(names))]


def _paths_below(bucket: Bucket, path: str) -> list[str]:
    return [each.rstrip("/") for each in _directories(bucket, f"{path}/" if path else "")]


def _with_streams(bucket: Bucket, paths: list[str]) -> list[str]:
    landed = in_parallel(lambda each: bool(_directories(bucket, manifest_root(each), 1)), paths)
    return [path for path, has_landed in zip(paths, landed, strict=True) if has_landed]


def _directories(bucket: Bucket, prefix: str, most: int = MOST_LOOKED_AT) -> list[str]:
    try:
        return list(islice(bucket.list_directories(prefix), most))
    except AccessDeniedError:
        return []
