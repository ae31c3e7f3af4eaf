"""A person looks at a connector's streams: where they come from, a check that fails, and runs with settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import S3Server
from ui.conftest import Served, status_at_end
from web_interface import ROOT, dagster_dev, new_instance

pytestmark = [pytest.mark.ui, pytest.mark.timeout(1800)]

USERS = "/assets/crm/users"
LOCATION = ("-f", "tests/ui/crm_location.py")


@pytest.fixture(scope="module")
def served(lake: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The web interface of the connector's streams, after one append of three users."""
    home, connector = (tmp_path_factory.mktemp(name) for name in ("crm_home", "connector"))
    ours = {"S3DEST_DEMO_ENDPOINT": lake.endpoint, "CRM_FOLDER": str(connector), "PYTHONPATH": str(ROOT / "tests")}
    instance = new_instance(home, **ours)
    instance.run("dagster", "asset", "materialize", *LOCATION, "--select", "crm/users")
    with dagster_dev(instance, *LOCATION) as url:
        yield Served(url, lake, instance)


def launched(page: Any, config: str) -> None:
    """Launches a run with this config as a person does, and waits for its end."""
    page.goto(f"{USERS}?view=overview")
    page.get_by_text("Latest materialization").wait_for()
    page.get_by_role("button", name=re.compile("^.*Materialize")).first.click(modifiers=["Shift"])
    launchpad = page.get_by_role("dialog")
    launchpad.get_by_text("No errors").wait_for()
    launchpad.locator(".CodeMirror").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(config)
    launchpad.get_by_text("No errors").wait_for()
    launchpad.get_by_role("button", name=re.compile("Materialize")).last.click()
    page.wait_for_url("**/runs/**")
    assert status_at_end(page) == "Success"


def rows_held(page: Any) -> str:
    """The number of rows that the asset's page shows for the stream."""
    page.goto(f"{USERS}?view=overview")
    page.wait_for_function("() => /Row count\\s+\\d+/.test(document.body.innerText)")
    (rows,) = re.findall(r"Row count\s+(\d+)", page.inner_text("body"))
    return rows


@pytest.mark.parametrize("width", [1440, 1024])
def test_the_source_the_columns_and_the_failed_check_are_shown(page: Any, width: int, picture: Callable[[str], None]):
    page.set_viewport_size({"width": width, "height": 1050})
    page.goto(f"{USERS}?view=overview")
    page.get_by_text("('userId' in the source)").wait_for()
    page.get_by_text("state", exact=True).first.scroll_into_view_if_needed()
    page.get_by_text(re.compile("updated_at")).first.wait_for()
    if width == 1440:
        picture("state")
    page.goto(f"{USERS}?view=lineage")
    page.get_by_text("Never materialized").wait_for()
    page.get_by_text(re.compile("4 / 5 Passed|1 failed|Warning", re.IGNORECASE)).first.wait_for()
    assert page.get_by_text("users", exact=True).count() >= 2
    if width == 1440:
        picture("lineage")
    page.goto(f"{USERS}?view=checks&checkDetail=few_lines_quarantined")
    page.get_by_text("1 of 4 lines quarantined, 25.00%").first.wait_for()
    if width == 1440:
        picture("failed-check")


def test_a_full_refresh_and_a_plan_are_launched_with_settings(page: Any, picture: Callable[[str], None]):
    launched(page, "ops: {crm__users: {config: {full_refresh: false}}}")
    assert rows_held(page) == "6"
    launched(page, "ops: {crm__users: {config: {full_refresh: true}}}")
    assert rows_held(page) == "3"
    launched(page, "ops: {crm__users: {config: {plan: true}}}")
    picture("plan")
    page.get_by_text(re.compile("would")).first.wait_for()
    assert rows_held(page) == "3"
