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
def local_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small engine of the page's kind, which ends with the test."""
    page = request.node.callspec.id.partition(":")[0]
    if page == "ray":
        ray = pytest.importorskip("ray")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()
    elif page == "spark":
        monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
        monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        sql = pytest.importorskip("pyspark.sql")
        yield
        if (session := sql.SparkSession.getActiveSession()) is not None:
            session.stop()
    else:
        yield


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
