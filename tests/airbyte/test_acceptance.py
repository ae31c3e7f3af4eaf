"""Message files and catalogs as platforms try destinations with them land in every format, and their counts add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import FORMATS, VERSIONS, rows_of, without_count

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "acceptance"
SETS = sorted(path.name.removesuffix("_messages.txt") for path in CASES.glob("*_messages.txt"))

pytestmark = pytest.mark.skipif(not SETS, reason=f"there are no message files at {CASES}")


def configured_catalog(name: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The set's catalog, as a configured one. Without one, its streams have no columns."""
    path = CASES / f"{name}_catalog.json"
    names = dict.fromkeys(each["stream"] for each in records)
    declared = [{"name": each, "json_schema": {"type": "object", "properties": {}}} for each in names]
    streams = json.loads(path.read_text())["streams"] if path.exists() else declared
    return [{"stream": each, "sync_mode": "full_refresh", "destination_sync_mode": "append"} for each in streams]


USUAL = [("JSONL", 2), ("CSV", 1), ("Avro", 1), ("Parquet", 1)]


@pytest.mark.parametrize(
    ("name", "kind", "times", "version"),
    [
        *((name, kind, times, "0.6") for name in SETS for kind, times in USUAL),
        *((name, kind, 2, "1") for kind, name in zip(FORMATS, SETS, strict=False)),  # one set in each format
    ],
)
def test_every_set_lands_and_its_states_come_back(connector, name, kind, times, version):
    own = {"max_attempts": 1, "encode_workers": 1, **VERSIONS[version]}
    text = (CASES / f"{name}_messages.txt").read_text()
    messages = [json.loads(line) for line in text.splitlines() if line.strip()]
    records = [each["record"] for each in messages if each["type"] == "RECORD"]
    states = [each["state"] for each in messages if each["type"] == "STATE"]
    for _ in range(times):
        result = connector.sync(text, *configured_catalog(name, records), format=FORMATS[kind], s3dest=own)
        assert result.code == 0, result.errors
        assert [without_count(each) for each in result.states] == states
        covered = sum(each["destinationStats"]["recordCount"] for each in result.states)
        assert covered == (len(records) if states else 0)
    assert sum(rows_of(kind, connector.read(key)) for key in connector.data_keys()) == times * len(records)
