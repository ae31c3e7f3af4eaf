"""Bytes to and from S3: the one room, beside the sources, with side effects.

It knows keys as texts and contents as bytes; it must not know streams, formats or manifests.
"""

from s3dest_dagster.storage.abilities import WITHOUT_CONDITIONS, ServerAbilities, told
from s3dest_dagster.storage.bucket import TRIALS, Bucket
from s3dest_dagster.storage.clients import open_bucket, open_client
from s3dest_dagster.storage.error_mapping import denied
from s3dest_dagster.storage.headers import headers_of_all, headers_of_data
from s3dest_dagster.storage.identity import Identity, identity
from s3dest_dagster.storage.objects import Listed, ObjectHead, PendingUpload
from s3dest_dagster.storage.pool import in_parallel
from s3dest_dagster.storage.retry import RetryPolicy
from s3dest_dagster.storage.upload import PartPool, StagedObject, Upload, crc32_text

__all__ = [
    "TRIALS",
    "WITHOUT_CONDITIONS",
    "Bucket",
    "Identity",
    "Listed",
    "ObjectHead",
    "PartPool",
    "PendingUpload",
    "RetryPolicy",
    "ServerAbilities",
    "StagedObject",
    "Upload",
    "crc32_text",
    "denied",
    "headers_of_all",
    "headers_of_data",
    "identity",
    "in_parallel",
    "open_bucket",
    "open_client",
    "told",
]
