"""Runs PyAirbyte in its own process and environment: `conversation.py REQUEST.json`, whose answer is JSON on the last
line of standard output.

A request has the `destination` (its executable and config), the `source` (its executable and config), and `calls`: the
keyword arguments of `write`, one mapping for each. The state cache is shared by all calls, in the request's folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import airbyte as ab


def main() -> None:
    path = Path(sys.argv[1])
    request = json.loads(path.read_text())
    destination = ab.get_destination(
        "destination-s3dest",
        config=request["destination"]["config"],
        local_executable=request["destination"]["executable"],
    )
    destination.check()
    source = ab.get_source(
        "source-faker",
        config=request["source"]["config"],
        local_executable=request["source"]["executable"],
        streams=["users", "products"],
    )
    cache = ab.new_local_cache("clients", cache_dir=path.parent / "cache")
    written = [write(destination, source, cache, call) for call in request["calls"]]
    title = destination.config_spec["title"]
    print(json.dumps({"version": ab.version.get_version(), "title": title, "written": written}))


def write(destination: ab.Destination, source: ab.Source, cache: Any, call: dict[str, Any]) -> int:
    """Writes once. Returns the number of records that the destination has confirmed."""
    cached = call.pop("cached")
    result = destination.write(source, cache=cache if cached else False, state_cache=cache, **call)
    return result.processed_records


if __name__ == "__main__":
    main()
