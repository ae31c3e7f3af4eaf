"""Each recipe does what its page says: its code runs from the page's text, against a real server."""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import duckdb
import pytest
from land_and_read import data_keys
from servers import S3Server

from docs import pages
from s3dest_dagster import read
from s3dest_dagster.cli.entry import run

RECIPES = [page for page in pages.PAGES if page.startswith("docs/recipes/") and not page.endswith("index.md")]


class Kitchen:
    """A folder and a bucket, named in the environment, in which the code of a recipe runs."""

    def __init__(self, server: S3Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.bucket = server.new_bucket()

    def recipe(self, name: str) -> dict[str, Any]:
        """The variables of a recipe's code, whose retries do not wait."""
        (code,) = pages.blocks(f"docs/recipes/{name}.md", "python")
        variables: dict[str, Any] = {"__name__": "definitions"}
        exec(compile(code.text.replace("delay=60", "delay=0"), f"{name}.md", "exec"), variables)
        dg.Definitions.validate_loadable(variables["defs"])
        return variables

    def materialize(self, defs: dg.Definitions, partition: str | None = None, **tags: str) -> bool:
        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(partition_key=partition, tags=tags, raise_on_error=False).success

    def landed(self, stream: str, column: str) -> list[Any]:
        """The values of a column, in order."""
        return sorted(read(f"s3://{self.bucket}/lake", stream, columns=[column]).arrow()[column].to_pylist())

    def shop(self, *orders: tuple[int, str, float]) -> None:
        """Adds orders to the shop's database."""
        with duckdb.connect(str(self.folder / "shop.duckdb")) as database:
            database.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER, placed_at TIMESTAMP, total DOUBLE)")
            database.executemany("INSERT INTO orders VALUES (?, ?, ?)", orders)

    def content(self) -> bytes:
        """All bytes of the bucket."""
        client = self.server.client()
        keys = [each["Key"] for each in client.list_objects_v2(Bucket=self.bucket)["Contents"]]
        return b"".join(client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys)


@pytest.fixture
def kitchen(moto_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    made = Kitchen(moto_s3, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "S3_BUCKET": made.bucket,
        "AWS_ENDPOINT_URL_S3": moto_s3.endpoint,
        "AWS_ACCESS_KEY_ID": moto_s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": moto_s3.secret_access_key,
        "AWS_REGION": "us-east-1",
        "HASH_KEY": "a key for this test alone",
    }.items():
        monkeypatch.setenv(name, value)
    return made


def test_every_recipe_is_tested_and_listed() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [page for page in RECIPES if f'recipe("{Path(page).stem}")' not in text] == []
    assert pages.linked_pages("docs/recipes/index.md") >= {*RECIPES}


def test_incremental_sql_lands_only_new_rows(kitchen: Kitchen) -> None:
    kitchen.shop((1, "2026-01-05 09:00", 5.0), (2, "2026-01-05 10:00", 7.0))
    defs = kitchen.recipe("incremental-sql")["defs"]
    for expected in ([1, 2], [1, 2]):
        assert kitchen.materialize(defs)
        assert kitchen.landed("orders", "id") == expected
    kitchen.shop((3, "2026-01-06 09:00", 9.0))
    assert kitchen.materialize(defs)
    assert kitchen.landed("orders", "id") == [1, 2, 3]


# ---------------------------------------------------------------------- REST

CONTACTS = [{"id": number, "changed_at": f"2026-01-0{number}T08:00:00Z"} for number in (1, 2, 3)]


class Crm(BaseHTTPRequestHandler):
    """Gives a contact per page that changed after the asked moment. A page can be broken once."""

    contacts: list[dict[str, Any]]
    broken: list[int]
    asked: list[str | None]

    def do_GET(self) -> None:
        given = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        after, page = given.get("changed_after", ""), int(given.get("page", "0"))
        if page == 0:
            self.asked.append(after or None)
        found = [each for each in self.contacts if each["changed_at"] > after]
        self.send_response(500 if page in self.broken else 200)
        self.broken.clear()
        if page + 1 < len(found):
            host, port = self.server.server_address[:2]
            link = f"http://{host}:{port}/contacts?changed_after={after}&page={page + 1}"
            self.send_header("Link", f'<{link}>; rel="next"')
        self.end_headers()
        self.wfile.write(json.dumps(found[page : page + 1]).encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Crm]]:
    kind = type("RunningCrm", (Crm,), {"contacts": CONTACTS[:2], "broken": [], "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        monkeypatch.setenv("API_URL", "http://{}:{}".format(*server.server_address[:2]))
        yield kind
        server.shutdown()


def test_a_rest_api_is_continued_from_what_has_landed(kitchen: Kitchen, crm: type[Crm]) -> None:
    defs = kitchen.recipe("rest-cursor")["defs"]
    assert kitchen.materialize(defs)
    crm.contacts, crm.broken = CONTACTS, [0]
    for _ in range(2):
        assert kitchen.materialize(defs)
    assert kitchen.landed("crm.contacts", "id") == [1, 2, 3]
    _, second, third = (each["changed_at"] for each in CONTACTS)
    assert crm.asked == [None, second, second, third]


# ---------------------------------------------------------------------- partitions


def test_a_file_that_arrives_is_landed_and_a_changed_one_replaces_it(kitchen: Kitchen) -> None:
    defs = kitchen.recipe("files-by-sensor")["defs"]
    (sensor,) = defs.sensors
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    path, cursor = kitchen.folder / "inbox" / "2026-01-05" / "visits.csv", None
    path.parent.mkdir(parents=True)
    for age, rows, expected in ((60, "/,3\n", ["/"]), (30, "/,3\n/about,5\n", ["/", "/about"])):
        path.write_text(f"page,seconds\n{rows}")
        os.utime(path, times=(time.time() - age,) * 2)
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance, cursor, repository_def=defs.get_repository_def())
            tick = sensor.evaluate_tick(context)
        cursor, (request,) = tick.cursor, tick.run_requests
        assert kitchen.materialize(defs, request.partition_key)
        assert kitchen.landed("visits", "page") == expected


def test_a_range_of_days_is_landed_by_one_run(kitchen: Kitchen) -> None:
    kitchen.shop(*((number, f"2025-03-0{number} 12:00", 1.0) for number in (1, 2, 4)), (9, "2025-03-09 12:00", 1.0))
    defs = kitchen.recipe("backfill-a-year")["defs"]
    tags = {"dagster/asset_partition_range_start": "2025-03-01", "dagster/asset_partition_range_end": "2025-03-04"}
    for _ in range(2):
        assert kitchen.materialize(defs, **tags)
        assert kitchen.landed("shop.orders", "id") == [1, 2, 4]
    assert len(data_keys(kitchen.server, kitchen.bucket)) == 3


def test_a_late_order_appears_once_in_its_own_day(kitchen: Kitchen) -> None:
    variables = kitchen.recipe("late-data")
    repository, at = variables["defs"].get_repository_def(), datetime(2026, 1, 8, 2)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository)
        days = [request.partition_key for request in variables["nightly"].evaluate_tick(context).run_requests]
    assert days == ["2026-01-05", "2026-01-06", "2026-01-07"]
    kitchen.shop((1, "2026-01-05 12:00", 5.0))
    assert kitchen.materialize(variables["defs"], "2026-01-05")
    kitchen.shop((2, "2026-01-05 23:00", 7.0))
    for day in days:
        assert kitchen.materialize(variables["defs"], day)
    found = read(f"s3://{kitchen.bucket}/lake", "shop.orders", partitions=["2026-01-05"]).arrow()
    assert sorted(found["id"].to_pylist()) == [1, 2]
    assert kitchen.landed("shop.orders", "id") == [1, 2]


