"""The abilities of an S3 server that not all servers have: their values, and their descriptions for people.

Must not ask a server.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import msgspec


class Condition(StrEnum):
    """The form in which a server accepts the ETag of an If-Match: with quotes (RFC 9110), without quotes, or not at
    all."""

    QUOTED = "quoted"
    UNQUOTED = "unquoted"
    NONE = "none"

    def format_etag(self, etag: str) -> str:
        """Formats an ETag (without quotes) as this server accepts it."""
        return f'"{etag}"' if self is Condition.QUOTED else etag


class BatchDelete(StrEnum):
    """The form in which a server accepts DeleteObjects: with a checksum header, with Content-MD5, or not at all."""

    CHECKSUM = "checksum"
    MD5 = "md5"
    NONE = "none"


_ONE_WRITER = (
    "concurrent syncs of one stream are not detected, nor are concurrent first syncs of two owners, so make sure that "
    "only one runs; every other promise holds, and each change of a manifest costs one more request"
)
_COMPARED = (
    "if the keys of a template recur, a late deletion may hit what another writer has just put there; each object's "
    "ETag is read right before, which costs a request and leaves a gap of milliseconds"
)
_OTHER_DELETION = "nothing is lost, since the server has the other conditional deletion"


def _ability(name: str, without: str) -> Any:
    """A field of ServerAbilities, with its name for people and the cost of lacking it."""
    return field(metadata={"name": name, "without": without})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAbilities:
    """The requests that a server handles as S3 defines them."""

    create_if_absent: bool = _ability("create an object only if there is none (If-None-Match)", _ONE_WRITER)
    replace_if_match: Condition = _ability("replace an object only while it is unchanged (If-Match)", _ONE_WRITER)
    complete_if_absent: bool = _ability(
        "complete an upload only if there is no object (If-None-Match)", "nothing is lost, since no promise rests on it"
    )
    delete_if_match: Condition = _ability("delete an object only while it is unchanged (If-Match)", _COMPARED)
    batch_delete_if_match: Condition = _ability(
        "delete many objects in a request, each only while it is unchanged", _COMPARED
    )
    single_delete: bool = _ability(
        "delete one object in a request", "nothing is lost, since one object is deleted like many"
    )
    batch_delete: BatchDelete = _ability(
        "delete many objects in a request", "nothing is lost; each object that is replaced costs a request of its own"
    )
    checksum_headers: bool = _ability("take checksum headers", "nothing is lost, since Content-MD5 replaces them")
    parts_without_md5: bool = _ability(
        "take parts without Content-MD5", "nothing is lost; each part is hashed before it is sent"
    )
    page_tokens: bool = _ability(
        "say where a listing continues", "nothing is lost; the listing continues behind its last key"
    )
    etags_answered: bool = _ability(
        "answer a put with its ETag", "nothing is lost; each put of a manifest costs one more request"
    )

    @property
    def detects_concurrent_writers(self) -> bool:
        """Whether a put can be conditional on the object that it replaces, so that one of two writers is refused."""
        return self.create_if_absent and self.replace_if_match is not Condition.NONE

    @property
    def deletes_if_unchanged(self) -> bool:
        """Whether a deletion can be conditional on an ETag."""
        by_batch = self.batch_delete is not BatchDelete.NONE and self.batch_delete_if_match is not Condition.NONE
        return by_batch or (self.single_delete and self.delete_if_match is not Condition.NONE)


AWS = ServerAbilities(
    create_if_absent=True,
    replace_if_match=Condition.QUOTED,
    complete_if_absent=True,
    delete_if_match=Condition.QUOTED,
    batch_delete_if_match=Condition.QUOTED,
    single_delete=True,
    batch_delete=BatchDelete.CHECKSUM,
    checksum_headers=True,
    parts_without_md5=True,
    page_tokens=True,
    etags_answered=True,
)
"""AWS is not probed: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html."""

WITHOUT_CONDITIONS = (
    "This server ignores conditional puts: every promise holds, except that concurrent syncs of one stream are not "
    "detected. Make sure that only one runs."
)


@dataclass(frozen=True, slots=True)
class AbilityReport:
    """An ability, described for people."""

    name: str
    has: bool
    """Whether the server has it."""
    message: str
    """The cost of lacking it, or the form in which the server has it. Empty if the server behaves as S3 defines."""


def describe_abilities(abilities: ServerAbilities) -> list[AbilityReport]:
    """Describes each ability of a server."""
    return [
        _report(each.metadata["name"], getattr(abilities, each.name), _cost(each.metadata["without"], abilities))
        for each in fields(abilities)
    ]


_FORMS: dict[bool | Condition | BatchDelete, str] = {
    Condition.UNQUOTED: "with the ETag without quotes",
    BatchDelete.MD5: "with Content-MD5 instead of a checksum header",
}


def _report(name: str, value: bool | Condition | BatchDelete, without: str) -> AbilityReport:
    has = value not in (False, Condition.NONE, BatchDelete.NONE)
    return AbilityReport(name, has, _FORMS.get(value, "") if has else without)


def _cost(without: str, abilities: ServerAbilities) -> str:
    return _OTHER_DELETION if without is _COMPARED and abilities.deletes_if_unchanged else without


# ---------------------------------------------------------------------- server.json

_MOST_SERVERS = 8
"""The maximum number of entries in the file. Few endpoints lead to one bucket, and it may be a copy of another
bucket."""


class _Entry(msgspec.Struct, kw_only=True):
    endpoint: str
    bucket: str
    abilities: ServerAbilities


class _ServerFile(msgspec.Struct):
    servers: list[_Entry]


_decoder = msgspec.json.Decoder(_ServerFile)


def read_abilities(body: bytes | None, endpoint: str, bucket: str) -> ServerAbilities | None:
    """The abilities that the file records for this bucket at this endpoint. None if it lacks them or some of them."""
    for entry in _entries(body):
        if (entry.endpoint, entry.bucket) == (endpoint, bucket):
            return entry.abilities
    return None


def with_abilities(body: bytes | None, endpoint: str, bucket: str, abilities: ServerAbilities) -> bytes:
    """The file with these abilities, which replace the entry for the same bucket and endpoint."""
    others = [entry for entry in _entries(body) if (entry.endpoint, entry.bucket) != (endpoint, bucket)]
    entries = [*others, _Entry(endpoint=endpoint, bucket=bucket, abilities=abilities)][-_MOST_SERVERS:]
    return msgspec.json.format(msgspec.json.encode(_ServerFile(entries)), indent=2)


def _entries(body: bytes | None) -> list[_Entry]:
    try:
        return _decoder.decode(body or b"").servers
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
