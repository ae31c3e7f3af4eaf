"""A code location for the browser: two streams of a connector that a script plays, with assets of the source upstream.

One line of the connector ends early, so that a check fails.
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
from scripted_source import ScriptedSource

from s3dest_dagster import ParquetFormat, S3DestinationIOManager, S3Resource, build_landing_checks, build_stream_assets

SCHEMA = {
    "userId": {"type": "integer", "description": "The number of the user."},
    "mail": {"type": "string", "description": "The address, which lands as a hash."},
    "city": {"type": "string"},
}
USERS = [{"userId": number, "mail": f"user{number}@example.com", "city": "Berlin"} for number in range(1, 4)]

connector = ScriptedSource(Path(os.environ["CRM_FOLDER"]))
connector.stream("users", namespace="crm", properties=SCHEMA)
connector.log("INFO", "Reading users").records("users", *USERS, namespace="crm").prints(
    '{"type": "RECORD", "record": {'
)
connector.state("users", {"updated_at": "2026-01-05", "page": 3}, namespace="crm")

streams = build_stream_assets(
    connector.source(),
    catalog=connector.catalog,
    streams={"crm.users": {"sync_mode": "append", "rename": {"userId": "person"}, "fields": {"hash": ["mail"]}}},
    partitions_def=None,
    source_assets="source_crm",
)


@dg.asset(deps=[streams[0]], kinds={"python"})
def report() -> None:
    """What is made of the users."""


defs = dg.Definitions(
    assets=[*streams, report],
    asset_checks=build_landing_checks(streams[:1]),
    resources={
        "io_manager": S3DestinationIOManager(
            s3_bucket_name="demo",
            s3_bucket_path="crm_lake",
            format=ParquetFormat(),
            hash_key="k" * 32,
            on_bad_record="quarantine",
            s3=S3Resource(
                endpoint_url=os.environ["S3DEST_DEMO_ENDPOINT"],
                region_name="us-east-1",
                aws_access_key_id="demo-access-key",
                aws_secret_access_key="demo-secret-key",
            ),
        )
    },
)
