"""A person uses Dagster's web interface: lands a partition, looks at its metadata, and reads the object."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from ui.conftest import status_at_end

pytestmark = [pytest.mark.ui, pytest.mark.timeout(1800)]

READINGS = "/assets/house/readings"
RECORDS_OF_A_DAY = 6 * 24 * 3


def landed_in_the_browser(page: Any) -> str:
    """Materializes the newest partition as a person does, and returns the address of the run."""
    page.goto(f"{READINGS}?view=partitions")
    page.get_by_role("button", name="Materialize…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Latest", exact=True).click()
    dialog.get_by_role("button", name=re.compile("^Launch")).click()
    page.get_by_text(re.compile("Launched run")).first.wait_for()
    return page.locator("a[href^='/runs/']").first.get_attribute("href")


def wait_for_all(page: Any, *texts: str, times: int = 1) -> None:
    """Waits until each text is on the page this many times, because its parts appear one after another."""
    for text in texts:
        page.get_by_text(text, exact=True).nth(times - 1).wait_for()


def shown_value(page: Any, name: str) -> str:
    """The value that the page shows under this name."""
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True)).first
    return row.get_by_role("cell").nth(1).inner_text()


def test_a_partition_is_landed_and_read_back(page: Any, served: Any, yesterday: date, picture: Callable[[str], None]):
    run = landed_in_the_browser(page)
    page.goto(run)
    assert status_at_end(page) == "Success"
    page.get_by_text("Process for run exited").wait_for()
    picture("run")

    page.goto(f"{READINGS}?view=overview")
    page.get_by_text("Temperature in °C").wait_for()
    wait_for_all(page, "records_read", "json", "Python", "S3", "house.readings")
    picture("asset")
    page.get_by_role("button", name="Plots").click()
    page.locator("canvas").first.wait_for()
    page.get_by_text("rows_per_second", exact=True).scroll_into_view_if_needed()
    wait_for_all(page, "rows", "bytes", "quarantined")
    picture("plots")

    page.goto(f"{READINGS}?view=partitions&partition={yesterday}")
    wait_for_all(page, "records_read", "preview", "objects", "manifest")
    assert (shown_value(page, "rows"), shown_value(page, "quarantined")) == (str(RECORDS_OF_A_DAY), "0")
    assert shown_value(page, "location").strip() == "s3://demo/lake/house/readings/"
    assert f"{yesterday}T00:10:00+00:00" in shown_value(page, "preview")
    listed, manifest = shown_value(page, "objects"), shown_value(page, "manifest").strip()
    picture("metadata")

    page.goto(f"{READINGS}?view=checks")
    wait_for_all(page, "Evaluation result")
    wait_for_all(page, "Succeeded", times=5)
    picture("checks")

    records = read_by_manifest(served.s3.client(), manifest, listed)
    assert len(records) == RECORDS_OF_A_DAY
    assert {each["read_at"][:10] for each in records} == {str(yesterday)}


def read_by_manifest(client: Any, manifest: str, listed: str) -> list[dict[str, Any]]:
    """The records of the one object in a manifest, which the page must have listed."""
    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    (item,) = json.load(client.get_object(Bucket=bucket, Key=key)["Body"])["objects"]
    assert item["key"] in listed
    body = client.get_object(Bucket=bucket, Key=item["key"])["Body"].read()
    return [json.loads(line)["_airbyte_data"] for line in gzip.decompress(body).splitlines()]
