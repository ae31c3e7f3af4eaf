"""`dagster asset materialize` as CI calls it: one partition, a range of partitions, and failures."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dagster._cli import create_dagster_cli

MODULE = """
import dagster as dg
from s3dest_dagster import JsonlFormat, S3Connection, S3DestinationIOManager, stream_asset


@stream_asset(
    partitions_def=dg.DailyPartitionsDefinition("2026-01-01"), backfill_policy=dg.BackfillPolicy.single_run()
)
def readings(context: dg.AssetExecutionContext):
    for day in context.partition_keys:
        yield day, [{{"id": day}}]


defs = dg.Definitions(
    [readings],
    resources={{
        "io_manager": S3DestinationIOManager(
            s3_bucket_name="{bucket}",
            format=JsonlFormat(compression="No Compression"),
            s3=S3Connection(
                endpoint="{endpoint}", access_key_id="{key}", secret_access_key="{secret}", region="us-east-1"
            ),
        )
    }},
    executor=dg.in_process_executor,
)
"""
_numbers = count(1)


@pytest.fixture
def materialize(lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls the command on a separate module, in this process."""
    server, name = lake.server, f"command_line_{next(_numbers)}"
    text = MODULE.format(
        bucket=lake.bucket, endpoint=server.endpoint, key=server.access_key_id, secret=server.secret_access_key
    )
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()

    def call(*options: str) -> Any:
        return CliRunner().invoke(create_dagster_cli(), ["asset", "materialize", "-m", name, *options])

    return call


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--partition", "2026-01-05"), ["2026-01-05"]),
        (("--partition-range", "2026-01-05...2026-01-07"), ["2026-01-05", "2026-01-06", "2026-01-07"]),
    ],
    ids=["one", "range"],
)
def test_partitions_land_from_the_command_line(lake, materialize, options, expected):
    assert materialize("--select", "readings", *options).exit_code == 0
    assert lake.ids() == expected


def test_an_unknown_partition_exits_with_1(lake, materialize):
    assert materialize("--select", "readings", "--partition", "2025-12-31").exit_code == 1
    assert lake.all_keys() == []
