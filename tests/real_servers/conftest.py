"""Real servers, each started when the first test needs it and stopped with the run. Opt-in: `make test-servers`.

`--publish` writes the results into docs/servers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Lake, WarmStart
from real_servers.known import KNOWN, SELECTED
from real_servers.report import Results, format_tables, publish
from servers import S3Server


class PatientLake(Lake):
    """A bucket on a server that may be busy: a request is tried several times."""

    def settings(self, **changes: Any) -> dict[str, Any]:
        own = {"max_attempts": 4, "encode_workers": 1, **changes.pop("s3dest", {})}
        return super().settings(s3dest=own, **changes)


_RESULTS = pytest.StashKey[Results]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = Results()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = (yield).get_result()
    parameters = getattr(item, "callspec", None)
    if parameters is None or "server_name" not in parameters.params:
        return
    if report.when == "call" or report.outcome != "passed":
        server, *variant = parameters.id.split("-", 1)
        name = f"{item.originalname}[{variant[0]}]" if variant else item.originalname
        item.config.stash[_RESULTS].add(server, name, report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    results = session.config.stash[_RESULTS]
    if session.config.getoption("--publish", False) and results.abilities:
        publish(format_tables(results, date.today()))


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Results:
    """What the run has shown so far."""
    return request.config.stash[_RESULTS]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """Starts the server of a name, once."""
    with ExitStack() as running:
        yield cache(lambda name: running.enter_context(KNOWN[name].start(tmp_path_factory.mktemp(name))))


@pytest.fixture(scope="session", params=SELECTED)
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
    return PatientLake(real_s3, warm_start, tmp_path)
