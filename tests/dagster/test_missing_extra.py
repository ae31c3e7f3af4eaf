"""A codec without its package is an error where the IO manager is defined, not in the middle of a run."""

from __future__ import annotations

import sys

import pytest

from s3dest_dagster import ParquetFormat, S3DestinationIOManager
from s3dest_dagster.errors import MissingExtraError


def test_lzo_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzallright", None)
    with pytest.raises(MissingExtraError, match=r"s3dest-dagster\[lzo\]"):
        S3DestinationIOManager(s3_bucket_name="lake", format=ParquetFormat(compression_codec="LZO"))


def test_lzo_with_its_package_is_accepted() -> None:
    S3DestinationIOManager(s3_bucket_name="lake", format=ParquetFormat(compression_codec="LZO"))
