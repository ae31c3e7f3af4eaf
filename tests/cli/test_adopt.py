"""`s3dest adopt`: what it shows, does and undoes."""

from __future__ import annotations

import json

from airbyte_messages import record
from connector_files import connector_file

CONNECTORS = {"format_type": "JSONL", "flattening": "No flattening"}
KEYS = [
    "data_output_path/public/users/2026_01_04_1767484800000_0.jsonl.gz",
    "data_output_path/public/users/2026_01_06_1767657600000_0.jsonl.gz-1",
]
FOREIGN = "data_output_path/public/users/price-list.pdf"


def filled(lake) -> tuple[str, str]:
    """A bucket that connectors have filled. Returns the paths of the configuration and of a catalog."""
    bodies = [
        connector_file("jsonl", "0.6", [{"id": 1}]),
        connector_file("jsonl", "1", [{"id": 2}, {"id": 3}]),
        b"%PDF",
    ]
    for key, body in zip([*KEYS, FOREIGN], bodies, strict=True):
        lake.server.client().put_object(Bucket=lake.bucket, Key=key, Body=body)
    return lake.config(format=CONNECTORS), lake.catalog("users")


def test_adopt_shows_what_it_would_do(lake):
    config, catalog = filled(lake)
    answer = lake.run("adopt", "--config", config, "--catalog", catalog)
    lines = answer.stdout.splitlines()
    assert answer.returncode == 0, answer.stderr
    assert lines[0].startswith("public.users: 2 objects would be adopted, 2 not counted, ")
    assert lines[0].endswith(", 1 foreign")
    assert [line.split() for line in lines[1:]] == [
        *(["recognised", f"s3://{lake.bucket}/{key}"] for key in KEYS),
        ["foreign", f"s3://{lake.bucket}/{FOREIGN}"],
    ]
    assert answer.stderr == "Nothing was changed. Add --yes to do it.\n"
    assert sorted(lake.all_keys()) == sorted([*KEYS, FOREIGN])


def test_adopted_objects_are_listed_verified_and_replaced(lake):
    config, catalog = filled(lake)
    adopted = lake.run("adopt", "--config", config, "--catalog", catalog, "--yes")
    assert "public.users: 2 objects adopted" in adopted.stdout
    listed = lake.run("ls", "--config", config)
    listed_uris = [line.split()[-1] for line in listed.stdout.splitlines()[1:]]
    assert listed_uris == [f"s3://{lake.bucket}/{key}" for key in KEYS]
    assert all("not counted" in line for line in listed.stdout.splitlines()[1:])
    verified = lake.run("verify", "--config", config)
    assert verified.stdout == "✓ public.users: 2 objects, 0 rows, the rows of 2 objects not counted\n"
    refreshed = lake.write(record("users", id=9), "--config", config)
    assert refreshed.returncode == 0, refreshed.stderr
    assert not set(KEYS) & set(lake.data_keys())
    assert FOREIGN in lake.data_keys()


def test_a_deep_adoption_counts_rows(lake):
    config, catalog = filled(lake)
    answer = lake.run("adopt", "--config", config, "--catalog", catalog, "--deep", "--yes", "--json")
    (stream,) = json.loads(answer.stdout)
    assert [(each["key"], each["rows"], each["envelope"]) for each in stream["recognised"]] == [
        (KEYS[0], 1, "airbyte_0"),
        (KEYS[1], 2, "airbyte_1"),
    ]
    assert (stream["ambiguous"], stream["foreign"], stream["done"]) == ([], [FOREIGN], True)
    assert "2 objects, 3 rows\n" in lake.run("verify", "--config", config, "--deep").stdout


def test_one_layout_can_be_chosen(lake):
    config, catalog = filled(lake)
    answer = lake.run("adopt", "--config", config, "--catalog", catalog, "--layout", "1")
    assert f"  ambiguous   s3://{lake.bucket}/{KEYS[0]}: it has the columns of the other layout\n" in answer.stdout


def test_undo_forgets_and_deletes_nothing(lake):
    config, catalog = filled(lake)
    arguments = ("adopt", "--config", config, "--catalog", catalog)
    lake.run(*arguments, "--yes")
    assert lake.run(*arguments, "--undo").stdout == "public.users: 2 adopted objects would be forgotten\n"
    assert lake.run(*arguments, "--undo", "--yes").stdout == "public.users: 2 adopted objects forgotten\n"
    assert lake.run(*arguments, "--undo", "--yes").stdout == "public.users: nothing to forget\n"
    assert {*KEYS, FOREIGN} <= set(lake.data_keys())
    assert lake.run("ls", "--config", config).stdout == ""


def test_verify_counts_near_misses_as_unrecognised(lake):
    config, _ = filled(lake)
    assert lake.write(record("users", id=9), "--config", config, mode="append").returncode == 0
    (stream,) = json.loads(lake.run("verify", "--config", config, "--json").stdout)
    assert (stream["foreign"], stream["unrecognised"]) == (1, 1)
    assert (
        "1 foreign object next to them, 1 unrecognised object next to them"
        in lake.run("verify", "--config", config).stdout
    )
