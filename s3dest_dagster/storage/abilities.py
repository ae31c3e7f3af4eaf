"""What an S3 server can do, beyond what all of them can.

Values only; it must not ask a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    """What a server does as S3 defines it. The defaults are AWS's.

    Puts: `create_if_absent` honours If-None-Match, `replace_if_match` If-Match. `complete_if` honours both when an
    upload is completed. Deletions: `delete_if_match` honours If-Match on DeleteObject, `batch_delete_if_match` an ETag
    per key in DeleteObjects; `single_delete` and `batch_delete` say whether, and how, it takes either at all.
    `checksum_headers` takes x-amz-checksum-*. `md5_of_parts` asks for Content-MD5 on parts. `page_tokens` says by a
    token where a listing goes on. `etags_answered` answers a put with its ETag.
    """

    create_if_absent: bool = True
    replace_if_match: Condition = Condition.QUOTED
    complete_if: bool = True
    delete_if_match: Condition = Condition.QUOTED
    batch_delete_if_match: Condition = Condition.QUOTED
    single_delete: bool = True
    batch_delete: BatchDelete = BatchDelete.CHECKSUM
    checksum_headers: bool = True
    md5_of_parts: bool = False
    page_tokens: bool = True
    etags_answered: bool = True

    @property
    def tells_writers_apart(self) -> bool:
        """Whether a put can depend on what stands there, so that of two writers one is refused."""
        return self.create_if_absent and self.replace_if_match is not Condition.NONE


AWS = ServerAbilities()
"""AWS is not probed: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html."""
