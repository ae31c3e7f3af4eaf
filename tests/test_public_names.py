"""Every public name can be imported, and costs nothing before its first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import s3dest_dagster


@pytest.mark.parametrize("name", s3dest_dagster.__all__)
def test_every_public_name_exists(name):
    assert getattr(s3dest_dagster, name).__name__ == name
    assert name in dir(s3dest_dagster)


def test_public_names_are_sorted_and_each_has_a_module():
    assert sorted(s3dest_dagster.__all__) == s3dest_dagster.__all__
    assert s3dest_dagster._MODULES.keys() == set(s3dest_dagster.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="s3_destination"):
        _ = s3dest_dagster.s3_destination


IMPORTS = [
    ("import s3dest_dagster", {"dagster", "dagster_aws", "boto3", "pyarrow"}),
    ("from s3dest_dagster import S3Destination, ParquetFormat, Stream", {"dagster", "dagster_aws", "boto3"}),
    ("from s3dest_dagster import land, plan, check", {"dagster", "dagster_aws"}),
    ("from s3dest_dagster import S3DestinationIOManager, stream_asset, build_stream_assets", {"dagster_aws"}),
]
"""Statements in the order of what they need, each with packages that must not be imported after it."""


def test_an_import_costs_only_what_it_needs():
    told = "print(*(name for name in sys.modules if '.' not in name))"
    code = "\n".join(["import sys", *(f"{statement}\n{told}" for statement, _ in IMPORTS)])
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = answer.stdout.splitlines()
    assert "s3dest_dagster" in lines[0].split()
    assert "dagster" in lines[-1].split()
    for (statement, strangers), line in zip(IMPORTS, lines, strict=True):
        assert strangers.isdisjoint(line.split()), statement
