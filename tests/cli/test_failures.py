"""Every failure is one sentence on standard error and an exit code, and nothing of the sync is visible."""

import os
import resource
import subprocess
import sys

import click
import pytest
from airbyte_messages import record, state, status

from s3dest_dagster.cli.commands import s3dest
from s3dest_dagster.cli.entry import run
from s3dest_dagster.cli.output import Output


def assert_failed(answer, code: int, *parts: str) -> None:
    """Checks that the answer is one line with these parts, and that standard output is empty."""
    assert answer.returncode == code, answer.stderr
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("Error: ")
    for part in parts:
        assert part in line


# ---------------------------------------------------------------------- files and options


def test_a_missing_configuration_is_named(lake):
    assert_failed(lake.run("check", "--config", "nowhere.json"), 2, "configuration nowhere.json", "No such file")


def test_a_directory_as_configuration_is_refused(lake):
    assert_failed(lake.run("check", "--config", str(lake.folder)), 2, str(lake.folder), "directory")


def test_broken_json_is_reported_with_its_position(lake):
    path = lake.file("broken.json", '{"s3_bucket_name": "lake",\n  "format": }')
    assert_failed(lake.run("check", "--config", path), 2, "broken.json", "line 2, column 13")


def test_json_that_is_not_an_object_is_refused(lake):
    assert_failed(lake.run("check", "--config", lake.file("list.json", "[1]")), 2, "list.json", "not an object", "'['")


def test_a_configuration_in_another_encoding_is_refused(lake):
    (lake.folder / "latin.json").write_bytes('{"s3_bucket_path": "é"}'.encode("latin-1"))
    assert_failed(lake.run("check", "--config", str(lake.folder / "latin.json")), 2, "UTF-8", "byte 20")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"s3_bucket_name": None}, ["lacks s3_bucket_name"]),
        ({"format": {"format_type": "ORC"}}, ["'ORC'", "CSV, JSONL, Avro and Parquet"]),
        ({"s3_path_format": "${NAMESPACE}/${TABLE}/"}, ["${TABLE}"]),
        ({"s3_endpoint": "http://minio.example.com:9000"}, ["HTTPS", "allow_plain_http"]),
        ({"s3dest": {"parts": 3}}, ["s3dest.parts", "part_size_mb"]),
        ({"secret_access_key": None}, ["secret_access_key is not"]),
        (
            {"format": {"format_type": "Avro", "compression_codec": {"codec": "xz", "compression_level": 12}}},
            ["[0, 9]"],
        ),
    ],
)
def test_wrong_settings_are_refused_before_any_request_to_s3(lake, changes, parts):
    answer = lake.write(record("users", id=1), "--config", lake.config(**changes))
    assert_failed(answer, 2, *parts, "config.json")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{]", "line 1, column 2"),
        ({"tables": []}, "streams"),
        ({"streams": []}, "no streams"),
        (
            {"streams": [{"stream": {"name": "u", "json_schema": {}}, "destination_sync_mode": "append_dedup"}]},
            "append_dedup",
        ),
    ],
)
def test_a_wrong_catalog_is_refused(lake, content, part):
    path = lake.file("catalog.json", content)
    answer = lake.run("write", "--config", lake.config(), "--catalog", path, stdin=record("users", id=1))
    assert_failed(answer, 2, part, "catalog.json")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"s3_bucket_name": "s3://lake"}, ["s3_bucket_name", "without s3://", "s3_bucket_path"]),
        ({"s3_bucket_name": "lake/raw"}, ["s3_bucket_name", "s3_bucket_path"]),
        ({"role_arn": "loader"}, ["role_arn 'loader'", "arn:aws:iam::123456789012:role/"]),
        ({"s3dest": {"max_attemps": 1}}, ["s3dest.max_attemps", "Did you mean 'max_attempts'?"]),
    ],
)
def test_a_usual_mistake_is_answered_with_the_closest_match(lake, changes, parts):
    answer = lake.run("check", "--config", lake.config(**changes))
    assert_failed(answer, 2, *parts, "config.json")
    assert len(answer.stderr.splitlines()) == 1


