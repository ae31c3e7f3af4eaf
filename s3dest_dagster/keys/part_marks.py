"""Part ids that show which sync they belong to, for objects that several workers upload for one sync.

Such an id is a UUID of version 8 (RFC 9562): its first 60 bits that are free are the mark of the sync, its last 62 are
random. So an unfinished upload shows by its key alone whose it is, and no two workers make the same key. All other part
ids that are UUIDs have version 4. Must not know: which syncs there are.
"""

from __future__ import annotations

import hashlib
import re

from s3dest_dagster.stream import Scope

_MARK_DIGITS = 15
_RANDOM_BYTES = 8
_VARIANT, _RANDOM_BITS = 0b10, 62
_MARKED = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-8([0-9a-f]{3})-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
RANDOM_BYTES_OF_A_PART = _RANDOM_BYTES
"""The random bytes that `marked_part` needs."""


def sync_mark(scope: Scope, sync_id: str) -> str:
    """The mark of a sync: 60 bits of a digest, as hexadecimal digits.

    Args:
        scope: The scope, with its stream's name as it is in the bucket.
        sync_id: The id of the sync.
    """
    return sync_digest(scope, sync_id)[:_MARK_DIGITS]


def sync_digest(scope: Scope, sync_id: str) -> str:
    """A digest that distinguishes a sync from all syncs of all scopes, as 64 hexadecimal digits."""
    names = (scope.stream.namespace or "", scope.stream.name, scope.partition, sync_id)
    return hashlib.sha256(repr(names).encode()).hexdigest()


def marked_part(mark: str, random: bytes) -> str:
    """A new part id with this mark.

    Args:
        mark: A mark that `sync_mark` made.
        random: `RANDOM_BYTES_OF_A_PART` random bytes.
    """
    number = int.from_bytes(random) & ((1 << _RANDOM_BITS) - 1) | _VARIANT << _RANDOM_BITS
    rest = f"{number:016x}"
    return f"{mark[:8]}-{mark[8:12]}-8{mark[12:]}-{rest[:4]}-{rest[4:]}"


def mark_of(part: str | None) -> str | None:
    """The mark of a part id. None if it has none, because no order made it."""
    match = _MARKED.fullmatch(part or "")
    return "".join(match.groups()) if match else None
