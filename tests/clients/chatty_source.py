"""A source that logs much: `chatty_source.py LINES (spec | check | discover | read) [--config F] [--catalog F] …`.

Before the last record and the state of each stream, it writes that many LOG messages.
"""

from __future__ import annotations

import json
import sys
from typing import Any

RECORDS = 20
STREAMS = ("users", "products")
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "updated": {"type": "integer"}}}


def main() -> None:
    lines, verb = int(sys.argv[1]), sys.argv[2]
    if verb == "spec":
        say("SPEC", "spec", {"connectionSpecification": {"type": "object", "properties": {}}})
    elif verb == "check":
        say("CONNECTION_STATUS", "connectionStatus", {"status": "SUCCEEDED"})
    elif verb == "discover":
        say("CATALOG", "catalog", {"streams": [described(name) for name in STREAMS]})
    else:
        for name in STREAMS:
            read(name, lines)


def described(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "json_schema": SCHEMA,
        "supported_sync_modes": ["full_refresh", "incremental"],
        "source_defined_cursor": True,
        "default_cursor_field": ["updated"],
        "source_defined_primary_key": [["id"]],
    }


def read(name: str, lines: int) -> None:
    for number in range(RECORDS):
        if number == RECORDS - 1:
            for line in range(lines):
                say("LOG", "log", {"level": "INFO", "message": f"line {line} of {name} {'x' * 100}"})
        data = {"id": number, "updated": number}
        say("RECORD", "record", {"stream": name, "data": data, "emitted_at": 1_700_000_000_000 + number})
    state = {"stream_descriptor": {"name": name}, "stream_state": {"updated": RECORDS}}
    say("STATE", "state", {"type": "STREAM", "stream": state})


def say(type_: str, member: str, content: dict[str, Any]) -> None:
    print(json.dumps({"type": type_, member: content}))


if __name__ == "__main__":
    main()