# ---------------------------------------------------------------------- private data


def test_private_values_are_nowhere_in_the_bucket(kitchen: Kitchen) -> None:
    assert kitchen.materialize(kitchen.recipe("private-fields")["defs"])
    (record,) = read(f"s3://{kitchen.bucket}/lake", "shop.customers").arrow().to_pylist()
    record = {name: value for name, value in record.items() if not name.startswith("_airbyte")}
    assert record.keys() == {"id", "email", "payment"}
    assert len(record["email"]) == 64
    found = kitchen.content()
    assert not [value for value in (b"Lovelace", b"ada@example.com", b"London", b"4111111111111111") if value in found]


def test_a_person_and_a_day_are_deleted_for_good(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    defs = kitchen.recipe("delete-for-good")["defs"]
    days = ("2026-01-05", "2026-01-06")
    assert all(kitchen.materialize(defs, day) for day in days)
    assert kitchen.landed("shop.visits", "who") == ["ada", "grace", "grace"]
    first = data_keys(kitchen.server, kitchen.bucket)
    monkeypatch.setenv("FORGOTTEN", "ada")
    assert kitchen.materialize(defs, days[0])
    assert kitchen.landed("shop.visits", "who") == ["grace", "grace"]
    assert len(data_keys(kitchen.server, kitchen.bucket)) == 2
    assert len({*first} & {*data_keys(kitchen.server, kitchen.bucket)}) == 1

    page = "docs/recipes/delete-for-good.md"
    (config,) = pages.blocks(page, "json")
    place = {"s3_bucket_name": kitchen.bucket, "s3_bucket_region": "us-east-1", "s3_endpoint": kitchen.server.endpoint}
    (kitchen.folder / "config.json").write_text(json.dumps({**json.loads(config.text), **place}))
    (commands,) = pages.blocks(page, "sh")
    for command in commands.text.splitlines():
        assert run(shlex.split(command)[1:]) == 0, command
    (left,) = data_keys(kitchen.server, kitchen.bucket)
    assert "2026-01-06" in left
