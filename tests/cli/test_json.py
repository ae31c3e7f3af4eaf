"""The answer to `--json` is one document with the documented structure."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airbyte_messages import record, state
from connector_files import connector_file, user

PAGE = (Path(__file__).resolve().parents[2] / "docs/command.md").read_text()
ROWS = re.findall(r"^\| (`[^|]*`) \| (an? (?:object|list)[^|]*) \|$", PAGE, re.MULTILINE)
ANSWERS = {verb: set(re.findall(r"`(\w+)`", text)) for verbs, text in ROWS for verb in re.findall(r"`([^`]+)`", verbs)}
FOREIGN = {"renamed", "before", "state", "sample"}
"""Members whose names come from the user, or from the source."""


def names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from names(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            if name not in FOREIGN:
                yield from names(each)


def changed_catalog(lake) -> str:
    """The path of a catalog in which one stream has another property than before, and one has landed elsewhere."""
    lake.write(record("orders", id=1), "--config", lake.config(s3_bucket_path="beside"), streams=("orders",))
    catalog = json.loads(Path(lake.catalog("users", "orders")).read_text())
    catalog["streams"][0]["stream"]["json_schema"]["properties"]["later"] = {"type": "string"}
    return lake.file("changed.json", catalog)


def catalog_of_a_filled_bucket(lake) -> str:
    """The path of the catalog of a bucket in which the connector has left an object that can be adopted, and one that
    cannot."""
    for number, body in enumerate([connector_file("avro", "1", [user(1)]), b"no Avro"]):
        key = f"data_output_path/public/users/2026_01_04_1767484800000_{number}.avro"
        lake.server.client().put_object(Bucket=lake.bucket, Key=key, Body=body)
    return lake.catalog("users")


@pytest.mark.parametrize("verb", ANSWERS)
def test_an_answer_has_only_the_documented_names(lake, verb):
    lake.write(record("users", id=1) + state("users", 1))
    options = {
        "plan": ["--catalog", changed_catalog(lake) if verb == "plan" else ""],
        "state set": ["--state", lake.file("state.jsonl", state("users", 2))],
        "state reset": ["--all"],
        "transfer --to": ["shop/users", "public.users"],
        "transfer --to-stream": ["public.people", "public.users"],
        "retire": ["public.users"],
        "show": ["public.users"],
        "adopt": ["--catalog", catalog_of_a_filled_bucket(lake) if verb == "adopt" else ""],
        "adopt --undo": ["--catalog", lake.catalog("users")],
    }
    config = lake.config(format={"format_type": "Avro"})
    if verb == "verify":
        lake.server.client().delete_object(Bucket=lake.bucket, Key=lake.data_keys()[0])
    answer = lake.run(*verb.split(), *options.get(verb, []), "--config", config, "--json")
    assert set(names(json.loads(answer.stdout))) == ANSWERS[verb], answer.stderr
