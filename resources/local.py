"""The S3 server that the demo starts on this machine. Its keys are no secrets, since it listens on loopback only."""

import os

from resources.lakes import lakes
from s3dest_dagster import S3Resource


def resources() -> dict[str, object]:
    """The lake of the demo."""
    s3 = S3Resource(
        endpoint_url=os.environ.get("S3DEST_DEMO_ENDPOINT", "http://127.0.0.1:9710"),
        region_name="us-east-1",
        aws_access_key_id="demo-access-key",
        aws_secret_access_key="demo-secret-key",
    )
    return lakes(s3, s3_bucket_name="demo", s3_bucket_path="lake")
