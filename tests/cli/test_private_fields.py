"""The command keeps private fields in, with the settings of streams in a config.json and with two catalogs."""

from __future__ import annotations

import json

from airbyte_messages import record

from s3dest_dagster.columns.hidden_values import Hasher

KEY = "hush key of the hashes"
SCHEMA = {"properties": {"id": {"type": "integer"}, "mail": {"type": "string"}, "phone": {"type": "string"}}}
FIELDS = {"exclude": ["phone"], "hash": ["mail"]}


def config(lake, **streams):
    own = {"max_attempts": 1, "encode_workers": 1, "hash_key": KEY, "streams": streams}
    return lake.config(s3dest=own)


def catalogs(lake, left_out: str = "") -> list[str]:
    stream = {"name": "users", "namespace": "public", "json_schema": SCHEMA}
    properties = {name: each for name, each in SCHEMA["properties"].items() if name != left_out}
    entry = {
        "stream": {**stream, "json_schema": {"properties": properties}},
        "sync_mode": "full_refresh",
        "destination_sync_mode": "append",
    }
    discovered = lake.file("discovered.json", {"streams": [stream]})
    return ["--catalog", lake.file("configured.json", {"streams": [entry]}), "--discovered", discovered]


def landed(lake) -> list[dict]:
    return [json.loads(line)["_airbyte_data"] for key in lake.data_keys() for line in lake.read(key).splitlines()]


def test_write_lands_what_is_left_and_counts_the_rest(lake):
    files = ["--config", config(lake, **{"public.users": {"fields": FIELDS}}), *catalogs(lake)]
    messages = record("users", id=1, mail="hush-mail", phone="hush-phone") + record("users", id=2, phone=None)
    answer = lake.run("write", *files, "--json", stdin=messages)
    assert answer.returncode == 0
    assert landed(lake) == [{"id": 1, "mail": Hasher(KEY).hash(b'"hush-mail"')}, {"id": 2}]
    receipt = json.loads(answer.stderr)
    assert (receipt["excluded"], receipt["hashed"], receipt["masked"]) == ({"phone": 1}, {"mail": 1}, {})
    assert "hush" not in answer.stdout + answer.stderr
    assert "1 value excluded, 1 value hashed" in lake.run("write", *files, stdin=messages).stderr


def test_a_field_that_only_the_discovered_catalog_has_does_not_land(lake):
    files = ["--config", config(lake), *catalogs(lake, left_out="phone")]
    messages = record("users", id=1, phone="hush-phone")
    assert lake.run("write", *files, stdin=messages).returncode == 0
    assert landed(lake) == [{"id": 1}]
    assert "excluded      phone" in lake.run("plan", *files).stdout
    assert lake.run("write", *files[:4], stdin=messages).returncode == 0
    assert {"id": 1, "phone": "hush-phone"} in landed(lake)


def test_plan_names_what_does_not_land_and_what_it_does_not_know(lake):
    streams = {"users": {"fields": {**FIELDS, "mask": ["fone"]}}, "user": {"fields": FIELDS}}
    files = ["--config", config(lake, **streams), *catalogs(lake)]
    shown = lake.run("plan", *files).stdout
    for line in ("excluded      phone", "hashed        mail", "masked        fone", "not declared  fone"):
        assert line in shown
    assert "The catalog has no stream 'user'" in shown
    (planned,) = json.loads(lake.run("plan", *files, "--json").stdout)["streams"]
    assert (planned["excluded"], planned["hashed"], planned["unknown_paths"]) == (["phone"], ["mail"], ["fone"])


def test_check_fails_at_a_stream_that_the_catalog_lacks(lake):
    answer = lake.run("check", "--config", config(lake, user={"fields": FIELDS}), *catalogs(lake))
    assert answer.returncode == 1
    assert "no stream 'user'" in answer.stdout
    assert lake.run("check", "--config", config(lake, users={"fields": FIELDS}), *catalogs(lake)).returncode == 0


def test_write_names_a_stream_that_the_catalog_lacks_and_hides_the_key(lake):
    files = ["--config", config(lake, user={"fields": FIELDS}), *catalogs(lake)]
    answer = lake.run("write", *files, stdin=record("users", id=1))
    assert answer.returncode == 0
    assert "s3dest.streams has no effect here. The catalog has no stream 'user'" in answer.stderr
    wrong = lake.run("write", "--config", config(lake, users={"fields": {"exlude": []}}), *catalogs(lake), stdin="")
    assert wrong.returncode == 2
    assert "Did you mean 'exclude'?" in wrong.stderr
    assert KEY not in wrong.stderr
