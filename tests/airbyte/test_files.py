"""Files that come beside records are copied into the bucket under the same commit, and are never rows."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from airbyte_messages import EMITTED_AT, record, state, status

from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.stream import Scope, StreamId

from .conftest import FORMATS, configured, rows_of

CONTENT = {"2026/cat.jpg": b"\xff\xd8cat", "notes.txt": b"", "Grüße/große Datei.bin": os.urandom(11 << 20)}


def with_file(path: str, location: Path, size: int | None = None, *, old: bool = False, **data: Any) -> str:
    """A RECORD message with a file."""
    names = ("file_url", "file_relative_path", "bytes") if old else (
        "staging_file_url", "source_file_relative_path", "file_size_bytes"
    )  # fmt: skip
    described = dict(zip(names, (str(location), path, size), strict=True))
    content = {"stream": "users", "namespace": "public", "emitted_at": EMITTED_AT, "data": {"id": 999, **data}}
    return json.dumps({"type": "RECORD", "record": content | {"file" if old else "file_reference": described}}) + "\n"


@pytest.fixture
def staged(tmp_path):
    """The files where the source has put them, by their path at the source."""
    found = {}
    for number, (path, content) in enumerate(CONTENT.items()):
        found[path] = tmp_path / f"staged-{number}"
        found[path].write_bytes(content)
    return found


def copies(connector) -> dict[str, bytes]:
    """The copies in the bucket, by the end of their keys."""
    keys = [key for key in connector.all_keys() if "/files/" in key]
    return {key.partition("/files/")[2].partition("/")[2]: connector.read(key) for key in keys}


def messages(staged: dict[str, Path], **options: Any) -> str:
    files = "".join(with_file(path, at, len(CONTENT[path]), **options) for path, at in staged.items())
    return record("users", id=1) + files + record("users", id=2) + state("users", 5)


@pytest.mark.parametrize("kind", FORMATS)
def test_files_are_copied_and_are_no_rows(connector, s3dest, staged, kind):
    result = connector.sync(messages(staged, old=kind == "CSV"), format=FORMATS[kind])
    assert result.code == 0, result.errors
    assert copies(connector) == CONTENT
    assert sum(rows_of(kind, connector.read(key)) for key in connector.data_keys()) == 2
    assert [each["destinationStats"]["recordCount"] for each in result.states] == [5]
    config = connector.config(format=FORMATS[kind])
    verified = s3dest.run("verify", "--config", config, "--deep")
    assert verified.returncode == 0, verified.stderr
    settings = S3Destination(s3_bucket_name=connector.bucket, s3_bucket_path="data_output_path")
    rows = read_scope(connector.server.open(settings), settings.template, Scope(StreamId("public", "users")))
    assert sorted(rows["id"].to_pylist()) == [1, 2]


def test_the_manifest_names_each_file_with_its_size_and_key(connector, staged):
    connector.sync(messages(staged))
    (segment,) = [json.loads(connector.read(key)) for key in connector.all_keys() if "/segments/" in key]
    files = {each["file"]: each for each in segment["objects"] if each["file"] is not None}
    assert {path: each["bytes"] for path, each in files.items()} == {path: len(CONTENT[path]) for path in CONTENT}
    assert {path: connector.read(each["key"]) for path, each in files.items()} == CONTENT
    assert segment["format_version"] == 4
    assert segment["counts"]["read"] == segment["counts"]["landed"] == 2


def test_ls_lists_the_files_only_if_asked_for(connector, s3dest, staged):
    def listed(*options: str) -> list[dict[str, Any]]:
        answer = s3dest.run("ls", "--config", connector.config(), "--json", *options)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    connector.sync(messages(staged))
    files = {each["file"]: each for each in listed("--files")}
    assert {path: connector.read(each["key"]) for path, each in files.items()} == CONTENT
    assert {path: (each["rows"], each["bytes"]) for path, each in files.items()} == {
        path: (None, len(content)) for path, content in CONTENT.items()
    }
    assert [(each["key"], each["rows"], each["file"]) for each in listed()] == [(connector.data_keys()[0], 2, None)]
    answer = s3dest.run("ls", "--config", connector.config(), "--files", "--sort", "size")
    largest = answer.stdout.splitlines()[1]
    assert re.search(r"  -  +11\.5 MB  -  +s3://.*/große Datei\.bin$", largest), answer.stdout
    refused = s3dest.run("ls", "--config", connector.config(), "--files", "--where", "dt=1")
    assert (refused.returncode, "not in directories of partition_by" in refused.stderr) == (2, True)


def test_a_sync_of_files_alone_lands_and_an_append_adds_to_it(connector, s3dest, staged):
    path = "notes.txt"
    line = with_file(path, staged[path], 0)
    for _ in range(2):
        result = connector.sync(line + state("users", 1))
        assert (result.code, len(result.states)) == (0, 1), result.errors
    assert len([key for key in connector.all_keys() if "/files/" in key]) == 2
    assert connector.sync(record("users", id=1) + line + line).code == 0
    assert connector.ids() == [1]
    assert len([key for key in connector.all_keys() if "/files/" in key]) == 4
    assert s3dest.run("verify", "--config", connector.config(), "--deep").returncode == 0


@pytest.mark.parametrize(
    "entry",
    [configured("users", "overwrite"), configured("users", generation_id=2, minimum_generation_id=2, sync_id=9)],
    ids=["overwrite", "generation"],
)
def test_a_refresh_replaces_the_files_with_the_records(connector, staged, entry):
    connector.sync(messages(staged))
    for _ in range(2):
        text = with_file("new.txt", staged["2026/cat.jpg"]) + record("users", id=3) + status("users", "COMPLETE")
        assert connector.sync(text, entry).code == 0
    is_overwritten = entry["destination_sync_mode"] == "overwrite"
    assert connector.ids() == [3] * (1 if is_overwritten else 2)
    assert set(copies(connector)) == {"new.txt"}


def test_files_are_retired_brought_back_given_away_and_deleted_with_their_stream(connector, s3dest, staged):
    def run(*arguments: str) -> None:
        answer = s3dest.run(*arguments, "--config", connector.config())
        assert answer.returncode == 0, answer.stderr

    connector.sync(messages(staged))
    run("retire", "public.users", "--yes")
    run("retire", "public.users", "--undo", "--yes")
    run("transfer", "public.users", "--to-stream", "public.people", "--yes")
    run("verify", "--deep")
    assert copies(connector) == CONTENT
    run("retire", "public.people", "--yes")
    run("sweep", "--now", "2100-01-01")
    assert (copies(connector), connector.data_keys()) == ({}, [])


def test_nothing_of_a_failed_sync_is_visible_or_left(connector, staged):
    result = connector.sync(messages(staged) + '{"type": "RECORD", "record": {"str')
    assert result.code == 1
    assert (copies(connector), connector.data_keys(), connector.uploads()) == ({}, [], 0)


def test_a_changed_file_is_found_by_verify(connector, s3dest, staged):
    connector.sync(messages(staged))
    (key,) = [each for each in connector.all_keys() if each.endswith("cat.jpg")]
    connector.server.client().put_object(Bucket=connector.bucket, Key=key, Body=b"other")
    verified = s3dest.run("verify", "--config", connector.config())
    assert verified.returncode != 0
    assert "cat.jpg" in verified.stdout + verified.stderr


def test_files_may_be_refused_by_a_setting(connector, staged):
    settings = {"max_attempts": 1, "encode_workers": 1, "on_file": "fail"}
    result = connector.sync(messages(staged), s3dest=settings)
    (error,) = result.errors
    assert (result.code, copies(connector)) == (1, {})
    assert "sends the file '2026/cat.jpg' with a record of the stream public.users" in error["message"]
    assert "on_file is 'fail'" in error["message"]


@pytest.mark.parametrize(
    ("path", "place", "size", "words"),
    [
        ("a.txt", "missing", None, "cannot be read"),
        ("a.txt", ".", None, "is no regular file"),
        ("a.txt", "pipe", None, "is no regular file"),
        ("a.txt", "staged-0", 99, "99 by its record"),
        ("../..", "staged-0", None, "empty or too long"),
        ("x" * 1020, "staged-0", None, "empty or too long"),
    ],
    ids=["missing", "directory", "pipe", "other size", "no name", "long name"],
)
def test_a_file_that_cannot_be_copied_fails_the_sync(connector, staged, tmp_path, path, place, size, words):
    os.mkfifo(tmp_path / "pipe")
    result = connector.sync(record("users", id=1) + with_file(path, tmp_path / place, size))
    (error,) = result.errors
    assert (result.code, connector.data_keys(), connector.uploads()) == (1, [], 0)
    assert words in error["message"]


def test_a_path_cannot_leave_the_directory_of_the_files(connector, staged):
    connector.sync(with_file("../../../users/a//./b.txt", staged["2026/cat.jpg"]))
    assert copies(connector) == {"users/a/b.txt": CONTENT["2026/cat.jpg"]}
