"""The commands for landed data: ls, show, verify, recover, sweep."""

import json

import pytest
from airbyte_messages import record, state

from s3dest_dagster.cli.selections import Selection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.stream import Scope, StreamId


def landed(lake) -> str:
    """A bucket with two streams, one of them with two syncs. Returns the path of its configuration."""
    both = record("users", id=1) + record("orders", id=1) + record("orders", id=2) + state("users", 7)
    first = lake.write(both, "--now", "2021-01-01T00:00:00Z", streams=("users", "orders"), mode="append")
    second = lake.write(record("users", id=2), "--now", "2021-01-02T00:00:00Z", mode="append")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    return lake.config()


def test_ls_shows_only_the_contents_of_the_streams(lake):
    config = landed(lake)
    lake.server.client().put_object(Bucket=lake.bucket, Key="data_output_path/public/users/readme.txt", Body=b"mine")
    answer = lake.run("ls", "--config", config)
    assert answer.returncode == 0
    header, *lines = answer.stdout.splitlines()
    assert header.split() == ["LANDED", "AGE", "ROWS", "SIZE", "PARTITION", "OBJECT"]
    lines.sort(key=lambda line: line.split("s3://")[1])
    assert [line.split()[-1] for line in lines] == [
        f"s3://{lake.bucket}/data_output_path/public/{name}"
        for name in (
            "orders/2021_01_01_1609459200000_0.jsonl",
            "users/2021_01_01_1609459200000_0.jsonl",
            "users/2021_01_02_1609545600000_0.jsonl",
        )
    ]
    orders = next(key for key in lake.data_keys() if "/orders/" in key)
    assert lines[0].split()[-6:-1] == ["days", "2", str(len(lake.read(orders))), "bytes", "-"]
    assert lines[2].startswith("2021-01-02 00:00:00")


def test_ls_shows_ages_and_sorts(lake):
    config = landed(lake)

    def listed(*options: str) -> list[str]:
        answer = lake.run("ls", "--config", config, "--now", "2021-01-02T12:00:00Z", *options)
        return answer.stdout.splitlines()[1:]

    newest, *older = listed("--sort", "landed")
    assert "  12 h  " in newest
    assert all("  36 h  " in line for line in older)
    assert "/orders/" in listed("--sort", "rows")[0]
    assert "/orders/" in listed("--sort", "size")[0]
    assert [line.split("s3://")[1] for line in listed("--sort", "key")] == sorted(
        line.split("s3://")[1] for line in listed()
    )


def test_ls_shows_partitions(lake):
    config = lake.config(s3_path_format="${STREAM_NAME}/${PARTITION}/")
    order = lake.run(
        *("begin", "--config", config, "--catalog", lake.catalog("users"), "--partition", "2021-01-05"),
        *("--sync-id", "s1", "--now", "2021-01-06T00:00:00Z"),
    )
    path = lake.file("order.json", order.stdout)
    receipt = lake.run("stage", "--config", config, "--order", path, "--shard", "0", stdin='{"id": 1}\n')
    lake.run("commit", "--config", config, "--order", path, lake.file("receipt.json", receipt.stdout))
    (line,) = lake.run("ls", "--config", config).stdout.splitlines()[1:]
    assert line.split()[-2] == "2021-01-05"


def test_show_says_what_a_stream_holds(lake):
    config = landed(lake)
    answer = lake.run("show", "public.users", "--config", config, "--now", "2021-01-03T00:00:00Z")
    lines = [line.split("  ") for line in answer.stdout.splitlines()]
    facts = {each[1]: "  ".join(each[2:]).strip() for each in lines if each[0] == "" and len(each) > 1}
    assert lines[0] == ["public.users"]
    assert facts["under"] == f"s3://{lake.bucket}/data_output_path"
    own = sum(len(lake.read(key)) for key in lake.data_keys() if "/users/" in key)
    assert facts["holds"] == f"2 rows, 2 objects, {own} bytes"
    assert facts["last landed"] == "2021-01-02 00:00:00, 24 h ago"
    assert facts["columns"] == "id  integer"
    assert facts["sample"] == '{"id": 2, "name": null}'


