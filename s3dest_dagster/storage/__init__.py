"""Transfers bytes to and from S3. Besides the sources, it is the only package with side effects.

Knows keys as texts, contents as bytes, and of a destination its headers and its manifest root. Must not know: streams,
formats, what a manifest says.
"""

from s3dest_dagster.storage.abilities import WITHOUT_CONDITIONS, ServerAbilities, describe_abilities
from s3dest_dagster.storage.bucket import TRIALS, Bucket
from s3dest_dagster.storage.clients import Identity, identity, open_bucket, open_client
from s3dest_dagster.storage.error_mapping import access_denied
from s3dest_dagster.storage.headers import headers_of_all, headers_of_data
from s3dest_dagster.storage.objects import ListedObject, ObjectHead, PendingUpload
from s3dest_dagster.storage.requests import RetryPolicy, each_in_parallel, in_parallel
from s3dest_dagster.storage.upload import PartPool, StagedObject, Upload, crc32_text

__all__ = [
    "TRIALS",
    "WITHOUT_CONDITIONS",
    "Bucket",
    "Identity",
    "ListedObject",
    "ObjectHead",
    "PartPool",
    "PendingUpload",
    "RetryPolicy",
    "ServerAbilities",
    "StagedObject",
    "Upload",
    "access_denied",
    "crc32_text",
    "describe_abilities",
    "each_in_parallel",
    "headers_of_all",
    "headers_of_data",
    "identity",
    "in_parallel",
    "open_bucket",
    "open_client",
]
