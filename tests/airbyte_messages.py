"""Airbyte messages as a source writes them, one line each."""

from __future__ import annotations

import json
from typing import Any

EMITTED_AT = 1_609_459_200_000


def record(stream: str, namespace: str | None = "public", **data: Any) -> str:
    """A RECORD message, one line."""
    inner = {"stream": stream, "namespace": namespace, "emitted_at": EMITTED_AT, "data": data}
    return json.dumps({"type": "RECORD", "record": inner}) + "\n"


def state(stream: str, value: int, namespace: str | None = "public") -> str:
    """A per-stream STATE message, one line."""
    descriptor = {"name": stream, "namespace": namespace}
    inner = {"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": {"cursor": value}}}
    return json.dumps({"type": "STATE", "state": inner}) + "\n"


def status(stream: str, word: str, namespace: str | None = "public") -> str:
    """A stream status message, one line."""
    inner = {"stream_descriptor": {"name": stream, "namespace": namespace}, "status": word}
    trace = {"type": "STREAM_STATUS", "emitted_at": 0, "stream_status": inner}
    return json.dumps({"type": "TRACE", "trace": trace}) + "\n"


def log(message: str) -> str:
    """A LOG message, one line."""
    return json.dumps({"type": "LOG", "log": {"level": "INFO", "message": message}}) + "\n"
