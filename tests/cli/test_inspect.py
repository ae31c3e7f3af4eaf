"""The commands that run before a sync (check, spec, discover, plan), and the help."""

import json
import stat
import subprocess
import sys
import threading
from importlib.metadata import entry_points
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from airbyte_messages import record
from aws_identities import ACCOUNT, new_user

from s3dest_dagster.cli import main
from s3dest_dagster.settings.connector_spec import connector_spec

CATALOG = {"streams": [{"name": "users", "namespace": "public", "json_schema": {"type": "object"}}]}
SOURCE = """#!{python}
import json, sys
verb, config = sys.argv[1], json.load(open(sys.argv[sys.argv.index("--config") + 1]))
print(json.dumps({{"type": "LOG", "log": {{"level": "INFO", "message": "looking at " + config["host"]}}}}))
print(json.dumps({{"type": "CATALOG", "catalog": {catalog}}}))
"""


def steps(stdout: str) -> dict[str, bool]:
    return {each["name"]: each["ok"] for each in json.loads(stdout)["steps"]}


def test_check_tries_every_action_and_leaves_only_the_server_file(any_lake):
    answer = any_lake.run("check", "--config", any_lake.config())
    assert (answer.returncode, answer.stderr) == (0, "")
    assert f"access key id {any_lake.server.access_key_id}" in answer.stdout
    assert f"s3://{any_lake.bucket}/data_output_path/public/users/" in answer.stdout
    assert "✗" not in answer.stdout
    assert any_lake.all_keys() == ["data_output_path/_s3dest/server.json"]
    assert any_lake.uploads() == 0


def test_check_probes_the_server_again(lake):
    """The output is text or JSON. A missing ability of the server is not a failure."""
    lake.run("check", "--config", lake.config())
    place = {"Bucket": lake.bucket, "Key": "data_output_path/_s3dest/server.json"}
    noted = lake.server.client().get_object(**place)["Body"].read()
    lacking = noted.replace(b'"create_if_absent": true', b'"create_if_absent": false')
    assert lacking != noted
    lake.server.client().put_object(**place, Body=lacking)
    name = "create an object only if there is none (If-None-Match)"
    answer = lake.run("check", "--config", lake.config())
    assert answer.returncode == 0
    assert f"- {name}: concurrent syncs of one stream are not detected" in answer.stdout
    (step,) = [
        each
        for each in json.loads(lake.run("check", "--config", lake.config(), "--json").stdout)["steps"]
        if each["name"] == name
    ]
    assert (step["ok"], step["has"], step["tried"]) == (True, False, True)
    answer = lake.run("check", "--config", lake.config(), "--again")
    assert f"✓ {name}\n" in answer.stdout
    assert lake.server.client().get_object(**place)["Body"].read() == noted


def test_check_in_json(lake):
    answer = json.loads(lake.run("check", "--config", lake.config(), "--json").stdout)
    assert answer["ok"] is True
    assert answer["identity"] == {
        "source": "access keys of the settings",
        "access_key_id": lake.server.access_key_id,
        "arn": None,
        "unknown": "sts_endpoint is not set",
    }
    assert {"s3:ListBucket", "s3:PutObject", "s3:AbortMultipartUpload"} < {each["action"] for each in answer["steps"]}


@pytest.mark.parametrize(
    ("changes", "step", "cure"),
    [
        ({"s3_bucket_name": "lake-nowhere"}, "list objects", "Create it"),
        ({"secret_access_key": "wrong"}, "list objects", "Check access_key_id"),
        ({"access_key_id": None, "secret_access_key": None}, "find an identity", "Set access_key_id"),
    ],
)
def test_check_names_the_failing_step_and_its_remedy(lake, changes, step, cure):
    answer = lake.run("check", "--config", lake.config(**changes))
    assert answer.returncode == 1
    (failed,) = [line for line in answer.stdout.splitlines() if line.startswith("✗")]
    assert step in failed
    assert cure in failed
    assert answer.stderr == f"Error: The check failed at: {step}.\n"


def test_check_names_its_identity(lake):
    config = lake.config(s3dest={"sts_endpoint": lake.server.endpoint})
    arn = f"arn:aws:iam::{ACCOUNT}:user/loader"
    assert f"acting as {arn}\n" in lake.run("check", "--config", config).stdout
    assert json.loads(lake.run("check", "--config", config, "--json").stdout)["identity"]["arn"] == arn


