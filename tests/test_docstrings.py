"""The docstrings of public functions name every argument, and their examples run."""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from servers import S3Server

import s3dest_dagster
from s3dest_dagster import S3Connection, S3Destination, Stream, Sync, open_bucket, open_target, shards

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module in (s3dest_dagster, shards)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}
SCHEMA = {"properties": {"id": {"type": "integer"}, "total": {"type": "number"}}}
CATALOG = """{"streams": [{"stream": {"name": "users", "json_schema": {"properties": {"id": {"type": "integer"}}},
    "supported_sync_modes": ["full_refresh"]}, "sync_mode": "full_refresh", "destination_sync_mode": "overwrite"}]}"""


def section(docstring: str, title: str) -> str:
    """The indented text below a title."""
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return dedent(found[1]) if found else ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_explained(name: str) -> None:
    entries = re.findall(r"^(\w[\w*, ]*):", section(inspect.getdoc(FUNCTIONS[name]) or "", "Args"), re.MULTILINE)
    explained = {each.strip(" *") for entry in entries for each in entry.split(",")}
    assert explained == set(inspect.signature(FUNCTIONS[name]).parameters)


@pytest.fixture
def names(moto_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the examples take for granted: a bucket, an opened destination, a stream that has landed, and an order."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": moto_s3.endpoint,
        "AWS_ACCESS_KEY_ID": moto_s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": moto_s3.secret_access_key,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.json").write_text(CATALOG)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "1.jsonl").write_text('{"id": 1, "total": 2}\n')
    destination = S3Destination(s3_bucket_name=moto_s3.new_bucket(), s3_bucket_path="lake")
    bucket, stream = (
        open_bucket(S3Connection(), destination),
        Stream(name="orders", namespace="shop", json_schema=SCHEMA),
    )
    records = [{"id": 1, "total": 12.5}, {"id": 2, "total": 8}]
    public = {name: getattr(s3dest_dagster, name) for name in s3dest_dagster.__all__}

    @s3dest_dagster.stream_asset
    def orders() -> Any:
        yield from records

    with open_target(destination, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target:

        def new_sync() -> Sync:
            return Sync(uuid4().hex, datetime.now(UTC), str(uuid4()))

        def batches_of(records: list[dict[str, Any]]) -> Any:
            return s3dest_dagster.batches(records, emitted_at=lambda: 0)

        s3dest_dagster.land(batches_of(records), target, stream, new_sync())
        order = shards.begin(target, Stream(name="staged", json_schema=SCHEMA), new_sync())
        yield {
            **public,
            **{name: getattr(shards, name) for name in shards.__all__},
            "os": os,
            "time": time,
            "Path": Path,
            "uuid4": uuid4,
            "datetime": datetime,
            "UTC": UTC,
            "dg": dg,
            "destination": destination,
            "bucket": bucket,
            "target": target,
            "stream": stream,
            "orders": orders,
            "sync": new_sync(),
            "records": records,
            "order": order,
            "clock": lambda: datetime.now(UTC),
            "receipts": [shards.stage(order, [{"id": shard}], shard=shard) for shard in range(8)],
        }


# The example of land_in_processes starts four processes; that of docs/shards.md, which runs, is the same.
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"land_in_processes"}))
def test_every_example_runs(name: str, names: dict[str, Any]) -> None:
    example = section(inspect.getdoc(FUNCTIONS[name]) or "", "Example").replace("```python", "").replace("```", "")
    assert example.strip()
    exec(dedent(example).replace("my-bucket", names["destination"].s3_bucket_name), names)
