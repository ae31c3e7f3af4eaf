"""Fixtures for every test: the S3 servers of `servers.py`, which start once per run.

S3DEST_EXAMPLES sets the number of examples of each property test.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from fault_proxy import FaultProxy, fault_proxy
from hypothesis import settings
from servers import S3Server, moto_server, rclone_server

# Without a deadline: time never decides a test.
settings.register_profile("s3dest", deadline=None, max_examples=int(os.environ.get("S3DEST_EXAMPLES", "8")))
settings.load_profile("s3dest")

OPT_IN = {
    "clients": "needs PyAirbyte and airbyte-source-faker",
    "engines": "needs dask, ray, pyspark and a JDK",
    "readers": "needs pyspark and a JDK",
    "scale": "starts PostgreSQL, Redis and celery workers",
    "servers": "starts SeaweedFS, Ceph and Swift",
    "sql": "starts PostgreSQL and MariaDB",
    "start": "types pages into a shell",
    "ui": "needs playwright and a Chromium",
}
"""Marks of tests that run only when they are asked for, as with `-m ui`; each has a target of make."""


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here and not where it is read, since pytest takes an option once, however many folders of tests are asked for.
    parser.addoption("--publish", action="store_true", help="write what the tests make for the documentation")


def pytest_configure(config: pytest.Config) -> None:
    # Everything that is imported and collected stays, so searching it for garbage over and over finds none.
    gc.disable()
    for mark, why in OPT_IN.items():
        config.addinivalue_line("markers", f"{mark}: {why}; runs only with -m {mark}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unasked = OPT_IN.keys() - set(config.option.markexpr.split())
    asked, left_out = [], []
    for item in items:
        (asked if unasked.isdisjoint(mark.name for mark in item.iter_markers()) else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = asked


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """A server that checks signatures and policies. Its identity may do only what the documentation requires."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server without conditional puts and policies that keeps objects as plain files, `root/<bucket>/<key>`."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def any_s3(request: pytest.FixtureRequest) -> S3Server:
    """Each server in turn. Tests that use it hold with and without conditional puts."""
    return request.getfixturevalue(f"{request.param}_s3")


@pytest.fixture
def faulty_moto(moto_s3: S3Server) -> Iterator[FaultProxy]:
    """moto, behind a proxy that injects faults on request."""
    with fault_proxy(moto_s3) as proxy:
        yield proxy


@pytest.fixture
def faulty_rclone(rclone_s3: S3Server) -> Iterator[FaultProxy]:
    """rclone, behind such a proxy."""
    with fault_proxy(rclone_s3) as proxy:
        yield proxy
