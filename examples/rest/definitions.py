"""A REST API whose answers come in pages, landed a day at a time as JSON Lines.

Records are landed as they come, page by page. A page that the server cannot give at the moment is requested again. If
it fails for good, the bucket stays as it was.
"""

import dagster as dg
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from s3dest_dagster import JsonlFormat, S3DestinationIOManager, stream_asset

RETRIES = Retry(total=5, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))


class Api(dg.ConfigurableResource):
    """An API that names the next page in its Link header."""

    url: str
    token: str

    def records(self, path, **parameters):
        with requests.Session() as session:
            session.mount(self.url, HTTPAdapter(max_retries=RETRIES))
            session.headers["Authorization"] = f"Bearer {self.token}"
            address = f"{self.url}/{path}"
            while address:
                answer = session.get(address, params=parameters, timeout=60)
                answer.raise_for_status()
                yield from answer.json()
                address, parameters = answer.links.get("next", {}).get("url"), {}


@stream_asset(
    namespace="crm",
    sync_mode="append",
    partitions_def=dg.DailyPartitionsDefinition(start_date="2026-01-01"),
    json_schema={
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "email": {"type": ["string", "null"]},
            "changed_at": {"type": "string", "format": "date-time"},
        },
    },
)
def contacts(context: dg.AssetExecutionContext, api: Api):
    """The contacts that changed on a day."""
    start, end = context.partition_time_window
    return api.records("contacts", changed_from=start.isoformat(), changed_before=end.isoformat())


defs = dg.Definitions(
    assets=[contacts],
    resources={
        "api": Api(url=dg.EnvVar("API_URL"), token=dg.EnvVar("API_TOKEN")),
        "io_manager": S3DestinationIOManager(
            s3_bucket_name=dg.EnvVar("S3_BUCKET"), s3_bucket_path="lake", format=JsonlFormat()
        ),
    },
)