def test_show_in_json_agrees_with_ls(lake):
    config = landed(lake)
    shown = json.loads(lake.run("show", "public.orders", "--config", config, "--json", "--rows", "1").stdout)
    listed = json.loads(lake.run("ls", "--config", config, "--json", "--catalog", lake.catalog("orders")).stdout)
    assert shown["bytes"] == sum(each["bytes"] for each in listed)
    assert [each["sync_id"] for each in shown["syncs"]] == [each["sync_id"] for each in listed]
    assert [each["id"] for each in shown["sample"]] == [1]
    assert shown["rows"] == 2


def test_show_of_an_unknown_stream_names_those_that_there_are(lake):
    answer = lake.run("show", "public.user", "--config", landed(lake))
    assert answer.returncode == 2
    assert "Did you mean 'public.users'?" in answer.stderr


def test_show_on_a_terminal_has_tables_of_columns_syncs_and_records(lake):
    answer, shown = lake.on_terminal("show", "public.users", "--config", landed(lake))
    assert answer.returncode == 0
    assert shown.count("╭") == 3
    assert "integer" in shown


def test_ls_in_json_agrees_with_the_bucket(lake):
    config = landed(lake)
    found = json.loads(lake.run("ls", "--config", config, "--json").stdout)
    assert {each["key"]: each["bytes"] for each in found} == {key: len(lake.read(key)) for key in lake.data_keys()}
    assert sum(each["rows"] for each in found if each["stream"] == "orders") == 2


def test_a_catalog_limits_the_shown_streams(lake):
    config = landed(lake)
    found = json.loads(lake.run("ls", "--config", config, "--json", "--catalog", lake.catalog("orders")).stdout)
    assert {each["stream"] for each in found} == {"orders"}


def test_the_stream_prefix_is_part_of_the_names(lake):
    own = {"stream_prefix": "raw_", "max_attempts": 1}
    assert lake.write(record("users", id=1), "--config", lake.config(s3dest=own)).returncode == 0
    config = lake.config(s3dest=own)
    found = json.loads(lake.run("ls", "--config", config, "--json", "--catalog", lake.catalog("users")).stdout)
    assert [each["stream"] for each in found] == ["raw_users"]


def test_an_empty_bucket_shows_nothing_and_has_no_problems(lake):
    for verb in (["ls"], ["verify"], ["recover"], ["sweep"]):
        answer = lake.run(*verb, "--config", lake.config())
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
        assert json.loads(lake.run(*verb, "--config", lake.config(), "--json").stdout) == []
    assert json.loads(lake.run("state", "show", "--config", lake.config()).stdout) == []


def test_verify_finds_no_problem_in_written_data(lake):
    answer = lake.run("verify", "--config", landed(lake))
    assert answer.returncode == 0
    assert sorted(answer.stdout.splitlines()) == [
        "✓ public.orders: 1 object, 2 rows",
        "✓ public.users: 2 objects, 2 rows",
    ]


def test_verify_names_every_missing_or_changed_object(lake):
    config = landed(lake)
    s3 = lake.server.client()
    gone, changed = lake.data_keys()[0], lake.data_keys()[1]
    s3.delete_object(Bucket=lake.bucket, Key=gone)
    s3.put_object(Bucket=lake.bucket, Key=changed, Body=b"something else")
    answer = lake.run("verify", "--config", config)
    assert answer.returncode == 1
    assert f"{gone} is missing" in answer.stdout
    assert f"{changed} has 14 bytes" in answer.stdout
    assert answer.stderr == "Error: 2 of 2 streams do not agree with their manifests.\n"
    found = json.loads(lake.run("verify", "--config", config, "--json").stdout)
    assert [(each["ok"], len(each["problems"])) for each in found] == [(False, 1), (False, 1)]


def test_verify_reports_foreign_objects_without_failing(lake):
    config = landed(lake)
    for name in ("2020_01_01_1577836800000_0.jsonl", "notes.txt"):
        lake.server.client().put_object(Bucket=lake.bucket, Key=f"data_output_path/public/users/{name}", Body=b"{}")
    answer = lake.run("verify", "--config", config)
    assert answer.returncode == 0
    assert "✓ public.users: 2 objects, 2 rows, 1 foreign object next to them" in answer.stdout.splitlines()


