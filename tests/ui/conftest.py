"""A browser before Dagster's web interface, opt-in: `make test-ui` brings Playwright, and Chromium where it may.

When a test fails, its page is kept in `.browser/failed`, as a picture and as text, and the text is shown. `--publish`
writes the pictures of the documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from servers import S3Server, rclone_server
from ui import chromium
from ui.small_png import small_png
from web_interface import ROOT, TIME_LIMIT_S, Instance, dagster_dev, new_instance, tail

FAILED = ROOT / ".browser" / "failed"
IMAGES = ROOT / "docs" / "images"
DEMO_KEYS = ("demo-access-key", "demo-secret-key")
"""What `resources/local.py` signs with."""


@dataclass(frozen=True)
class Served:
    """The web interface of this project's code location, and the S3 server that its local resources land on."""

    url: str
    s3: S3Server
    instance: Instance


def status_at_end(page: Any) -> str:
    """Waits until the page of a run shows that the run is over, and returns that status.

    The status is waited for and read at once: an answer that comes late can make the page say "Started" again.
    """
    return page.get_by_text(re.compile("^(Success|Failure)$")).first.inner_text()


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with the demo's keys and its bucket."""
    root = tmp_path_factory.mktemp("lake")
    (root / "demo").mkdir()
    with rclone_server(root, DEMO_KEYS) as server:
        yield server


@pytest.fixture(scope="session")
def yesterday() -> date:
    """The newest partition. The day is determined only once for all tests."""
    return date.today() - timedelta(days=1)


@pytest.fixture(scope="session")
def served(lake: S3Server, yesterday: date, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The web interface, with a month of readings that landed before."""
    home = tmp_path_factory.mktemp("dagster_home")
    ours = {"S3DEST_ENVIRONMENT": "local", "S3DEST_DEMO_ENDPOINT": lake.endpoint, "S3DEST_INBOX": str(home / "inbox")}
    instance = new_instance(home, **ours)
    days = f"{yesterday - timedelta(days=30)}...{yesterday - timedelta(days=1)}"
    definitions = ("-m", "s3dest_dagster.definitions")
    instance.run(
        "dagster", "asset", "materialize", *definitions, "--select", "house/readings", "--partition-range", days
    )
    with dagster_dev(instance) as url:
        yield Served(url, lake, instance)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = chromium.executable()
    assert path, chromium.MISSING
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=path, args=["--disable-dev-shm-usage", "--disable-gpu"], timeout=TIME_LIMIT_S * 1000
        )
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, served: Served, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A fresh page; every wait on it is for a condition, and patient."""
    opened = browser.new_page(base_url=served.url, viewport={"width": 1440, "height": 1050})
    opened.set_default_timeout(TIME_LIMIT_S * 1000)
    failed_before = request.session.testsfailed
    yield opened
    if request.session.testsfailed > failed_before:
        _keep(opened, served, request.node.name)
    opened.close()


def _keep(page: Any, served: Served, name: str) -> None:
    FAILED.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=FAILED / f"{name}.png", full_page=True)
    text = f"{page.url}\n\n{page.inner_text('body')}\n\n== dagster dev\n{tail(served.instance.log)}\n"
    (FAILED / f"{name}.txt").write_text(text)
    print(f"The page when it failed, with its picture in {FAILED}:\n{text}")


@pytest.fixture
def picture(page: Any, browser: Any, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes the page's picture of this name for the documentation, once it stands still; only with `--publish`."""

    def take(name: str) -> None:
        if not request.config.getoption("--publish"):
            return
        last, shot = b"", page.screenshot(animations="disabled", caret="hide")
        while shot != last:
            last, shot = shot, page.screenshot(animations="disabled", caret="hide")
        blank = browser.new_page()
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / f"{name}.png").write_bytes(small_png(blank, shot))
        blank.close()

    return take