def test_check_names_all_missing_permissions_with_their_statements(lake):
    """The output is text or JSON. The identity may only list."""
    _, keys = new_user(lake.server, ["s3:ListBucket"])
    missing = {
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListBucketMultipartUploads",
    }
    answer = lake.run("check", "--config", lake.config(**keys))
    assert answer.returncode == 1
    failures = [line for line in answer.stdout.splitlines() if line.startswith("✗")]
    assert {json.loads(line[line.index("{") :])["Action"] for line in failures} == missing
    assert answer.stderr.startswith("Error: The check failed at: delete objects, ")
    answer = lake.run("check", "--config", lake.config(**keys), "--json")
    found = json.loads(answer.stdout)
    assert (answer.returncode, found["ok"]) == (1, False)
    assert {each["action"] for each in found["steps"] if not each["ok"]} == missing
    assert all("Add this statement" in each["message"] for each in found["steps"] if not each["ok"])


def test_check_examines_the_streams_of_a_catalog_and_changes_nothing(lake):
    assert lake.write(record("users", id=1)).returncode == 0
    before, catalog = lake.all_keys(), lake.catalog("users", "orders")
    answer = lake.run("check", "--config", lake.config(), "--catalog", catalog)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "✓ look at stream public.users\n✓ look at stream public.orders\n" in answer.stdout
    moved = lake.config(s3_path_format="${NAMESPACE}/${STREAM_NAME}/b/")
    answer = lake.run("check", "--config", moved, "--catalog", catalog, "--json")
    assert answer.returncode == 1
    assert answer.stderr == "Error: The check failed at: look at stream public.users.\n"
    (failed,) = [each for each in json.loads(answer.stdout)["steps"] if not each["ok"]]
    assert "on_template_change" in failed["message"]
    assert lake.all_keys() == before


@pytest.mark.parametrize(
    ("changes", "streams", "step", "why"),
    [
        (
            {"s3_path_format": "same/"},
            CATALOG["streams"] + [{**CATALOG["streams"][0], "name": "orders"}],
            "apart",
            "own",
        ),
        ({}, [{**CATALOG["streams"][0], "json_schema": {"properties": 7}}], "public.users", "properties"),
    ],
)
def test_check_names_what_prevents_a_stream_from_landing(lake, changes, streams, step, why):
    catalog = lake.file("catalog.json", {"streams": streams})
    answer = lake.run("check", "--config", lake.config(**changes), "--catalog", catalog, "--json")
    assert answer.returncode == 1
    (failed,) = [each for each in json.loads(answer.stdout)["steps"] if not each["ok"]]
    assert failed["name"].endswith(step)
    assert why in failed["message"]


def test_check_fails_fast_on_a_wrong_server(lake):
    """A server that hangs up immediately is tried twice in this step, although a sync would try it eight times."""
    calls = []

    class HangUp(BaseRequestHandler):
        def handle(self) -> None:
            calls.append(self.client_address)

    with ThreadingTCPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        answer = lake.run("check", "--config", lake.config(s3_endpoint=endpoint, s3dest=None), "--json")
        server.shutdown()
    assert (answer.returncode, len(calls)) == (1, 2)
    assert steps(answer.stdout) == {"find an identity": True, "list objects": False}


def test_spec_is_one_airbyte_message(lake):
    answer = lake.run("spec")
    (line,) = answer.stdout.splitlines()
    assert json.loads(line) == {"type": "SPEC", "spec": connector_spec()}


def test_discover_prints_the_catalog_and_write_accepts_it(lake):
    source = lake.folder / "source-tiny"
    source.write_text(SOURCE.format(python=sys.executable, catalog=CATALOG))
    source.chmod(source.stat().st_mode | stat.S_IXUSR)
    answer = lake.run("discover", "--source", str(source), "--config", lake.file("source.json", {"host": "db1"}))
    assert (answer.returncode, answer.stderr) == (0, "INFO: looking at db1\n")
    assert json.loads(answer.stdout) == CATALOG
    catalog = lake.file("found.json", answer.stdout)
    landed = lake.run("write", "--config", lake.config(), "--catalog", catalog, stdin=record("users", id=1))
    assert landed.returncode == 0, landed.stderr


