"""Which keys a sync may delete: its own scope's, and of an unpartitioned refresh what the connector wrote before.

Everything else is foreign and never touched. It must not delete anything itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from s3dest_dagster.keys import KeyTemplate, manifest_root
from s3dest_dagster.landing.ledger import Ledger
from s3dest_dagster.landing.manifest import Head, Segment, from_json
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import Scope, StreamId

HEAD_NAME = "/head.json"
"""How the key of every head ends."""


def live_keys(segments: Iterable[Segment]) -> set[str]:
    """The keys of all objects that these segments tell of."""
    return {each.key for segment in segments for sync in segment.syncs for each in sync.objects}


def connector_keys(bucket: Bucket, template: KeyTemplate, scope: Scope, own: set[str]) -> set[str]:
    """Listed keys that match the template of this unpartitioned stream and that no scope owns.

    These are what the connector, or a lost manifest, left behind; there are none where the template does not name the
    stream, since then nobody knows whose a key is. The data is listed before the heads are, so that
    an object published meanwhile is found in its head.
    """
    if not template.names_stream:
        return set()
    matches = template.matcher(scope.stream).fullmatch
    listed = {each.key for each in bucket.list_objects(template.listing_root(scope.stream)) if matches(each.key)}
    unknown = listed - own
    if not unknown:
        return unknown
    return unknown - _held(bucket, template)


def _held(bucket: Bucket, template: KeyTemplate) -> set[str]:
    """Keys that any scope of this bucket path holds, or is about to publish."""
    root = manifest_root(template)
    heads = [each.key for each in bucket.list_objects(root) if each.key.endswith(HEAD_NAME)]
    return set().union(*in_parallel(lambda key: _held_by(bucket, key), heads))


def _held_by(bucket: Bucket, key: str) -> set[str]:
    found = bucket.get(key)
    if found is None:
        return set()
    head = from_json(Head, found[0], key)
    ledger = Ledger(bucket, key.removesuffix(HEAD_NAME) + "/", scope_of(head))
    segments = ledger.live_segments(head)
    if head.pending is not None:
        segments.append(ledger.read_segment(head.pending))
    return live_keys(segments)


def scope_of(head: Head) -> Scope:
    """The scope that a head belongs to, as it says itself."""
    return Scope(StreamId(head.namespace, head.stream), head.partition)
