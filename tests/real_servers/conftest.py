"""Real servers, each started when the first test needs it and ended with the run. Opt-in: `make test-servers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from cli.conftest import Lake, WarmStart
from real_servers.known import CHOSEN, KNOWN
from servers import S3Server


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """Gives the server of a name."""
    with ExitStack() as running:
        yield cache(lambda name: running.enter_context(KNOWN[name].start(tmp_path_factory.mktemp(name))))


@pytest.fixture(scope="session", params=CHOSEN)
def server_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def real_s3(started: Callable[[str], S3Server], server_name: str) -> S3Server:
    """Each server in turn."""
    return started(server_name)


@pytest.fixture(scope="session")
def warm_start() -> Iterator[WarmStart]:
    command = WarmStart()
    yield command
    command.close()


@pytest.fixture
def lake(real_s3: S3Server, warm_start: WarmStart, tmp_path: Path) -> Lake:
    """A fresh bucket on each server in turn, and the command."""
    return Lake(real_s3, warm_start, tmp_path)