def test_a_typing_error_in_an_ignored_key_is_reported(lake):
    answer = lake.run("ls", "--config", lake.config(s3_path_fromat="${STREAM_NAME}/", something_else=1))
    assert answer.returncode == 0
    assert "ignored: s3_path_fromat (did you mean 's3_path_format'?), something_else." in answer.stderr


def test_an_endpoint_that_names_the_bucket_is_refused(lake):
    config = lake.config(s3_endpoint=f"{lake.server.endpoint}/{lake.bucket}")
    assert_failed(lake.run("check", "--config", config), 2, "s3_endpoint", lake.bucket, "without it")
    host = lake.config(s3_endpoint=f"https://{lake.bucket}.s3.amazonaws.com")
    assert_failed(lake.run("check", "--config", host), 2, "s3_endpoint", lake.bucket, "without it")


@pytest.mark.parametrize(("content", "part"), [("", "is empty"), (" \n", "is empty"), (None, "current directory is /")])
def test_a_missing_or_empty_configuration_is_reported(lake, content, part):
    path = "nowhere.json" if content is None else lake.file("empty.json", content)
    assert_failed(lake.run("check", "--config", path), 2, path, part)


def test_a_value_that_fails_the_sync_is_reported_with_its_stream(lake):
    config = lake.config(format={"format_type": "Avro"}, s3dest={"on_type_mismatch": "fail", "max_attempts": 1})
    answer = lake.write(record("users", id=1) + record("users", id="many"), "--config", config)
    assert_failed(answer, 1, "Stream 'users'", "field 'id'", "many (record 2 of 2", "on_type_mismatch")


def test_streams_that_could_share_a_key_are_refused(lake):
    config = lake.config(s3_path_format="${NAMESPACE}/${EPOCH}_")
    answer = lake.write(record("users", id=1), "--config", config, streams=("users", "orders"))
    assert_failed(answer, 2, "users", "orders", "${STREAM_NAME}")


def test_another_template_for_landed_data_is_refused(lake):
    lake.write(record("users", id=1))
    before = lake.all_keys()
    other = {"s3_path_format": "${STREAM_NAME}/${EPOCH}_"}
    options = ["--config", lake.config(**other), "--catalog", lake.catalog("users")]
    for verb, stdin in (("write", record("users", id=2)), ("plan", "")):
        answer = lake.run(verb, *options, stdin=stdin)
        assert_failed(
            answer, 2, "public.users", "${STREAM_NAME}/${EPOCH}_", "Nothing was written", "on_template_change"
        )
    assert lake.all_keys() == before
    moved = lake.config(**other, s3dest={"on_template_change": "accept", "max_attempts": 1})
    assert lake.write(record("users", id=3), "--config", moved).returncode == 0
    assert lake.ids() == [3]


@pytest.mark.parametrize(
    "arguments",
    [
        ["load"],
        ["check"],
        ["write", "--config", "c.json"],
        ["check", "--config", "c.json", "--fast"],
        ["plan", "--config", "c.json", "--catalog", "k.json", "--now", "yesterday"],
    ],
)
def test_a_wrong_call_is_answered_with_the_usage(lake, arguments):
    answer = lake.run(*arguments)
    assert answer.returncode == 2
    assert "Usage: s3dest" in answer.stderr
    assert "Error: " in answer.stderr


def test_a_sync_id_that_cannot_be_used_is_refused(lake):
    assert_failed(lake.write("", "--sync-id", "tab\there"), 2, "Sync id", "printable")


# ---------------------------------------------------------------------- S3


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"secret_access_key": "not the secret"}, "secret_access_key"),
        ({"access_key_id": "AKIAUNKNOWN"}, "access_key_id"),
        ({"s3_bucket_name": "lake-that-is-not-there"}, "lake-that-is-not-there"),
        ({"s3_endpoint": "http://127.0.0.1:9"}, "s3_endpoint"),
        ({"access_key_id": None, "secret_access_key": None}, "credentials"),
        ({"s3_bucket_name": "foreign-bucket"}, "foreign-bucket"),
    ],
)
@pytest.mark.parametrize("verb", ["write", "ls"])
def test_a_refusal_of_s3_is_reported_before_a_record_is_read(lake, verb, changes, part):
    config = lake.config(**changes)
    if verb == "write":
        answer = lake.write(record("users", id=1), "--config", config)
    else:
        answer = lake.run("ls", "--config", config)
    assert_failed(answer, 1, part)
    assert lake.all_keys() == []


