"""Airbyte messages as a source writes them. Those of `…_line` lack the line break; the others are whole lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

EMITTED_AT = 1_609_459_200_000
"""Of `record`."""
RECORD_EMITTED_AT = 1_700_000_000_000
"""Of `record_line`."""


def message_line(type_: str, member: str, content: Mapping[str, Any]) -> str:
    """Any message, by its type and the member that holds its content."""
    return json.dumps({"type": type_, member: content}, ensure_ascii=False)


def record_line(stream: str, data: Any, *, namespace: str | None = None, emitted_at: int = RECORD_EMITTED_AT) -> str:
    """A RECORD message. Without a namespace it has no such member."""
    name = {"stream": stream} | ({} if namespace is None else {"namespace": namespace})
    return message_line("RECORD", "record", name | {"data": data, "emitted_at": emitted_at})


def state_line(stream: str, value: Mapping[str, Any], *, namespace: str | None = None) -> str:
    """A per-stream STATE message."""
    state = {"stream_descriptor": descriptor(stream, namespace), "stream_state": value}
    return message_line("STATE", "state", {"type": "STREAM", "stream": state})


def descriptor(stream: str, namespace: str | None) -> dict[str, str]:
    """A stream descriptor. Without a namespace it has no such member."""
    return {"name": stream} | ({} if namespace is None else {"namespace": namespace})


def record(stream: str, namespace: str | None = "public", **data: Any) -> str:
    """A RECORD message, one line."""
    content = {"stream": stream, "namespace": namespace, "emitted_at": EMITTED_AT, "data": data}
    return json.dumps({"type": "RECORD", "record": content}) + "\n"


def state(stream: str, value: int, namespace: str | None = "public") -> str:
    """A per-stream STATE message, one line."""
    name = {"name": stream, "namespace": namespace}
    content = {"type": "STREAM", "stream": {"stream_descriptor": name, "stream_state": {"cursor": value}}}
    return json.dumps({"type": "STATE", "state": content}) + "\n"


def status(stream: str, word: str, namespace: str | None = "public") -> str:
    """A stream status message, one line."""
    content = {"stream_descriptor": {"name": stream, "namespace": namespace}, "status": word}
    trace = {"type": "STREAM_STATUS", "emitted_at": 0, "stream_status": content}
    return json.dumps({"type": "TRACE", "trace": trace}) + "\n"


def log(message: str) -> str:
    """A LOG message, one line."""
    return json.dumps({"type": "LOG", "log": {"level": "INFO", "message": message}}) + "\n"
