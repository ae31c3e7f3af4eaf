"""Spark reads the lake as the page of the chapter "Read your lake" says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docs.read_lake import TOTALS, download, land_lake
from servers import S3Server

from docs import pages

pytestmark = [pytest.mark.readers, pytest.mark.timeout(600)]


def test_spark_reads_what_the_page_says(spark: Any, moto_s3: S3Server, tmp_path: Path) -> None:
    bucket = moto_s3.new_bucket()
    land_lake(moto_s3, bucket)
    download(moto_s3, bucket, tmp_path)
    by_listing, through_manifests = [block.text for block in pages.blocks("docs/read/spark.md", "python")]
    variables: dict[str, Any] = {"spark": spark}
    exec(by_listing.replace("s3a://my-bucket", str(tmp_path)), variables)
    assert dict(map(tuple, variables["totals"].collect())) == TOTALS
    keys = [str(path) for path in sorted(tmp_path.glob("lake/shop/orders/*/*.parquet"))]
    (reading,) = [line for line in through_manifests.splitlines() if line.startswith("orders = ")]
    exec(reading.replace("s3a://my-bucket", str(tmp_path)), variables | {"keys": keys}, found := {})
    assert found["orders"].count() == 3
    assert "dt" in found["orders"].columns
