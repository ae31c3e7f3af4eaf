"""The headers that a destination asks for on its objects, by the names that an S3 client has for them.

It must not know what is written, but for whether it is data.
"""

from __future__ import annotations

from s3dest_dagster.destination import S3Destination

_OWNERS_RIGHTS = ("bucket-owner-read", "bucket-owner-full-control")


def headers_of_all(destination: S3Destination) -> dict[str, str]:
    """Headers of every object, manifests and trial objects included.

    Encryption, since a bucket's policy may deny what is not encrypted; and an ACL that gives the bucket's owner rights,
    since the policy of another account's bucket may deny what its owner could not read.
    """
    owner = destination.acl if destination.acl in _OWNERS_RIGHTS else None
    return _given(
        ServerSideEncryption=destination.server_side_encryption, SSEKMSKeyId=destination.kms_key_id, ACL=owner
    )


def headers_of_data(destination: S3Destination) -> dict[str, str]:
    """Headers of data objects: manifests are small, read by every sync, and nobody else's."""
    return headers_of_all(destination) | _given(ACL=destination.acl, StorageClass=destination.storage_class)


def _given(**headers: str | None) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value is not None}
