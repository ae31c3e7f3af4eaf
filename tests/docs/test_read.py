"""The pages of "Read your lake": each example of an engine that is here runs on a lake that has landed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from docs.read_lake import ORDERS, TOTALS, download, land_lake
from servers import S3Server

from docs import pages
from s3dest_dagster.errors import S3DestError

CHAPTER = [page for page in pages.PAGES if page.startswith("docs/read/")]
NOT_RUN = ("athena", "bigquery", "redshift", "snowflake", "trino")
"""Pages with SQL of engines that are not here."""


@dataclass(frozen=True)
class Lake:
    """A bucket on a server, and a copy of it in a folder, for engines that do not speak with the server."""

    bucket: str
    copy: Path

    def run(self, code: str) -> dict[str, Any]:
        """Runs Python of a page with the bucket's name, and returns its variables."""
        variables: dict[str, Any] = {}
        exec(code.replace("my-bucket", self.bucket), variables)
        return variables

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Runs SQL of DuckDB on the copy."""
        return duckdb.sql(sql.replace("s3://my-bucket", str(self.copy))).fetchall()


@pytest.fixture(scope="module")
def lake(moto_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(moto_s3.new_bucket(), tmp_path_factory.mktemp("lake"))
    land_lake(moto_s3, made.bucket)
    download(moto_s3, made.bucket, made.copy)
    return made


@pytest.fixture(autouse=True)
def environment(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and its credentials, as the engines find them."""
    for name, value in {
        "AWS_ENDPOINT_URL": moto_s3.endpoint,
        "AWS_ENDPOINT_URL_S3": moto_s3.endpoint,
        "AWS_ACCESS_KEY_ID": moto_s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": moto_s3.secret_access_key,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


def as_totals(value: Any) -> dict[str, float]:
    """The totals by country, from a frame of pandas or Polars or a relation of DuckDB."""
    if hasattr(value, "fetchall"):
        return dict(value.fetchall())
    if hasattr(value, "rows"):
        return dict(value.rows())
    return value.to_dict()


def test_duckdb_reads_what_the_page_says(lake: Lake) -> None:
    setup, *queries = [block.text for block in pages.blocks("docs/read/duckdb.md", "sql")]
    assert "SELECT" not in setup
    assert [dict(lake.query(each)) for each in queries] == [TOTALS] * 2
    (python,) = pages.blocks("docs/read/duckdb.md", "python")
    assert as_totals(lake.run(python.text)["totals"]) == TOTALS


@pytest.mark.parametrize("engine", ["polars", "pandas"])
def test_frames_have_what_the_page_says(lake: Lake, engine: str) -> None:
    by_listing, through_manifests = [block.text for block in pages.blocks(f"docs/read/{engine}.md", "python")]
    assert as_totals(lake.run(by_listing)["totals"]) == TOTALS
    imports = "import polars as pl\n" if engine == "polars" else ""
    assert as_totals(lake.run(imports + through_manifests)["totals"]) == TOTALS


def test_the_settings_on_the_first_page_make_its_layout(lake: Lake) -> None:
    (code,) = pages.blocks("docs/read/index.md", "python")
    made = lake.run(code.text)
    assert made["lake"].s3_path_format == "${NAMESPACE}/${STREAM_NAME}/${FIELDS}/"
    found = sorted(path.relative_to(lake.copy).as_posix() for path in lake.copy.glob("lake/shop/orders/*/*"))
    assert found == ["lake/shop/orders/dt=2026-01-05/0.parquet", "lake/shop/orders/dt=2026-01-06/1.parquet"]
    assert all(f"  {each.removeprefix('lake/')}\n" in pages.read("docs/read/index.md") for each in found)


def test_a_pattern_for_the_whole_lake_meets_the_manifests(lake: Lake) -> None:
    with pytest.raises(duckdb.Error, match=r"_s3dest.*json"):
        lake.query("SELECT * FROM read_parquet('s3://my-bucket/lake/**')")
    assert len(lake.query("SELECT * FROM read_parquet('s3://my-bucket/lake/shop/orders/*/*.parquet')")) == len(ORDERS)


def test_the_columns_of_an_object_are_those_that_the_pages_declare(lake: Lake) -> None:
    (path,) = lake.copy.glob("lake/shop/orders/dt=2026-01-05/*.parquet")
    names = pq.read_schema(path).names
    redshift = pages.blocks("docs/read/redshift.md", "sql")[0].text
    assert [line.split()[0] for line in redshift.splitlines()[1:-1]] == names
    trino = pages.blocks("docs/read/trino.md", "sql")[0].text.partition("\n)")[0]
    assert [line.split()[0] for line in trino.splitlines()[1:]] == [*names[:-1], "dt"]
    snowflake = pages.blocks("docs/read/snowflake.md", "sql")[1].text
    assert {line.split()[0] for line in snowflake.splitlines()[1:-1]} <= {*names}


def test_statements_that_are_not_run_name_the_directory_of_the_stream() -> None:
    for engine in NOT_RUN:
        statements = "".join(block.text for block in pages.blocks(f"docs/read/{engine}.md", "sql"))
        assert "s3://my-bucket/lake/shop/orders" in statements, engine
    (glue,) = pages.blocks("docs/read/glue.md", "python")
    made: dict[str, Any] = {}
    exec(glue.text, made)
    assert made["target"] == {"Path": "s3://my-bucket/lake/", "Exclusions": ["_s3dest/**"]}


def test_redshift_gets_the_objects_that_ls_lists_with_their_sizes() -> None:
    (code,) = pages.blocks("docs/read/redshift.md", "python")
    made: dict[str, Any] = {}
    exec(code.text, made)
    listed = json.dumps([{"stream": "shop.orders", "uri": "s3://b/k.parquet", "bytes": 7}])
    assert json.loads(made["redshift_manifest"](listed)) == {
        "entries": [{"url": "s3://b/k.parquet", "mandatory": True, "meta": {"content_length": 7}}]
    }


def test_every_engine_has_its_page_in_the_overview() -> None:
    assert pages.linked_pages("docs/read/index.md") >= {*CHAPTER} - {"docs/read/index.md"}


def test_an_unknown_stream_is_named(lake: Lake) -> None:
    with pytest.raises(S3DestError, match=r"shop\.orders"):
        lake.run('from s3dest_dagster import read\nread("s3://my-bucket/lake", "shop.order")')