def test_verify_reads_the_content_on_request(any_lake):
    """The object has the same size and, on rclone, an ETag without information. Only the content shows the change."""
    config = landed(any_lake)
    key = next(key for key in any_lake.data_keys() if "/orders/" in key)
    assert any_lake.run("verify", "--config", config, "--deep").returncode == 0
    damaged = any_lake.read(key).replace(b'"id": 2', b'"id": 7')
    any_lake.server.client().put_object(Bucket=any_lake.bucket, Key=key, Body=damaged)
    answer = any_lake.run("verify", "--config", config, "--deep")
    assert answer.returncode == 1
    (problem,) = [line for line in answer.stdout.splitlines() if line.startswith("✗")]
    assert problem.startswith(f"✗ public.orders: s3://{any_lake.bucket}/{key} ")


@pytest.mark.parametrize("verb", ["ls", "verify", "recover", "sweep", "check", "plan"])
def test_the_location_can_be_given_only_once(lake, verb):
    config = lake.config()
    for options, part in (
        ([], "Give either --config, or --module"),
        (["--config", config, "-m", "some.module"], "--module or --defs for the assets of Dagster definitions"),
        (["--config", config, "--select", "users"], "choose assets and need --module or --defs"),
        (["-m", "some.module", "--catalog", lake.catalog("users")], "--catalog names streams and needs --config"),
        # Looking for a module imports Dagster, which one command may do for all.
        *[(["-m", "no.such.module"], "cannot be imported")][: verb == "ls"],
    ):
        answer = lake.run(verb, *options)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert part in answer.stderr


def test_recover_finishes_a_sync_that_was_interrupted_before_its_publication(any_lake):
    interrupted(any_lake)
    answer = any_lake.run("recover", "--config", any_lake.config())
    assert (answer.returncode, answer.stdout) == (0, "✓ public.users: sync second is finished\n")
    assert any_lake.ids() == [1, 2]
    again = any_lake.run("recover", "--config", any_lake.config(), "--json")
    assert [(each["ok"], each["sync_id"]) for each in json.loads(again.stdout)] == [(True, None)]


