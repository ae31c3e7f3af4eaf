"""The commands on the page on ops, jobs and executors work word for word: those of `dg`, and the older ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from servers import rclone_server
from start.test_first_steps import answers, free_port

from docs import pages

pytestmark = [pytest.mark.start, pytest.mark.timeout(1200)]

PAGE = "docs/jobs.md"
KEYS = ("orders", "orders-secret")
ROWS = pages.table(pages.section(PAGE, "Commands"))
NEWER, OLDER = "in a `dg` project", "anywhere"
STREAMS = """

from s3dest_dagster import stream_asset


@stream_asset(namespace="shop")
def products():
    return [{"id": 1}]


@stream_asset(
    namespace="shop",
    partitions_def=dg.DailyPartitionsDefinition("2026-01-01"),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def orders(context: dg.AssetExecutionContext):
    return {day: [{"id": number}] for number, day in enumerate(context.partition_keys)}


defs = dg.Definitions(
    [products, orders], jobs=[load_people], resources={"io_manager": S3DestinationIOManager(s3_bucket_name="my-bucket")}
)
"""
STEPS = (
    ("see the definitions", None, 0),
    ("check them", None, 0),
    ("land a stream", "shop/products", 1),
    ("land a partition", "shop/orders", 1),
    ("land a range", "shop/orders", 27),
    ("run a job", "crm/people", 1),
)
"""What a command is for, the stream that it lands, and how many objects the stream has then."""
START = "start the web interface"
PROJECT = """\
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "my_project"
defs_module = "my_project"
code_location_target_module = "my_project.definitions"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the job of the page, and two streams."""
    folder = tmp_path / "project"
    (folder / "my_project").mkdir(parents=True)
    (folder / "home").mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "my_project" / "__init__.py").touch()
    block = pages.blocks(PAGE, "python")[0]
    (folder / "my_project" / "definitions.py").write_text(block.text + STREAMS)
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake" / "my-bucket"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def variables(project: Path, lake: Path) -> Iterator[dict[str, str]]:
    with rclone_server(lake.parent, KEYS) as server:
        yield {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
            "HOME": str(project / "home"),
            "DAGSTER_HOME": str(project / "home"),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "PYTHONPATH": os.pathsep.join([str(project), str(pages.ROOT)]),
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": server.endpoint,
            "AWS_ACCESS_KEY_ID": KEYS[0],
            "AWS_SECRET_ACCESS_KEY": KEYS[1],
        }


def command(purpose: str, column: str) -> list[str]:
    (row,) = [row for row in ROWS if row["to"] == purpose]
    return pages.code(row[column]).split()


def type_in(project: Path, variables: Mapping[str, str], words: list[str]) -> str:
    done = subprocess.run(words, cwd=project, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("column", [NEWER, OLDER])
def test_the_commands_do_what_the_page_says(project, lake, variables, column):
    for purpose, stream, landed in STEPS:
        printed = type_in(project, variables, command(purpose, column))
        if stream is not None:
            assert objects(lake, stream) == landed, printed


def objects(lake: Path, stream: str) -> int:
    return sum(path.is_file() for path in lake.glob(f"{stream}/**/*"))


@pytest.mark.parametrize("column", [NEWER, OLDER])
def test_the_web_interface_starts_and_ends(project, variables, column):
    port = free_port()
    words = [*command(START, column), "-h", "127.0.0.1", "-p", str(port)]
    with (project / "printed.txt").open("wb") as printed:
        started = subprocess.Popen(words, cwd=project, env=variables, stdout=printed, stderr=printed)
    try:
        while not answers(port):
            assert started.poll() is None, (project / "printed.txt").read_text()
            time.sleep(0.2)
        started.send_signal(signal.SIGINT)
        assert started.wait(timeout=120) in (0, 1, -signal.SIGINT)
        assert not answers(port)
    finally:
        started.kill()


def test_every_command_of_the_page_is_typed():
    assert {START, *(purpose for purpose, *_ in STEPS)} == {row["to"] for row in ROWS}
