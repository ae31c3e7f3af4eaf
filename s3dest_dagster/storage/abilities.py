"""What an S3 server can do, beyond what all of them can.

Values, and what people are told of them; it must not ask a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec


class Condition(StrEnum):
    """How a server takes the ETag of an If-Match: in quotes, as the standard says, without them, or not at all."""

    QUOTED = "quoted"
    UNQUOTED = "unquoted"
    NONE = "none"

    def spelled(self, etag: str) -> str:
        """An ETag (without quotes) as this server takes it."""
        return f'"{etag}"' if self is Condition.QUOTED else etag


class BatchDelete(StrEnum):
    """How a server takes DeleteObjects: with a checksum header, as SDKs send it, with Content-MD5, or not at all."""

    CHECKSUM = "checksum"
    MD5 = "md5"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAbilities:
    """What a server does as S3 defines it.

    Puts: `create_if_absent` honours If-None-Match, `replace_if_match` If-Match. `complete_if_absent` honours
    If-None-Match when an upload is completed. Deletions: `delete_if_match` honours If-Match on DeleteObject,
    `batch_delete_if_match` an ETag per key in DeleteObjects; `single_delete` and `batch_delete` say whether, and how,
    the server takes either at all. `checksum_headers` takes x-amz-checksum-*. `parts_without_md5` takes parts without
    Content-MD5. `page_tokens` says by a token where a listing goes on. `etags_answered` answers a put with its ETag.
    """

    create_if_absent: bool
    replace_if_match: Condition
    complete_if_absent: bool
    delete_if_match: Condition
    batch_delete_if_match: Condition
    single_delete: bool
    batch_delete: BatchDelete
    checksum_headers: bool
    parts_without_md5: bool
    page_tokens: bool
    etags_answered: bool

    @property
    def tells_writers_apart(self) -> bool:
        """Whether a put can depend on what stands there, so that of two writers one is refused."""
        return self.create_if_absent and self.replace_if_match is not Condition.NONE

    @property
    def deletes_if_unchanged(self) -> bool:
        """Whether a deletion can depend on an ETag."""
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
    "This server ignores conditional puts: every promise holds, but two syncs of one stream at the same time are not "
    "told apart. See to it that only one runs."
)


@dataclass(frozen=True, slots=True)
class ToldAbility:
    """An ability in words. `message` says what is lost without it and what that costs, or in which form the server has
    it; empty where it has it as S3 defines it."""

    name: str
    has: bool
    message: str


def told(abilities: ServerAbilities) -> list[ToldAbility]:
    """What a server can do, in words, ability by ability."""
    other = {_LOOKS: _BY_THE_OTHER} if abilities.deletes_if_unchanged else {}
    return [_told(name, getattr(abilities, field), other.get(without, without)) for field, name, without in _IN_WORDS]


def _told(name: str, value: bool | Condition | BatchDelete, without: str) -> ToldAbility:
    has = value not in (False, Condition.NONE, BatchDelete.NONE)
    return ToldAbility(name, has, _FORMS.get(value, "") if has else without)


_FORMS: dict[bool | Condition | BatchDelete, str] = {
    Condition.UNQUOTED: "with the ETag without quotes",
    BatchDelete.MD5: "with Content-MD5 in place of a checksum header",
}
_ONE_WRITER = (
    "two syncs of one stream at the same time are not told apart, see to it that only one runs; every other promise "
    "holds, and each change of a manifest costs one more request"
)
_LOOKS = (
    "where a template's keys recur, a late deletion may hit what another writer has just put there; each object is "
    "looked at right before, which costs a request and leaves a gap of milliseconds"
)
_BY_THE_OTHER = "nothing is lost, since the server has the other of the two deletions under a condition"
_IN_WORDS = (
    ("create_if_absent", "create an object only where there is none (If-None-Match)", _ONE_WRITER),
    ("replace_if_match", "replace an object only while it is unchanged (If-Match)", _ONE_WRITER),
    (
        "complete_if_absent",
        "complete an upload only where there is no object (If-None-Match)",
        "nothing is lost, since no promise rests on it",
    ),
    ("delete_if_match", "delete an object only while it is unchanged (If-Match)", _LOOKS),
    ("batch_delete_if_match", "delete many objects in a request, each only while it is unchanged", _LOOKS),
    ("single_delete", "delete one object in a request", "nothing is lost, since one is deleted as many are"),
    (
        "batch_delete",
        "delete many objects in a request",
        "nothing is lost; each object that is replaced costs a request of its own",
    ),
    ("checksum_headers", "take checksum headers", "nothing is lost, since Content-MD5 takes their place"),
    ("parts_without_md5", "take parts without Content-MD5", "nothing is lost; each part is hashed before it is sent"),
    ("page_tokens", "say where a listing goes on", "nothing is lost; it goes on behind the last key"),
    ("etags_answered", "answer a put with its ETag", "nothing is lost; each put of a manifest costs one more request"),
)
"""The fields, what they are called, and what is lost without it and what that costs."""


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
