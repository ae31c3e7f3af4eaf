"""The sample source is a connector like any other, and its records can be landed again."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, date, datetime

import pytest

from s3dest_dagster import AirbyteSource
from s3dest_dagster.local.sample_source import COMMAND, catalog, messages

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def records(stream: str, day: str, count: int = 20) -> list[dict[str, object]]:
    answered = messages("read", {"day": day, "count": count}, [stream], NOW)
    return [message["record"]["data"] for message in answered if message["type"] == "RECORD"]


def test_the_process_speaks_the_protocol():
    source = AirbyteSource([sys.executable, *shlex.split(COMMAND)[1:]], {"count": 3, "day": "2026-03-04"})
    assert source.discover().raw == catalog()
    assert "connectionSpecification" in source.spec()


@pytest.mark.parametrize("stream", ["users", "products", "purchases"])
def test_a_day_has_the_same_records_each_time(stream):
    assert records(stream, "2026-03-04") == records(stream, "2026-03-04") != []


@pytest.mark.parametrize("stream", ["users", "purchases"])
def test_days_have_records_of_their_own(stream):
    one, other = ({each["id"] for each in records(stream, day)} for day in ("2026-03-04", "2026-03-05"))
    assert one & other == set()


def test_every_week_has_the_same_totals():
    def week(first: int) -> list[object]:
        days = [f"2026-03-{day:02}" for day in range(first, first + 7)]
        return sorted(each["product_id"] for day in days for each in records("purchases", day))

    assert week(2) == week(5) == week(9)


def test_purchases_name_users_and_products_that_exist():
    users, products = ({each["id"] for each in records(name, "2026-03-04")} for name in ("users", "products"))
    for purchase in records("purchases", "2026-03-04"):
        assert purchase["user_id"] in users
        assert purchase["product_id"] in products
        assert str(purchase["purchased_at"]).startswith("2026-03-04T")


def test_every_record_has_the_properties_of_its_schema():
    for stream in catalog()["streams"]:
        properties = set(stream["json_schema"]["properties"])
        assert {frozenset(each) for each in records(stream["name"], "2026-03-04")} == {frozenset(properties)}


def test_the_day_is_today_unless_the_config_names_one():
    (first, *_) = (m for m in messages("read", {}, ["users"], NOW) if m["type"] == "RECORD")
    assert first["record"]["data"]["created_at"].startswith(date(2026, 3, 4).isoformat())


@pytest.mark.parametrize(
    ("config", "status"), [({}, "SUCCEEDED"), ({"count": 0}, "FAILED"), ({"day": "yesterday"}, "FAILED")]
)
def test_check_says_whether_the_config_is_right(config, status):
    (answer,) = messages("check", config, [], NOW)
    assert answer["connectionStatus"]["status"] == status
    assert json.dumps(answer)
