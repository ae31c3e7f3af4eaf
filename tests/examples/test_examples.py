"""The examples run unchanged, with their environment variables, and independent readers read what they land."""

from __future__ import annotations

import gzip
import io
import json
import runpy
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest
from servers import S3Server

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def bucket(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh bucket, named in the environment, where everything else that reaches it stands too."""
    name = moto_s3.new_bucket()
    monkeypatch.setenv("S3_BUCKET", name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_s3.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_s3.secret_access_key)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return name


def materialize(example: str, asset: str, partition: str | None = None) -> bool:
    """Whether the asset of the example could be materialized, in a separate run."""
    defs = runpy.run_path(str(EXAMPLES / example / "definitions.py"))["defs"]
    dg.Definitions.validate_loadable(defs)
    job = defs.resolve_implicit_global_asset_job_def()
    selection = [dg.AssetKey.from_user_string(asset)]
    return job.execute_in_process(asset_selection=selection, partition_key=partition, raise_on_error=False).success


def objects(server: S3Server, bucket: str, prefix: str) -> dict[str, bytes]:
    client = server.client()
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed}


def json_lines(found: dict[str, bytes]) -> list[Any]:
    """The records of all objects, in the order of the keys."""
    return [
        json.loads(line)["_airbyte_data"]
        for key in sorted(found)
        for line in gzip.decompress(found[key]).decode().splitlines()
    ]


def test_ten_lines_make_a_project(moto_s3, bucket):
    text = (EXAMPLES / "ten_lines" / "definitions.py").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 10
    assert materialize("ten_lines", "planets")
    assert json_lines(objects(moto_s3, bucket, "lake/planets/")) == [
        {"name": "Earth", "moons": 1},
        {"name": "Mars", "moons": 2},
    ]


# ---------------------------------------------------------------------- SQL


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The database that the example's README creates."""
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute((EXAMPLES / "sql" / "shop.sql").read_text())
    monkeypatch.setenv("SHOP_DATABASE", str(path))
    return path


def rows(found: dict[str, bytes], *columns: str) -> list[tuple[Any, ...]]:
    tables = [pq.read_table(io.BytesIO(content), columns=list(columns)) for content in found.values()]
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def queried(database: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_a_table_is_landed_unchanged(moto_s3, bucket, database):
    assert materialize("sql", "shop/customers")
    landed = rows(objects(moto_s3, bucket, "lake/shop/customers/"), "id", "name", "since")
    assert landed == queried(database, "select id, name, since from customers")
    assert len(landed) == 3


def test_a_day_of_a_table_is_landed_and_replaced(moto_s3, bucket, database):
    query = "select id, total::double from orders where placed_at::date = '2026-01-02'"
    for added in (0, 1):
        if added:
            with duckdb.connect(str(database)) as connection:
                connection.execute("insert into orders values (9, 1, '2026-01-02 23:59:59', 7.25)")
        assert materialize("sql", "shop/orders", "2026-01-02")
        landed = rows(objects(moto_s3, bucket, "lake/shop/orders/"), "id", "total")
        assert [(number, float(total)) for number, total in landed] == queried(database, query)
        assert len(landed) == 2 + added


# ---------------------------------------------------------------------- REST

CONTACTS = [
    {"id": number, "email": None if number == 3 else f"{number}@example.com", "changed_at": f"2026-01-0{day}T08:00:00Z"}
    for number, day in enumerate((1, 2, 2, 2, 3), start=1)
]


class Crm(BaseHTTPRequestHandler):
    """Gives contacts in pages of two, to whoever has the token. At some pages it answers first what `faults` says."""

    faults: dict[int, list[int]]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        page = int(asked.get("page", "0"))
        if self.headers["Authorization"] != "Bearer s3cret":
            return self.answer(401, [])
        if self.faults.get(page):
            return self.answer(self.faults[page].pop(0), [])
        found = [each for each in CONTACTS if between(asked["changed_from"], each, asked["changed_before"])]
        return self.answer(200, found[page * 2 : page * 2 + 2], self.link(address.query, page, len(found)))

    def link(self, query: str, page: int, count: int) -> str:
        if (page + 1) * 2 >= count:
            return ""
        host, port = self.server.server_address[:2]
        kept = "&".join(each for each in query.split("&") if not each.startswith("page="))
        return f'<http://{host}:{port}/contacts?{kept}&page={page + 1}>; rel="next"'

    def answer(self, status: int, records: list[Any], link: str = "") -> None:
        self.send_response(status)
        if link:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(json.dumps(records).encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def between(start: str, contact: dict[str, Any], end: str) -> bool:
    return datetime.fromisoformat(start) <= datetime.fromisoformat(contact["changed_at"]) < datetime.fromisoformat(end)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, list[int]]]:
    """A running API that is named in the environment, and the answers that it gives first, by page."""
    faults: dict[int, list[int]] = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Faulty", (Crm,), {"faults": faults})) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        monkeypatch.setenv("API_URL", "http://{}:{}".format(*server.server_address[:2]))
        monkeypatch.setenv("API_TOKEN", "s3cret")
        yield faults
        server.shutdown()


def test_all_pages_of_a_day_are_landed_although_one_fails_at_first(moto_s3, bucket, faults):
    faults[1] = [503]
    assert materialize("rest", "crm/contacts", "2026-01-02")
    found = objects(moto_s3, bucket, "lake/crm/contacts/")
    assert json_lines(found) == [each for each in CONTACTS if each["changed_at"].startswith("2026-01-02")]
    assert faults == {1: []}


def test_a_page_that_is_refused_leaves_nothing_in_the_bucket(moto_s3, bucket, faults):
    faults[1] = [403]
    assert not materialize("rest", "crm/contacts", "2026-01-02")
    assert objects(moto_s3, bucket, "lake/crm/") == {}
