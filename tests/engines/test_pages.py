"""What the pages of the engines show lands, and is loaded downstream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from land_and_read import open_uploads
from servers import S3Server

from docs import pages
from s3dest_dagster import S3DestinationIOManager

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]
ROWS = 1000
PAGES = ("daft", "dask", "ray", "spark")


@pytest.fixture(autouse=True)
def local_engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small engines, which end with the test."""
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    ray, sql = pytest.importorskip("ray"), pytest.importorskip("pyspark.sql")
    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    if (session := sql.SparkSession.getActiveSession()) is not None:
        session.stop()


def blocks() -> list[Any]:
    found = [(page, block) for page in PAGES for block in pages.blocks(f"docs/engines/{page}.md", "py")]
    return [pytest.param(block, id=f"{page}:{block.line}") for page, block in found]


@pytest.mark.parametrize("block", blocks())
def test_what_a_page_shows_lands_and_is_loaded(block: pages.Block, moto_s3: S3Server) -> None:
    if "import daft" in block.text:
        pytest.importorskip("daft")
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block.text, f"line {block.line}", "exec", dont_inherit=True), names)
    bucket = moto_s3.new_bucket()
    if "load" in names:
        assert names["load"](moto_s3.connection, bucket) == ROWS
    else:
        resources = dict(names["defs"].resources)
        resources["io_manager"] = S3DestinationIOManager(s3_bucket_name=bucket, s3=moto_s3.connection)
        result = dg.materialize(list(names["defs"].assets), resources=resources)
        assert result.asset_value("count") == ROWS
    assert open_uploads(moto_s3, bucket) == 0
