"""The file in which a lake keeps what its server can do, so that all of its processes go by the same.

Texts and values only; it must not talk to S3. What cannot be understood counts as not known, and is found out anew.
"""

from __future__ import annotations

import msgspec

from s3dest_dagster.storage.abilities import ServerAbilities

_KEPT = 8
"""Servers that are remembered: a lake is reached by few endpoints, and may be a copy of one elsewhere."""


class _Abilities(msgspec.Struct, kw_only=True):
    """What stands in the file for one endpoint and bucket."""

    endpoint: str
    bucket: str
    abilities: ServerAbilities


class _File(msgspec.Struct):
    servers: list[_Abilities]


_file = msgspec.json.Decoder(_File)  # not made by the first use, which may come from several threads at once


def known_abilities(body: bytes | None, endpoint: str, bucket: str) -> ServerAbilities | None:
    """What a file says of this bucket at this endpoint; None where it says nothing, or not all that there is to say."""
    for each in _read(body):
        if (each.endpoint, each.bucket) == (endpoint, bucket):
            return each.abilities
    return None


def with_abilities(body: bytes | None, endpoint: str, bucket: str, abilities: ServerAbilities) -> bytes:
    """The file with this added, or in place of what it said of the bucket before."""
    others = [each for each in _read(body) if (each.endpoint, each.bucket) != (endpoint, bucket)]
    kept = [*others, _Abilities(endpoint=endpoint, bucket=bucket, abilities=abilities)][-_KEPT:]
    return msgspec.json.format(msgspec.json.encode(_File(kept)), indent=2)


def _read(body: bytes | None) -> list[_Abilities]:
    try:
        return _file.decode(body or b"").servers
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
