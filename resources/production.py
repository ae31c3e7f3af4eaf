"""A bucket on AWS, which the environment names: S3_BUCKET in S3_REGION, with the role S3_ROLE_ARN if that is set.

Without a role, the machine's own identity is used (environment, profile, web identity, container, instance profile).
"""

import os

import dagster as dg

from resources.lakes import lakes
from s3dest_dagster import S3Resource


def resources() -> dict[str, object]:
    """The lake of production."""
    s3 = S3Resource(region_name=dg.EnvVar("S3_REGION"), role_arn=os.environ.get("S3_ROLE_ARN"))
    return lakes(s3, s3_bucket_name=dg.EnvVar("S3_BUCKET"), s3_bucket_path="lake")