def test_a_catalog_between_log_lines_is_accepted_too(lake):
    lines = json.dumps({"type": "LOG", "log": {"level": "INFO", "message": "hello"}}) + "\n"
    lines += json.dumps({"type": "CATALOG", "catalog": CATALOG}) + "\n"
    answer = lake.run("plan", "--config", lake.config(), "--catalog", lake.file("discovered.txt", lines), "--json")
    assert [each["stream"] for each in json.loads(answer.stdout)["streams"]] == ["users"]


def test_a_source_that_does_not_exist_is_named(lake):
    answer = lake.run("discover", "--source", "source-nowhere", "--config", lake.file("source.json", {}))
    assert answer.returncode == 2
    assert "source-nowhere" in answer.stderr


def test_plan_shows_keys_columns_and_deletions_and_changes_nothing(lake):
    lake.write(record("users", id=1), "--now", "2021-01-01T00:00:00Z")
    before = lake.all_keys()
    options = ["--config", lake.config(), "--catalog", lake.catalog("users", "orders"), "--now", "2021-01-02T00:00:00Z"]
    answer = json.loads(lake.run("plan", *options, "--json").stdout)
    users, orders = answer["streams"]
    assert users["first_key"] == "data_output_path/public/users/2021_01_02_1609545600000_0.jsonl"
    assert users["deletes"] == ["data_output_path/public/users/2021_01_01_1609459200000_0.jsonl"]
    assert orders["deletes"] == []
    assert [each["name"] for each in orders["columns"]] == ["id", "total"]
    assert "s3:PutObject" in answer["actions"]
    text = lake.run("plan", *options).stdout
    assert f"s3://{lake.bucket}/{users['first_key']}" in text
    assert f"s3://{lake.bucket}/{users['deletes'][0]}" in text
    assert lake.all_keys() == before


def test_the_planned_key_is_the_one_that_is_written(lake):
    options = ["--config", lake.config(), "--catalog", lake.catalog("users"), "--now", "2021-01-02T00:00:00Z"]
    planned = json.loads(lake.run("plan", *options, "--json").stdout)["streams"][0]["first_key"]
    lake.run("write", *options, stdin=record("users", id=1))
    assert lake.data_keys() == [planned]


def test_plan_of_a_partition_and_of_renamed_fields(lake):
    stream = {"name": "users", "namespace": "public", "json_schema": {"properties": {"a b": {"type": "string"}}}}
    catalog = lake.file("catalog.json", {"streams": [stream]})
    config = lake.config(s3_path_format="${STREAM_NAME}/${PARTITION}/${EPOCH}_", format={"format_type": "Parquet"})
    answer = lake.run("plan", "--config", config, "--catalog", catalog, "--partition", "2021-01-05", "--json")
    (planned,) = json.loads(answer.stdout)["streams"]
    assert "/users/2021-01-05/" in planned["first_key"]
    assert planned["renamed"] == {"a b": "a_b"}


@pytest.mark.parametrize("padding", [{}, {"max_padding_size_mb": 8}])
def test_plan_does_not_mention_a_default_padding(lake, padding):
    config = lake.config(format={"format_type": "Parquet", **padding})
    answer = lake.run("plan", "--config", config, "--catalog", lake.catalog("users"), "--json")
    assert json.loads(answer.stdout)["without_effect"] == []


def test_plan_reports_that_a_configured_padding_has_no_effect(lake):
    config = lake.config(format={"format_type": "Parquet", "max_padding_size_mb": 4})
    answer = lake.run("plan", "--config", config, "--catalog", lake.catalog("users"), "--json")
    (sentence,) = json.loads(answer.stdout)["without_effect"]
    assert sentence.startswith("max_padding_size_mb has no effect")


