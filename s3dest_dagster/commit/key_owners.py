"""Which streams own the keys of a bucket: what the manifests of a scope hold, and what the connector has left behind.

A sync deletes only keys of its own scope and, if it is an unpartitioned refresh, keys that the connector wrote earlier.
Must not know: how a registry is entered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from s3dest_dagster.commit.documents import StreamLocation, registry_key
from s3dest_dagster.commit.registry_document import REGISTRIES
from s3dest_dagster.commit.scopes import FoundScope, scopes_of_stream, stream_roots
from s3dest_dagster.errors import KeyCollisionError
from s3dest_dagster.keys import (
    KeyTemplate,
    keys_of_connector,
    literal_root_of,
    manifest_root_in,
    manifest_roots,
    may_share_key_name,
    prefixes_of_connector,
    stream_root,
)
from s3dest_dagster.storage import Bucket, ListedObject, in_parallel
from s3dest_dagster.stream import Scope, StreamId


def used_templates(bucket: Bucket, root: str) -> list[KeyTemplate]:
    """The templates that the stream with this root has landed under, according to its registry.

    Templates that an older version of the library allowed and this version refuses are left out.
    """
    found = REGISTRIES.read(bucket, root, registry_key(root))
    used = found[0].templates if found is not None else ()
    return [template for each in used if (template := each.template) is not None]


def could_own(bucket: Bucket, root: str, keys: Collection[str]) -> bool:
    """Whether the stream with this root could own any of these keys.

    It could if a key is under the root, if a template that the stream has used could have produced it, or if the
    stream's templates are not known.
    """
    found = REGISTRIES.read(bucket, root, registry_key(root))
    if found is None or found[0].recreated:
        return True
    registry = found[0]
    roots = tuple(each.root for each in (registry.location, *registry.former_names))
    if any(key.startswith(roots) for key in keys):
        return True
    templates = [used.template for used in registry.templates]
    return any(
        template is None or _makes_any(template, name, keys) for template in templates for name in registry.names
    )


def _makes_any(template: KeyTemplate, stream: StreamId, keys: Iterable[str]) -> bool:
    """Whether the template, or the connector with the same settings, could have made any of these keys."""
    prefixes = prefixes_of_connector(template, stream)
    keys = [key for key in keys if key.startswith(prefixes)]
    if not keys:
        return False
    own, of_connector = template.matcher(stream), keys_of_connector(template, stream)
    return any(own.fullmatch(key) or of_connector.matches(key) for key in keys)


def connector_keys(bucket: Bucket, template: KeyTemplate, scope: Scope, own: set[str]) -> set[str]:
    """The keys in the bucket of this unpartitioned stream that no scope owns.

    The connector or a lost manifest may have left them behind. Empty if the template does not show which stream a key
    belongs to (see `KeyTemplate.untagged_matcher`).
    """
    pattern = template.untagged_matcher(scope.stream)
    if pattern is None:
        return set()
    root = template.listing_root(scope.stream)
    return set(unowned_objects(bucket, root, lambda key: key not in own and bool(pattern.fullmatch(key))))


def unowned_objects(bucket: Bucket, prefix: str, is_wanted: Callable[[str], bool]) -> dict[str, ListedObject]:
    """The objects under a prefix that no scope owns, by key, except manifests.

    The data is listed before the heads are read, so an object that is published in between is found in its head.

    Args:
        bucket: The bucket.
        prefix: What their keys begin with.
        is_wanted: Whether an object with this key is looked at.
    """
    unknown: dict[str, ListedObject] = {}
    roots = set(manifest_roots(prefix))
    for listed in bucket.list_objects(prefix):
        if (root := manifest_root_in(listed.key)) is not None:
            roots.add(root)
        elif is_wanted(listed.key):
            unknown[listed.key] = listed
    for owner in possible_owners(bucket, unknown.keys(), roots):
        for key in _held_by(owner):
            unknown.pop(key, None)
    return unknown


def refuse_held_keys(
    bucket: Bucket,
    template: KeyTemplate,
    scope: Scope,
    keys: Iterable[str],
    given_to: Collection[StreamLocation] = (),
) -> None:
    """Checks that no other stream holds one of the keys under which `scope` is about to land.

    Sends no request if the template separates the stream from all others. Partitions of one stream are separated by
    their names or by tags. Only manifests under the template's own bucket path are read, because the identity's policy
    may not reach further. If keys recur, the streams to which this one gave its content are read, too: they may hold
    keys with its name.

    Raises:
        KeyCollisionError: Another stream holds one of them.
    """
    heirs = list(_heirs(bucket, given_to)) if template.keys_recur else []
    if not heirs and template.keeps_apart(scope.stream):
        return
    keys = set(keys)
    _refuse_keys_of(bucket, scope, keys, (found for heir in heirs for found in scopes_of_stream(bucket, heir)))
    if template.keeps_apart(scope.stream):
        return
    roots = {root for key in keys for root in manifest_roots(key) if root.startswith(template.literal_root)}
    namesakes_of = scope.stream if template.shows_names(scope.stream) else None
    own = stream_root(template.literal_root, scope.stream)
    _refuse_keys_of(bucket, scope, keys, possible_owners(bucket, keys, roots, but=own, namesakes_of=namesakes_of))


def _heirs(bucket: Bucket, given_to: Collection[StreamLocation]) -> Iterator[str]:
    """The roots of the streams that have got content, and of those that have got it from them."""
    seen: set[str] = set()
    waiting = [each.root for each in given_to]
    while waiting:
        root = waiting.pop()
        if root in seen:
            continue
        seen.add(root)
        yield root
        found = REGISTRIES.read(bucket, root, registry_key(root))
        waiting += [each.root for each in found[0].given_to] if found is not None else []


def _refuse_keys_of(bucket: Bucket, scope: Scope, keys: Collection[str], owners: Iterable[FoundScope]) -> None:
    for owner in owners:
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
    """Every scope with manifests under these roots that could own any of the keys. Sends no request if there are no
    keys.

    Args:
        bucket: The bucket.
        keys: The keys.
        roots: The manifest roots to search.
        but: Root of a stream to leave out.
        namesakes_of: Only streams whose namespace and name look like this stream's in keys, as two names or as one.
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
    """The keys that a scope holds, is about to publish, or retains for readers of the previous version."""
    commit_log, head = owner.commit_log, owner.seen.head
    segments = commit_log.live_segments(head)
    if head.pending_segment is not None:
        segments.append(commit_log.read_segment(head.pending_segment))
    return commit_log.lists.live_keys(segments) | commit_log.retired_keys(head)
