"""The JSON documents that the library stores in a bucket: their keys, their owners, and how they are read.

Each document names the stream or scope that it belongs to, and its bucket path. It is refused anywhere else, because
manifests that were copied along with a lake or restored from a backup list objects that belong to somebody else.
Must not know: what a document of one kind means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec

from s3dest_dagster.errors import ManifestError
from s3dest_dagster.keys import encode_name, literal_root_of, manifest_root_in, scope_root, stream_root
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, Sync

FORMAT_VERSION = 1
"""The version that is written. A reader refuses a newer version and ignores unknown fields of the same version."""
VERSION_WITH_LISTS = 2
"""The version of a segment that refers to object lists: who ignored the references would miss objects."""
VERSION_WITH_ADOPTIONS = 2
"""The version of a head that names adoptions, for the same reason."""
VERSION_WITH_GENERATIONS = 3
"""The version of a segment with which older generations have left while others stayed: who ignored that would list what
has left."""
VERSION_WITH_FILES = 4
"""The version of a segment with copies of files: who ignored that would read them as records."""
NEWEST_VERSION = VERSION_WITH_FILES
"""The newest version that can be read."""
_RESTORE = "Restore it from a backup or an older version of it."
_RESTORE_OTHER = "Restore the one that belongs there from a backup or an older version of the object."
STEP_VALUES = "~orders/"
"""The directory, under the bucket's root, of what the steps of a sync leave for each other."""
OBJECT_LIST, UPLOAD_LIST = ".objects.json", ".uploads.json"
"""The ends of the keys of object lists and of upload lists."""
RECREATED = "Delete it: the next sync makes it anew from what has landed."
"""What to do about a damaged document that the next sync can recreate."""


# ---------------------------------------------------------------------- keys


def registry_key(root: str) -> str:
    """Key of the registry of the stream whose scopes are under `root`. No scope's directory has this name."""
    return f"{root}~stream.json"


def registry_copy_prefix(root: str) -> str:
    """What the keys of a registry's copies begin with."""
    return f"{root}~stream."


def registry_copy_key(root: str, version: int, digest: str) -> str:
    """Key of the copy of a version of the registry."""
    return f"{registry_copy_prefix(root)}{version}-{digest}.json"


def version_of_registry_copy(key: str) -> int:
    """The version of the registry whose copy has this key. 0 if it is no copy."""
    version = key.rpartition("~stream.")[2].partition("-")[0]
    return int(version) if version.isascii() and version.isdigit() else 0


def head_key(root: str) -> str:
    """Key of the head of the scope whose manifests are under `root`, which ends with a slash."""
    return f"{root}head.json"


def segment_key(root: str, name: str) -> str:
    """Key of a segment."""
    return f"{root}segments/{name}.json"


def object_lists_prefix(stream_root: str) -> str:
    """Prefix of the object lists of all scopes of a stream, so that one listing finds them. It is no scope's."""
    return f"{stream_root}~lists/"


def object_list_key(root: str, name: str) -> str:
    """Key of an object list of the scope whose manifests are under `root`."""
    return f"{_lists_of_scope(root)}{name}{OBJECT_LIST}"


def upload_list_key(root: str, name: str) -> str:
    """Key of the upload list that belongs to an object list."""
    return f"{_lists_of_scope(root)}{name}{UPLOAD_LIST}"


def lists_of_sync_prefix(root: str, sync_id: str) -> str:
    """Prefix of all lists of one sync, whichever attempt or worker has put them."""
    return f"{_lists_of_scope(root)}{segment_name(sync_id, '')}"


def _lists_of_scope(root: str) -> str:
    stream, _, scope = root.rstrip("/").rpartition("/")
    return f"{object_lists_prefix(stream + '/')}{scope}/"


def quarantine_key(root: str, name: str) -> str:
    """Key of the quarantined lines of a segment."""
    return f"{root}quarantine/{name}.jsonl"


def file_key(root: str, name: str, path: str) -> str:
    """Key of the copy of a file that has this path at the source, in the segment with this name."""
    return f"{root}files/{name}/{path}"


def quarantine_part(key: str) -> str:
    """The text after the sync's id in the key of quarantined lines: an attempt, or a part id with a mark."""
    return key.removesuffix(".jsonl").rpartition(".")[2]


def sync_mark_key(root: str, sync_id: str) -> str:
    """Key of the mark of a sync that the head has forgotten."""
    return f"{root}syncs/{encode_name(sync_id)}.json"


def segment_name(sync_id: str, attempt: str, number: int = 0) -> str:
    """Name of a segment: the sync's id, percent-encoded, then a dot and the part that identifies the attempt.

    Args:
        sync_id: The sync that the segment belongs to.
        attempt: Random text that each attempt at the sync generates, so that no two attempts write the same segment.
        number: The number of earlier segments of the attempt.
    """
    first = f"{quote(sync_id, safe='').replace('~', '%7E').replace('.', '%2E')}.{attempt}"
    return f"{first}-{number}" if number else first


def new_attempt(entropy: Callable[[int], bytes]) -> str:
    """The random text that identifies an attempt."""
    return entropy(4).hex()


def commit_without_source(kind: str, now: datetime, entropy: Callable[[int], bytes]) -> tuple[Sync, str]:
    """The sync and the attempt of a commit that reads no source, such as `retire-0a1b2c3d`.

    Args:
        kind: What the commit does, in ASCII.
        now: The time of the commit.
        entropy: Returns that many random bytes.
    """
    attempt = new_attempt(entropy)
    return Sync(f"{kind}-{attempt}", now, str(UUID(bytes=entropy(16), version=4))), attempt


