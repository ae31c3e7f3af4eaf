"""The sensors on the page about alerts: what they send when a run fails, and what they export when it succeeds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import pytest

from docs import pages
from s3dest_dagster import build_landing_checks, stream_asset
from s3dest_dagster.batch import BadRecord, JsonBatch
from s3dest_dagster.errors import SourceError


class Received(NamedTuple):
    path: str
    body: bytes


class Receiver(ThreadingHTTPServer):
    """A server that keeps what is sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(Received(self.path, body))
        self.send_response(200)
        self.end_headers()

    do_POST = do_PUT

    def log_message(self, *_: Any) -> None:
        """Nothing: the test reads what was received."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as own:
        yield own


def block(name: str) -> dict[str, Any]:
    """What the code of this name on the page defines."""
    (code,) = [each for each in pages.blocks("docs/alerts.md", "python") if each.name == name]
    names: dict[str, Any] = {"__name__": name}
    exec(compile(code.text, name, "exec"), names)
    return names


def failure_context(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> dg.RunFailureSensorContext:
    (event,) = [each for each in result.all_events if each.event_type == dg.DagsterEventType.RUN_FAILURE]
    return dg.build_run_status_sensor_context(
        "alert", event, instance, result.dagster_run, context=None
    ).for_run_failure()


@stream_asset(namespace="shop")
def broken():
    raise SourceError("The server of orders does not answer.", stream="shop.broken")


@stream_asset(namespace="shop")
def half_broken():
    yield BadRecord(None, b"no record", "it is no JSON", 1)
    yield JsonBatch([b'{"id":1}'], np.zeros(1, np.int64), 8)


def test_the_error_of_a_failed_run_is_sent_with_what_to_do(lake, instance, receiver, monkeypatch):
    monkeypatch.setenv("CHAT_WEBHOOK", f"http://{receiver.address}/chat")
    result = lake.materialize(broken, instance=instance, raise_on_error=False)
    block("alerts.py")["alert"](failure_context(result, instance))
    (sent,) = receiver.received
    assert json.loads(sent.body)["text"].startswith("shop.broken: The server of orders does not answer.")


def test_a_blocking_check_that_fails_is_sent_too(lake, instance, receiver, monkeypatch):
    monkeypatch.setenv("CHAT_WEBHOOK", f"http://{receiver.address}/chat")
    checks = build_landing_checks(
        [half_broken], max_quarantine_ratio=0.01, severity=dg.AssetCheckSeverity.ERROR, blocking=True
    )
    io = lake.io(on_bad_record="quarantine")
    result = lake.materialize(half_broken, *checks, io=io, instance=instance, raise_on_error=False)
    assert not result.success
    block("alerts.py")["alert"](failure_context(result, instance))
    assert any("few_lines_quarantined" in json.loads(each.body)["text"] for each in receiver.received)


def test_the_numbers_of_a_materialization_are_pushed(lake, instance, receiver):
    names = block("prometheus.py")
    names["GATEWAY"] = receiver.address
    users = stream_asset(name="users", namespace="shop")(lambda: [{"id": 1}, {"id": 2}])
    for _ in range(2):
        result = lake.materialize(users, instance=instance, selection=[users])
        (event,) = [each for each in result.all_events if each.event_type == dg.DagsterEventType.RUN_SUCCESS]
        run = instance.get_run_by_id(result.run_id)
        names["export"](dg.build_run_status_sensor_context("export", event, instance, run, context=None))
    assert [each.path for each in receiver.received] == ["/metrics/job/s3dest/asset@base64/c2hvcC91c2Vycw=="] * 2
    assert b"s3dest_rows 2.0" in receiver.received[-1].body
    assert b"s3dest_quarantined 0.0" in receiver.received[-1].body