def test_recover_reports_a_rolled_back_sync(rclone_lake):
    interrupted(rclone_lake)
    s3 = rclone_lake.server.client()
    (upload,) = s3.list_multipart_uploads(Bucket=rclone_lake.bucket)["Uploads"]
    s3.abort_multipart_upload(Bucket=rclone_lake.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    answer = rclone_lake.run("recover", "--config", rclone_lake.config())
    assert answer.returncode == 1
    assert answer.stdout.startswith("✗ public.users: Sync second of public.users was ")
    assert rclone_lake.ids() == [1]


def test_plan_reports_a_sync_that_would_be_finished_first(lake):
    interrupted(lake)
    answer = lake.run("plan", "--config", lake.config(), "--catalog", lake.catalog("users"))
    assert "finish sync second, which was interrupted" in answer.stdout


DAMAGED = "data_output_path/_s3dest/public/orders/~/head.json"


@pytest.fixture
def half_damaged(lake) -> str:
    """A bucket with two streams, the first of them with an unreadable head. Returns its configuration."""
    config = landed(lake)
    lake.server.client().put_object(Bucket=lake.bucket, Key=DAMAGED, Body=b'{"format_version": 1,')
    return config


def test_verify_continues_after_a_damaged_head(lake, half_damaged):
    answer = lake.run("verify", "--config", half_damaged)
    lines = answer.stdout.splitlines()
    assert (answer.returncode, len(lines)) == (1, 2)
    assert lines[0].startswith(f"✗ public.orders: {DAMAGED} is damaged")
    assert lines[1] == "✓ public.users: 2 objects, 2 rows"
    assert answer.stderr == "Error: 1 of 2 streams do not agree with their manifests.\n"
    found = json.loads(lake.run("verify", "--config", half_damaged, "--json").stdout)
    assert [(each["stream"], each["ok"]) for each in found] == [("orders", False), ("users", True)]


def test_recover_continues_after_a_damaged_head(lake, half_damaged):
    pending(lake)
    answer = lake.run("recover", "--config", half_damaged)
    lines = answer.stdout.splitlines()
    assert (answer.returncode, len(lines)) == (1, 2)
    assert lines[0].startswith(f"✗ public.orders: {DAMAGED} is damaged")
    assert lines[1] == "✓ public.users: sync second is finished"


def test_ls_and_sweep_continue_after_a_damaged_head(lake, half_damaged):
    listed, swept = (lake.run(verb, "--config", half_damaged) for verb in ("ls", "sweep"))
    assert (listed.returncode, len(listed.stdout.splitlines())) == (1, 3)
    assert listed.stderr.startswith(f"Error: public.orders: {DAMAGED} is damaged")
    lines = swept.stdout.splitlines()
    assert swept.returncode == 1
    assert lines[0].startswith(f"✗ public.orders: {DAMAGED} is damaged")
    assert lines[1] == "public.users: 0 abandoned uploads aborted, 0 kept"


def test_verify_continues_after_a_missing_segment(lake):
    config, root = landed(lake), DAMAGED.removesuffix("head.json")
    (name,) = [key for key in lake.all_keys() if key.startswith(f"{root}segments/")]
    lake.server.client().delete_object(Bucket=lake.bucket, Key=name)
    answer = lake.run("verify", "--config", config)
    lines = answer.stdout.splitlines()
    assert (answer.returncode, len(lines)) == (1, 2)
    assert lines[0].startswith(f"✗ public.orders: s3://{lake.bucket}/{name} is missing")
    assert lines[1] == "✓ public.users: 2 objects, 2 rows"


def interrupted(lake) -> None:
    """One published sync, and one ("second") that is decided and not published."""
    assert lake.write(record("users", id=1), "--sync-id", "first", mode="append").returncode == 0
    pending(lake)


def pending(lake) -> None:
    """Decides a sync "second" of the users by hand. It is like the last one, and not published."""
    s3, root = lake.server.client(), "data_output_path/_s3dest/public/users/~/"
    head = json.loads(lake.read(f"{root}head.json"))
    segment = json.loads(lake.read(f"{root}segments/{head['segments'][0][0]}.json"))
    key = "data_output_path/public/users/2026_01_01_1767225600000_0.jsonl"
    body = lake.read(segment["objects"][0]["key"]).replace(b'"id": 1', b'"id": 2')
    upload = s3.create_multipart_upload(Bucket=lake.bucket, Key=key, Metadata={"s3dest-sync": "second.2"})["UploadId"]
    part = s3.upload_part(Bucket=lake.bucket, Key=key, UploadId=upload, PartNumber=1, Body=body)
    segment["objects"][0] |= {"key": key, "upload": {"id": upload, "part_etags": [part["ETag"].strip('"')]}}
    segment["sync"]["id"], segment["name"], head["pending_segment"] = "second", "second.2", "second.2"
    for name, manifest in (("segments/second.2.json", segment), ("head.json", head)):
        s3.put_object(Bucket=lake.bucket, Key=root + name, Body=json.dumps(manifest))


def test_verify_names_what_nobody_lands_any_more_without_failing(lake):
    messages = record("users", id=1) + record("orders", id=2)
    assert lake.write(messages, streams=("users", "orders")).returncode == 0
    assert "not defined" not in lake.run("verify", "--config", lake.config()).stderr
    answer = lake.run("verify", "--config", lake.config(), "--catalog", lake.catalog("users"))
    assert answer.returncode == 0
    assert "and not defined here: public.orders. If one was renamed" in answer.stderr
    assert "s3dest transfer public.orders --to-stream NAME" in answer.stderr
    lake.run("retire", "public.orders", "--config", lake.config(), "--yes")
    again = lake.run("verify", "--config", lake.config(), "--catalog", lake.catalog("users"))
    assert "not defined" not in again.stderr


def test_a_sweep_knows_the_days_of_a_stream(lake):
    destination = S3Destination(s3_bucket_name=lake.bucket, stream_prefix="raw_", expire_partitions_after=9)
    settings = {"public.users": StreamSettings(expire_partitions_after=30), "orders": StreamSettings()}
    selection = Selection(destination, lake.server.open(destination), None, None, settings=settings)
    days = {
        name: selection.destination_of(StreamId("public", name)).expire_partitions_after
        for name in ("raw_users", "raw_orders", "users")
    }
    assert days == {"raw_users": 30, "raw_orders": 9, "users": 30}


def test_without_a_definition_what_has_no_partition_is_left_if_it_stands_beside_partitions(lake):
    destination = S3Destination(s3_bucket_name=lake.bucket)
    selection = Selection(destination, lake.server.open(destination), None, None)
    whole, part = Scope(StreamId("public", "users")), Scope(StreamId("public", "users"), "2026-01-05")
    assert selection.left_from_before([whole, part]) == [whole]
    assert selection.left_from_before([whole]) == selection.left_from_before([part]) == []
