"""A source changes its configuration through the command: the change is stored in its file, or reported as not
stored."""

from __future__ import annotations

import json
from pathlib import Path

from airbyte_messages import log, record
from scripted_source import ScriptedSource

OLD, NEW = {"token": "old-hush-token"}, {"token": "new-hush-token"}


def control(config) -> str:
    message = {"type": "CONNECTOR_CONFIG", "emitted_at": 0, "connectorConfig": {"config": config}}
    return json.dumps({"type": "CONTROL", "control": message}) + "\n"


def test_write_stores_the_change_in_the_named_file(lake):
    file = lake.file("source.json", OLD)
    messages = control(NEW) + log("using new-hush-token") + record("users", id=1)
    answer = lake.write(messages, "--source-config", file, "--config", lake.config())
    assert (answer.returncode, lake.ids()) == (0, [1]), answer.stderr
    assert json.loads(Path(file).read_text()) == NEW
    assert "changed its configuration (token); the change is kept" in answer.stderr
    assert "using ****" in answer.stderr
    assert "hush" not in answer.stdout + answer.stderr


def test_write_reports_that_the_change_is_not_stored_and_how_to_store_it(lake):
    error = json.dumps({"type": "TRACE", "trace": {"type": "ERROR", "error": {"message": "denied: new-hush-token"}}})
    answer = lake.write(control(NEW) + record("users", id=1) + error + "\n")
    assert answer.returncode == 1
    assert "WARN: The source has changed its configuration (token), and nothing keeps that" in answer.stderr
    assert "--source-config" in answer.stderr
    assert "denied: ****" in answer.stderr
    assert "hush" not in answer.stdout + answer.stderr


def test_write_requires_a_readable_file(lake):
    answer = lake.write(record("users", id=1), "--source-config", "missing.json", "--config", lake.config())
    assert (answer.returncode, lake.all_keys()) == (2, [])
    assert "missing.json" in answer.stderr


def test_discover_stores_the_change_in_the_file_of_the_source(lake, tmp_path):
    scripted = ScriptedSource(tmp_path).stream("users")
    scripted.on("discover").control(NEW).message({"type": "CATALOG", "catalog": scripted.catalog})
    source = lake.file("source", f'#!/bin/sh\nexec {" ".join(scripted.source().command)} "$@"\n')
    Path(source).chmod(0o755)
    file = lake.file("source.json", OLD)
    answer = lake.run("discover", "--source", source, "--config", file)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(Path(file).read_text()) == NEW
    assert json.loads(answer.stdout)["streams"][0]["name"] == "users"
