"""Assets that adopt what the connector has left: downstream assets receive old and new records alike."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
import pytest
from connector_files import EXTENSIONS, FORMATS, SCHEMA, connector_file, user

from s3dest_dagster import stream_asset
from s3dest_dagster.adoption import SearchRequest, adopt, search
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.settings.connector_config import parse_format
from s3dest_dagster.stream import StreamId

USERS = StreamId("public", "users")
FIELDS = tuple(SCHEMA["properties"])


@stream_asset(json_schema=SCHEMA, namespace="public", sync_mode="append")
def users():
    return [user(4)]


def adopted(lake, name: str) -> Any:
    """An IO manager on a bucket with objects of both eras, which are adopted for the asset."""
    io = lake.io(format=parse_format(FORMATS[name], None)[0], s3_bucket_path="data")
    for number, era in ((1, "0.6"), (2, "1")):
        key = f"data/public/users/2026_01_0{number}_176748480000{number}_0{EXTENSIONS[name]}"
        records = [user(number)] if era == "0.6" else [user(2), user(3)]
        lake.server.client().put_object(Bucket=lake.bucket, Key=key, Body=connector_file(name, era, records))
    destination = io.destination()
    bucket = lake.server.open(destination)
    request = SearchRequest(declared={USERS: record_type(SCHEMA, "users", "public")})
    for found in search(bucket, destination, request):
        adopt(bucket, destination, found, datetime.now(UTC), os.urandom, owner="public/users")
    return io


@pytest.mark.parametrize("annotation", [pa.Table, list[dict], pl.DataFrame, duckdb.DuckDBPyRelation])
@pytest.mark.parametrize("name", ["flat csv", "parquet"])
def test_a_downstream_asset_receives_adopted_and_landed_records(lake, name: str, annotation: Any) -> None:
    io = adopted(lake, name)
    got: list[list[dict[str, Any]]] = []

    def downstream(users):
        got.append(_rows(users))

    downstream.__annotations__ = {"users": annotation}
    lake.materialize(users, dg.asset(ins={"users": dg.AssetIn(users.key)})(downstream), io=io)
    rows = sorted(got[0], key=lambda row: row["id"])
    assert [(row["id"], row["name"], row["tags"]) for row in rows] == [
        (number, f"user {number}", ["a", "b"]) for number in (1, 2, 3, 4)
    ]
    assert all(row["_airbyte_ab_id"] for row in rows)


def _rows(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, duckdb.DuckDBPyRelation):
        value = value.to_arrow_table()
    if isinstance(value, pl.DataFrame):
        return value.to_dicts()
    return value.to_pylist() if isinstance(value, pa.Table) else value


def test_duckdb_reads_adopted_and_landed_files_without_the_library(lake, tmp_path) -> None:
    io = adopted(lake, "parquet")
    lake.materialize(users, io=io)
    for number, key in enumerate(lake.data_keys()):
        (tmp_path / f"{number}.parquet").write_bytes(lake.body(key))
    names = duckdb.sql(
        f"select id, name, tags from read_parquet('{tmp_path}/*.parquet', union_by_name=true) order by id"
    ).fetchall()
    assert names == [(number, f"user {number}", ["a", "b"]) for number in (1, 2, 3, 4)]
