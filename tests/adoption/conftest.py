"""Buckets that connectors of both eras have filled."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from connector_files import EXTENSIONS, FORMATS, GENERATION_ID, SCHEMA, Era, connector_file, user
from land_and_read import START, batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.adoption import (
    Adoption,
    FoundObjects,
    SearchRequest,
    adopt,
    expected_columns,
    search,
)
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.commit.registry import check_entries
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.connector_config import parse_format
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

USERS = StreamId("public", "users")
SCOPE = Scope(USERS)
STREAM = Stream(name="users", namespace="public", json_schema=SCHEMA, sync_mode=SyncMode.APPEND)
FOREIGN = "data/public/users/price-list.pdf"
OTHERS = "data/public/orders/2026_01_04_1767484800000_0{}"


@dataclass
class Lake:
    """A bucket that connectors of both eras have filled."""

    server: S3Server
    settings: S3Destination
    format: str

    @property
    def bucket(self) -> Bucket:
        return self.server.open(self.settings)

    def put(self, key: str, era: Era, records: Sequence[Mapping[str, Any]], **metadata: str) -> str:
        """Puts an object of the connector."""
        key = f"{key}{EXTENSIONS[self.format]}" if not key.endswith("-1") else key
        body = connector_file(self.format, era, records)
        self.server.client().put_object(Bucket=self.settings.s3_bucket_name, Key=key, Body=body, Metadata=metadata)
        return key

    def fill(self) -> list[str]:
        """Puts objects of both eras, those of another stream, and a foreign one. Returns the keys of `users`."""
        self.put(OTHERS.format(""), "0.6", [user(90)])
        self.server.client().put_object(Bucket=self.settings.s3_bucket_name, Key=FOREIGN, Body=b"%PDF")
        repeated = f"data/public/users/2026_01_06_1767657600000_0{EXTENSIONS[self.format]}-1"
        return [
            self.put("data/public/users/2026_01_04_1767484800000_0", "0.6", [user(1), user(2)]),
            self.put("data/public/users/2026_01_06_1767657600000_0", "1", [user(3)], **_generation()),
            self.put(repeated, "1", [user(4), user(5)], **_generation()),
        ]

    def search(self, *, deep: bool = False, streams: Sequence[StreamId] = (USERS,), **request: Any) -> FoundObjects:
        """What is found for `users`."""
        entries = check_entries(self.bucket, self.settings, list(streams))
        declared = {
            name: expected_columns(record_type(SCHEMA, name.name, name.namespace), entry.columns_beside(None))
            for name, entry in zip(streams, entries, strict=True)
        }
        wanted = SearchRequest(declared=declared, deep=deep, **request)
        return next(iter(search(self.bucket, self.settings, wanted)))

    def adopt(self, bucket: Bucket | None = None, *, found: FoundObjects | None = None, **request: Any) -> Adoption:
        """Adopts what is found for `users`."""
        owner = request.pop("owner", None)
        found = found or self.search(**request)
        return adopt(bucket or self.bucket, self.settings, found, START, os.urandom, owner=owner, clock=lambda: START)

    def land(self, mode: SyncMode, *numbers: int) -> Receipt:
        """Lands users."""
        stream = Stream(name="users", namespace="public", json_schema=SCHEMA, sync_mode=mode)
        with target(self.server, self.settings) as opened:
            return land([batch_of(map(user, numbers))], opened, stream, sync(f"sync-{numbers}"))

    def rows(self) -> list[dict[str, Any]]:
        """All records of `users`, as a reader gets them."""
        table = read_scope(self.bucket, self.settings.template, SCOPE)
        return [] if table is None else sorted(table.to_pylist(), key=lambda row: row["id"])

    def ids(self) -> list[int]:
        return [row["id"] for row in self.rows()]

    def keys(self) -> list[str]:
        return data_keys(self.server, self.settings.s3_bucket_name)


def _generation() -> dict[str, str]:
    return {"ab-generation-id": str(GENERATION_ID)}


def settings_of(server: S3Server, name: str, **changes: Any) -> S3Destination:
    return destination(server.new_bucket(), format=parse_format(FORMATS[name], None)[0], **changes)


@pytest.fixture(params=list(FORMATS))
def lake(request: pytest.FixtureRequest, moto_s3: S3Server) -> Lake:
    """A lake in each format."""
    return Lake(moto_s3, settings_of(moto_s3, request.param), request.param)


@pytest.fixture
def one_lake(moto_s3: S3Server) -> Lake:
    """A lake in one format, for what does not depend on it."""
    return Lake(moto_s3, settings_of(moto_s3, "jsonl"), "jsonl")
