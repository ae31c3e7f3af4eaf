"""Which keys a sync may delete, and which it may not write.

It may delete those of its own scope and, if it refreshes an unpartitioned stream, what the connector wrote before. All
others are foreign and never touched. Must not: delete anything itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from s3dest_dagster.commit.registry import could_own
from s3dest_dagster.commit.scopes import FoundScope, scopes_of_stream, stream_roots
from s3dest_dagster.commit.segment import live_keys
from s3dest_dagster.errors import KeyCollisionError
from s3dest_dagster.keys import (
    KeyTemplate,
    literal_root_of,
    manifest_root_in,
    manifest_roots,
    may_share_key_name,
    stream_root,
)
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import Scope, StreamId


def connector_keys(bucket: Bucket, template: KeyTemplate, scope: Scope, own: set[str]) -> set[str]:
    """Listed keys of this unpartitioned stream that no scope owns.

    The connector, or a manifest that was lost, can have left them. Empty if the template does not show whose a key is
    (see `KeyTemplate.untagged_matcher`).
    """
    pattern = template.untagged_matcher(scope.stream)
    return set() if pattern is None else unowned_keys(bucket, template.listing_root(scope.stream), pattern, own)


def unowned_keys(bucket: Bucket, prefix: str, pattern: re.Pattern[str], own: Collection[str] = ()) -> set[str]:
    """Listed keys under a prefix that match a pattern and that no scope owns. `own` are known to be owned.

    The data is listed before the heads are read, so that an object published meanwhile is found in its head.
    """
    unknown: set[str] = set()
    roots = set(manifest_roots(prefix))
    for listed in bucket.list_objects(prefix):
        if (root := manifest_root_in(listed.key)) is not None:
            roots.add(root)
        elif listed.key not in own and pattern.fullmatch(listed.key):
            unknown.add(listed.key)
    for owner in possible_owners(bucket, unknown, roots):
        unknown -= _held_by(owner)
    return unknown


def refuse_held_keys(bucket: Bucket, template: KeyTemplate, scope: Scope, keys: Collection[str]) -> None:
    """Checks that no other stream holds one of these keys, under which `scope` is about to land.

    No request if the template keeps the stream apart from all others. Partitions of one stream are kept apart by their
    names or by tags. Only manifests under the template's own bucket path are read, since a policy may end there.

    Raises:
        KeyCollisionError: Another stream holds one of them.
    """
    if template.keeps_apart(scope.stream):
        return
    roots = {root for key in keys for root in manifest_roots(key) if root.startswith(template.literal_root)}
    namesakes_of = scope.stream if template.shows_names(scope.stream) else None
    own = stream_root(template.literal_root, scope.stream)
    for owner in possible_owners(bucket, keys, roots, but=own, namesakes_of=namesakes_of):
        if shared := _held_by(owner).intersection(keys):
            key = min(shared)
            raise KeyCollisionError(
                f"{scope} would land under {bucket.uri(key)}, which the manifest of {owner.scope} lists: one would "
                "replace the objects of the other. Nothing was published. Put ${NAMESPACE} and ${STREAM_NAME} into "
                "s3_path_format, or give one of the two an s3_bucket_path of its own.",
                stream=str(scope.stream),
                partition=scope.partition,
                key=key,
                setting="s3_path_format",
            )


def possible_owners(
    bucket: Bucket,
    keys: Collection[str],
    roots: Iterable[str],
    *,
    but: str = "",
    namesakes_of: StreamId | None = None,
) -> Iterator[FoundScope]:
    """Every scope with manifests under these roots that could own any of the keys. No request if there is no key.

    Args:
        bucket: The bucket.
        keys: The keys.
        roots: The manifest roots to search.
        but: Root of a stream that is left out.
        namesakes_of: Only streams whose namespace and name stand in keys as this stream's do, as two names or as one.
    """
    for root in sorted(roots) if keys else ():
        found = stream_roots(bucket, root) if namesakes_of is None else _namesakes(bucket, root, namesakes_of)
        streams = [each for each in found if each != but]
        asked = in_parallel(lambda each: could_own(bucket, each, keys), streams)
        for stream, could in zip(streams, asked, strict=True):
            if could:
                yield from scopes_of_stream(bucket, stream)


def _namesakes(bucket: Bucket, root: str, stream: StreamId) -> Iterator[str]:
    for namespace in bucket.list_directories(root):
        if may_share_key_name(_last_name(namespace), stream.namespace or ""):
            for each in bucket.list_directories(namespace):
                if may_share_key_name(_last_name(each), stream.name):
                    yield each
    if stream.namespace:
        yield stream_root(literal_root_of(root), StreamId(None, f"{stream.namespace}/{stream.name}"))


def _last_name(directory: str) -> str:
    return directory.rstrip("/").rpartition("/")[2]


def _held_by(owner: FoundScope) -> set[str]:
    """The keys that a scope holds, is about to publish, or keeps for readers of the previous version."""
    log, head = owner.commit_log, owner.seen.head
    segments = log.live_segments(head)
    if head.pending_segment is not None:
        segments.append(log.read_segment(head.pending_segment))
    return live_keys(segments) | log.retired_keys(head)
