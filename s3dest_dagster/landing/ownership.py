"""Which keys a sync may delete: its own scope's, and of an unpartitioned refresh what the connector wrote before.

Everything else is foreign and never touched. It must not delete anything itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from s3dest_dagster.keys import KeyTemplate, manifest_root_in, manifest_roots
from s3dest_dagster.landing.leaving import kept_keys
from s3dest_dagster.landing.manifest import live_keys
from s3dest_dagster.landing.register import could_own
from s3dest_dagster.landing.scopes import FoundScope, scopes_of_stream, stream_roots
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import Scope


def connector_keys(bucket: Bucket, template: KeyTemplate, scope: Scope, own: set[str]) -> set[str]:
    """Listed keys that match the template of this unpartitioned stream and that no scope owns.

    These are what the connector, or a lost manifest, left behind; there are none where the template does not name the
    stream, since then nobody knows whose a key is. The data is listed before the heads are, so that
    an object published meanwhile is found in its head.
    """
    if not template.names_stream:
        return set()
    prefix, matches = template.listing_root(scope.stream), template.matcher(scope.stream).fullmatch
    unknown: set[str] = set()
    roots = set(manifest_roots(prefix))
    for listed in bucket.list_objects(prefix):
        if (root := manifest_root_in(listed.key)) is not None:
            roots.add(root)
        elif listed.key not in own and matches(listed.key):
            unknown.add(listed.key)
    for owner in possible_owners(bucket, unknown, roots):
        unknown -= _held_by(owner)
    return unknown


def possible_owners(bucket: Bucket, keys: Collection[str], roots: Iterable[str]) -> Iterator[FoundScope]:
    """Every scope with manifests under these roots that could own any of the keys. No request where there is no key."""
    for root in sorted(roots) if keys else ():
        streams = stream_roots(bucket, root)
        asked = in_parallel(lambda each: could_own(bucket, each, keys), streams)
        for stream, could in zip(streams, asked, strict=True):
            if could:
                yield from scopes_of_stream(bucket, stream)


def _held_by(owner: FoundScope) -> set[str]:
    """The keys that a scope holds, is about to publish, or keeps for readers of before."""
    head = owner.seen.head
    segments = owner.ledger.live_segments(head)
    if head.pending is not None:
        segments.append(owner.ledger.read_segment(head.pending))
    return live_keys(segments) | kept_keys(owner.ledger, head.leaving)