def sync_of(name: str) -> str:
    """The sync id that a segment's name begins with."""
    return unquote(name.rpartition(".")[0])


def attempt_of(name: str) -> str:
    """The attempt that a segment's name identifies."""
    return name.rpartition(".")[2].partition("-")[0]


# ---------------------------------------------------------------------- location


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLocation:
    """The stream that a document belongs to, and the document's location."""

    bucket_path: str
    """Literal part of the bucket path that contains the document."""
    namespace: str | None
    """Namespace of the stream, or null."""
    stream: str
    """Name of the stream, with its prefix."""

    @property
    def stream_id(self) -> StreamId:
        return StreamId(self.namespace, self.stream)

    @property
    def root(self) -> str:
        """The prefix of the document's key."""
        return stream_root(self.bucket_path, self.stream_id)

    def __str__(self) -> str:
        return f"stream {self.stream_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeLocation(StreamLocation):
    """The scope that a document belongs to, and the document's location."""

    partition: str | None
    """Key of the partition, or null if the stream is not partitioned."""

    @property
    def scope(self) -> Scope:
        return Scope(self.stream_id, self.partition)

    @property
    def root(self) -> str:
        """The prefix of the document's key."""
        return scope_root(self.bucket_path, self.scope)

    def __str__(self) -> str:
        return str(self.scope)


def location_of(root: str, scope: Scope) -> ScopeLocation:
    """The location of the scope whose manifests are under `root`."""
    stream, path = scope.stream, literal_root_of(root)
    return ScopeLocation(bucket_path=path, namespace=stream.namespace, stream=stream.name, partition=scope.partition)


# ---------------------------------------------------------------------- reading and writing


class Document(Protocol):
    """The fields that every document has."""

    @property
    def format_version(self) -> int: ...
    @property
    def location(self) -> StreamLocation: ...


D = TypeVar("D", bound=Document)


class DocumentKind(Generic[D]):
    """Encodes, decodes and reads the documents of one class.

    Create it at module level: msgspec prepares a class at its first use, and crashes if two threads do so at the same
    time.

    Args:
        cls: The class of the documents.
        cure: What to do about a document that is damaged or in the wrong place.
    """

    def __init__(self, cls: type[D], cure: str = "") -> None:
        self._decoder = msgspec.json.Decoder(cls)
        self._cure = cure

    def encode(self, document: D) -> bytes:
        """The document as JSON text, indented for human readers."""
        return msgspec.json.format(msgspec.json.encode(document), indent=1)

    def decode(self, data: bytes, key: str) -> D:
        """Decodes a document.

        Raises:
            ManifestError: The text is damaged, or its format version is newer than ours.
        """
        try:
            version = _VERSION.decode(data).format_version
            if version > NEWEST_VERSION:
                raise ManifestError(
                    f"{key} has format version {version}; this library knows up to {NEWEST_VERSION}. Install a newer "
                    "s3dest-dagster to work on this scope.",
                    key=key,
                )
            return self._decoder.decode(data)
        except msgspec.DecodeError as error:
            cure = self._cure or _RESTORE
            raise ManifestError(f"{key} is damaged and cannot be read ({error}). {cure}", key=key) from error

    def read(self, bucket: Bucket, root: str, key: str) -> tuple[D, str] | None:
        """Reads a document and its ETag with one request. None if there is none.

        Args:
            bucket: The bucket that contains it.
            root: The prefix that the document must name as its location.
            key: Its key.

        Raises:
            ManifestError: The document is damaged, has a newer format version, or belongs elsewhere.
        """
        found = bucket.get(key)
        return (self.accept(bucket, root, key, found[0]), found[1]) if found is not None else None

    def accept(self, bucket: Bucket, root: str, key: str, data: bytes) -> D:
        """Decodes a document that was read from there. Arguments and errors are those of `read`."""
        document = self.decode(data, key)
        location = document.location
        if manifest_root_in(location.root) != manifest_root_in(root):
            raise _copied(bucket, location, key)
        if location.root != root:
            raise misplaced(bucket, key, f"a manifest of {location}", self._cure)
        return document


class _Versioned(msgspec.Struct):
    format_version: int


_VERSION = msgspec.json.Decoder(_Versioned)


def misplaced(bucket: Bucket, key: str, what: str, cure: str = "") -> ManifestError:
    """The error for a document that is in the place of another one."""
    return ManifestError(
        f"{bucket.uri(key)} holds {what}, which does not belong there: it was put there by mistake, perhaps when a "
        f"backup was restored. Nothing was written or deleted. {cure or _RESTORE_OTHER}",
        key=key,
    )


def _copied(bucket: Bucket, location: StreamLocation, key: str) -> ManifestError:
    there, here = bucket.uri(location.bucket_path), bucket.uri(literal_root_of(key))
    manifests = bucket.uri(manifest_root_in(key) or "")
    return ManifestError(
        f"{bucket.uri(key)} was copied or moved: it is a manifest of {there}, lists what is there, and says nothing "
        f"about what is under {here}. Nothing was written or deleted. Land under {there} as before, or under a bucket "
        f"path that holds no manifests. If {here} is to be a lake of its own, remove the manifests that were copied, "
        f"under {manifests}, and nothing else: it then begins without syncs and states, and the first full refresh of "
        "a stream replaces the copies of its objects.",
        key=key,
    )