# ---------------------------------------------------------------------- messages of the source


@pytest.mark.parametrize(
    ("messages", "parts"),
    [
        (record("customers", id=2), ["public.customers", "not in the catalog", "public.users"]),
        (record("users", None, id=2), ["users", "not in the catalog"]),
        (record("users", id=2)[:-20] + "\n", ["no record", "on_bad_record"]),
        (status("users", "STARTED"), ["without reporting COMPLETE", "public.users"]),
        (status("users", "INCOMPLETE"), ["INCOMPLETE", "public.users"]),
        ('{"type": "STATE", "state": {"type": "STREAM"}}\n', ["STATE"]),
        ('{"type": "TRACE", "trace": {"type": "ERROR", "error": {"message": "the database went away"}}}\n', ["away"]),
    ],
)
def test_a_failing_source_leaves_the_old_data_and_receives_no_state(any_lake, messages, parts):
    assert any_lake.write(record("users", id=1)).returncode == 0
    before = any_lake.all_keys()
    answer = any_lake.write(record("users", id=5) + state("users", 5) + messages)
    lines = [line for line in answer.stderr.splitlines() if line.startswith("Error: ")]
    assert (answer.returncode, answer.stdout, len(lines)) == (1, "", 1)
    assert all(part in lines[0] for part in [*parts, "Nothing of this sync was published."])
    assert any_lake.all_keys() == before
    assert any_lake.uploads() == 0


def test_an_empty_refresh_can_fail_before_any_stream_is_published(lake):
    config = lake.config(s3dest={"on_empty_refresh": "fail", "max_attempts": 1})
    answer = lake.write(record("users", id=1), "--config", config, streams=("users", "orders"))
    assert_failed(answer, 1, "public.orders", "on_empty_refresh", "Nothing of this sync was published.")
    assert lake.data_keys() == []


def test_a_value_of_another_type_can_fail_the_sync(lake):
    config = lake.config(
        format={"format_type": "Parquet"}, s3dest={"on_type_mismatch": "fail", "max_attempts": 1, "encode_workers": 1}
    )
    answer = lake.write(record("users", id="many"), "--config", config)
    assert_failed(answer, 1, "id", "many")
    assert lake.data_keys() == []


# ---------------------------------------------------------------------- output


def test_secrets_are_masked_even_in_the_output_of_a_source(lake):
    secret = lake.server.secret_access_key
    answer = lake.write(f"password {secret}\n" + record("users", id=1), "--verbose")
    assert answer.returncode == 0
    assert "password ****" in answer.stderr


def test_secrets_are_masked_in_a_url_and_in_json_too(capsys):
    output = Output()
    output.keep_secret(['wJalr/XUt"nFEMI'])
    output.say("GET /?key=wJalr%2FXUt%22nFEMI")
    output.say_json({"message": 'wJalr/XUt"nFEMI'})
    assert capsys.readouterr().err == 'GET /?key=****\n{"message": "****"}\n'


def test_verbose_shows_where_an_error_came_from(lake):
    answer = lake.run("check", "--config", "nowhere.json", "--verbose")
    assert answer.returncode == 2
    assert "Traceback" in answer.stderr


def test_an_internal_error_is_a_sentence_too(capsys):
    @click.command()
    def fail() -> None:
        raise ZeroDivisionError("division by zero")

    s3dest.add_command(fail)
    try:
        assert run(["fail"]) == 1
    finally:
        del s3dest.commands["fail"]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "Error: division by zero. This error was not expected (ZeroDivisionError). "
        "Run the command again with --verbose, and report what it prints.\n"
    )


def test_a_closed_output_is_reported_in_a_sentence():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "s3dest_dagster.cli", "spec"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: Standard output was closed before everything was written to it.\n",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the address space has no limit that counts")
def test_a_lack_of_memory_is_reported_in_a_sentence(tmp_path):
    large = tmp_path / "config.json"
    with large.open("wb") as file:
        file.truncate(1 << 36)
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            "from s3dest_dagster.cli import main; main()",
            "plan",
            "--config",
            large,
            "--catalog",
            large,
        ],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33)),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("Error: There is not enough memory on this machine, or for this process.")
