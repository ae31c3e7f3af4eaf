"""The destination as its clients run it: in its own process, on a fresh bucket of a real server."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest
from cli.conftest import SCHEMAS, Answer, Lake, WarmStart
from servers import S3Server

PLAIN = {"compression": {"compression_type": "No Compression"}}
FORMATS: dict[str, dict[str, Any]] = {
    "JSONL": {"format_type": "JSONL", **PLAIN},
    "CSV": {"format_type": "CSV", "flattening": "Root level flattening", **PLAIN},
    "Avro": {"format_type": "Avro", "compression_codec": {"codec": "no compression"}},
    "Parquet": {"format_type": "Parquet"},
}


VERSIONS: dict[str, dict[str, Any]] = {"0.6": {}, "1": {"envelope": "airbyte_1", "parity": "1"}}
"""The settings that give the columns and types of a version of the connector."""


@dataclass(frozen=True)
class Result:
    """What the destination answered."""

    code: int
    messages: list[dict[str, Any]]
    stderr: str

    @property
    def states(self) -> list[dict[str, Any]]:
        """The states, in their order."""
        return [each["state"] for each in self.messages if each["type"] == "STATE"]

    @property
    def logs(self) -> list[str]:
        """The texts of the LOG messages."""
        return [each["log"]["message"] for each in self.messages if each["type"] == "LOG"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The errors of the TRACE messages."""
        traces = [each["trace"] for each in self.messages if each["type"] == "TRACE"]
        return [each["error"] for each in traces if each["type"] == "ERROR"]

    @property
    def statuses(self) -> dict[str, str]:
        """The statuses with which the streams ended."""
        traces = [each["trace"] for each in self.messages if each["type"] == "TRACE"]
        found = [each["stream_status"] for each in traces if each["type"] == "STREAM_STATUS"]
        return {each["stream_descriptor"]["name"]: each["status"] for each in found}


def configured(name: str, mode: str = "append", **more: Any) -> dict[str, Any]:
    """A stream of a configured catalog, with further members of its entry, such as `generation_id`."""
    schema = SCHEMAS.get(name, SCHEMAS["users"])
    stream = {"name": name, "namespace": "public", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}
    return {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": mode, **more}


class Connector(Lake):
    """A fresh bucket, and the destination."""

    def call(self, *arguments: str, stdin: str = "", **environment: str) -> Result:
        """Calls the destination. Every line on its standard output must be a message."""
        return result_of(self.run(*arguments, stdin=stdin, **environment))

    def sync(self, messages: str, *streams: dict[str, Any] | str, **settings: Any) -> Result:
        """Writes these messages. A name stands for a stream that is appended to."""
        entries = [configured(each) if isinstance(each, str) else each for each in streams or ("users",)]
        catalog = self.file("catalog.json", {"streams": entries})
        return self.call("write", "--config", self.config(**settings), "--catalog", catalog, stdin=messages)


def result_of(answer: Answer) -> Result:
    return Result(answer.returncode, [json.loads(line) for line in answer.stdout.splitlines()], answer.stderr)


def rows_of(kind: str, body: bytes) -> int:
    """The records of an object, read without the library."""
    if kind == "JSONL":
        return sum(isinstance(json.loads(line), dict) for line in body.splitlines())
    if kind == "CSV":
        return len(list(csv.DictReader(io.StringIO(body.decode(), newline=""))))
    if kind == "Avro":
        return len(list(fastavro.reader(io.BytesIO(body))))
    return pq.read_metadata(io.BytesIO(body)).num_rows


def without_count(state: dict[str, Any]) -> dict[str, Any]:
    """A state as the source sent it."""
    return {name: value for name, value in state.items() if name != "destinationStats"}


@pytest.fixture(scope="session")
def warm_destination() -> Iterator[WarmStart]:
    started = WarmStart("s3dest_dagster.airbyte.entry")
    yield started
    started.close()


@pytest.fixture(scope="session")
def warm_command() -> Iterator[WarmStart]:
    started = WarmStart()
    yield started
    started.close()


@pytest.fixture
def s3dest(connector: Connector, warm_command: WarmStart) -> Lake:
    """The command for people, on the destination's bucket."""
    lake = Lake(connector.server, warm_command, connector.folder)
    lake.bucket = connector.bucket
    return lake


@pytest.fixture
def connector(moto_s3: S3Server, warm_destination: WarmStart, tmp_path: Path) -> Connector:
    return Connector(moto_s3, warm_destination, tmp_path)