@pytest.mark.parametrize("size", [512, 1024])
def test_plan_reports_the_memory_that_a_row_group_needs(lake, size):
    def notes(memory_mb):
        config = lake.config(
            format={"format_type": "Parquet", "block_size_mb": size},
            s3dest={"encode_workers": 1, "memory_mb": memory_mb},
        )
        answer = lake.run("plan", "--config", config, "--catalog", lake.catalog("users"), "--json")
        return json.loads(answer.stdout)["without_effect"]

    (sentence,) = notes(512)
    assert sentence.startswith(f"block_size_mb {size} has no full effect: memory_mb 512 ")
    needed = int(sentence.split("Set memory_mb to ")[1].split()[0])
    assert notes(needed) == []
    assert notes(needed - 1) != []


def test_plan_reports_if_the_template_allows_no_checkpoints(lake):
    options = ["--catalog", lake.catalog("users"), "--json"]
    one_key = {"s3_path_format": "${STREAM_NAME}/${EPOCH}_", "file_name_pattern": "all{format_extension}"}
    (note,) = json.loads(lake.run("plan", "--config", lake.config(**one_key), *options).stdout)["without_effect"]
    assert note.startswith("checkpoint_interval_s and checkpoint_mb have no effect")
    off = {"s3dest": {"checkpoint_interval_s": 0, "checkpoint_mb": 0}}
    assert (
        json.loads(lake.run("plan", "--config", lake.config(**one_key, **off), *options).stdout)["without_effect"] == []
    )


@pytest.mark.parametrize("format_type", ["CSV", "JSONL"])
def test_plan_renames_nothing_if_every_name_is_allowed(lake, format_type):
    stream = {"name": "users", "namespace": "public", "json_schema": {"properties": {"a b": {"type": "string"}}}}
    catalog = lake.file("catalog.json", {"streams": [stream]})
    answer = lake.run(
        "plan", "--config", lake.config(format={"format_type": format_type}), "--catalog", catalog, "--json"
    )
    (planned,) = json.loads(answer.stdout)["streams"]
    assert ([each["name"] for each in planned["columns"]], planned["renamed"]) == (["a b"], {})


@pytest.mark.parametrize(("format_type", "suffix"), [("Parquet", ", too deep parts as JSON"), ("Avro", "")])
def test_plan_reports_columns_that_nest_too_deep_for_parquet(lake, format_type, suffix):
    deep = {"type": "integer"}
    for _ in range(50):
        deep = {"type": "array", "items": deep}
    schema = {"properties": {"deep": deep, "id": {"type": "integer"}}}
    catalog = lake.file("catalog.json", {"streams": [{"name": "users", "namespace": "public", "json_schema": schema}]})
    options = ["--config", lake.config(format={"format_type": format_type}), "--catalog", catalog, "--json"]
    (planned,) = json.loads(lake.run("plan", *options).stdout)["streams"]
    types = {each["name"]: each["type"] for each in planned["columns"]}
    assert types["id"] == "integer"
    innermost = "string" if suffix else "array of integer"
    assert types["deep"] == f"{'array of ' * 49}{innermost}{suffix}"


def test_help_is_fast_since_it_imports_nothing_heavy():
    code = (
        "import sys\nfrom s3dest_dagster.cli.entry import run\nassert run(['write', '--help']) == 0\n"
        "print({'boto3', 'numpy', 'pyarrow', 'dagster'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
    assert "--sync-id" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["check", "-h"], ["state", "show", "--help"], ["--version"]])
def test_a_request_for_help_is_not_a_failure(lake, arguments):
    answer = lake.run(*arguments)
    assert answer.returncode == 0
    assert "s3dest" in answer.stdout


def test_the_command_is_installed_under_its_name():
    (script,) = (each for each in entry_points(group="console_scripts") if each.name == "s3dest")
    assert script.load() is main


def test_check_without_a_catalog_remarks_on_settings_of_a_stream_that_is_like_one_that_has_landed(lake):
    lake.write(record("users", id=1))
    for name, remarked in (("usres", True), ("public.usres", True), ("users", False), ("invoices", False)):
        config = lake.config(s3dest={"streams": {name: {"owner": "shop"}}})
        answer = lake.run("check", "--config", config)
        assert answer.returncode == 0, answer.stderr
        assert (f"- compare the streams that have settings: '{name}' has settings" in answer.stdout) is remarked
    lake.write("", "--allow-empty", namespace="other", streams=("orders",))
    assert "has settings" not in lake.run("check", "--config", lake.config(s3dest={"streams": {"usres": {}}})).stdout
