"""`s3dest write` lands every stream of the catalog together, and forwards the states of the published records."""

import csv
import gzip
import io
import json
from pathlib import Path

import fastavro
import pyarrow.parquet as pq
import pytest
from airbyte_messages import log, record, state, status

USERS = [{"id": number, "name": f"user {number}"} for number in range(1, 8)]
ORDERS = [{"id": number, "total": number / 4} for number in range(1, 6)]


def interleaved() -> str:
    """The interleaved records of two streams, and a third stream without records."""
    lines = []
    for number in range(max(len(USERS), len(ORDERS))):
        lines += [record("users", **each) for each in USERS[number : number + 1]]
        lines += [record("orders", **each) for each in ORDERS[number : number + 1]]
    return "".join(lines)


def rows_of(kind: str, data: bytes) -> list[dict]:
    """The records of an object, read by a reader that is not ours."""
    if kind == "CSV":
        text = gzip.decompress(data).decode()
        return [json.loads(row["_airbyte_data"]) for row in csv.DictReader(io.StringIO(text))]
    if kind == "JSONL":
        return [json.loads(line)["_airbyte_data"] for line in gzip.decompress(data).splitlines()]
    if kind == "Avro":
        rows = list(fastavro.reader(io.BytesIO(data)))
    else:
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
    return [{name: row[name] for name in row if not name.startswith("_airbyte")} for row in rows]


def test_the_documented_example_is_reproduced_exactly(any_lake):
    config = any_lake.config(format={"format_type": "CSV"})
    answer = any_lake.write(record("users", id=1), "--config", config, "--now", "2021-01-01T00:00:00Z")
    assert answer.returncode == 0, answer.stderr
    assert any_lake.data_keys() == ["data_output_path/public/users/2021_01_01_1609459200000_0.csv.gz"]


@pytest.mark.parametrize("kind", ["CSV", "JSONL", "Avro", "Parquet"])
def test_interleaved_streams_land_separately_in_every_format(any_lake, kind):
    settings = {"format_type": kind, **({"compression_codec": {"codec": "Deflate"}} if kind == "Avro" else {})}
    answer = any_lake.write(
        interleaved(), "--config", any_lake.config(format=settings), streams=("users", "orders"), mode="append"
    )
    assert answer.returncode == 0, answer.stderr
    found = {key.split("/")[2]: rows_of(kind, any_lake.read(key)) for key in any_lake.data_keys()}
    assert found == {"users": USERS, "orders": ORDERS}
    assert "public.users: 7 rows, 1 object" in answer.stderr
    assert "public.orders: 5 rows, 1 object" in answer.stderr


def test_a_full_refresh_without_records_empties_its_stream_and_an_append_adds(lake):
    lake.write(record("users", id=1) + record("orders", id=1), streams=("users", "orders"))
    assert lake.write(record("users", id=2), mode="append").returncode == 0
    assert lake.ids("users") == [1, 2]
    messages = record("orders", id=3) + status("users", "COMPLETE") + status("orders", "COMPLETE")
    assert lake.write(messages, streams=("users", "orders")).returncode == 0
    assert (lake.ids("users"), lake.ids("orders")) == ([], [3])


@pytest.mark.parametrize("text", ["", "\n\n", log("starting")], ids=["nothing", "blank lines", "a log"])
@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_an_input_without_messages_is_refused(lake, text, mode):
    """A source that does not start leaves this input."""
    lake.write(record("users", id=1))
    answer = lake.write(text, mode=mode)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "may not have run" in answer.stderr
    assert "--allow-empty" in answer.stderr
    assert lake.ids() == [1]
    assert lake.write(text, "--allow-empty", mode=mode).returncode == 0
    assert lake.ids() == ([1] if mode == "append" else [])


def test_a_stream_without_messages_is_not_emptied(lake):
    both = ("users", "orders")
    lake.write(record("users", id=1) + record("orders", id=1), streams=both)
    answer = lake.write(record("orders", id=2), streams=both)
    assert answer.returncode == 1
    assert "said nothing of public.users" in answer.stderr
    assert "--allow-empty" in answer.stderr
    assert (lake.ids("users"), lake.ids("orders"), lake.uploads()) == ([1], [1], 0)
    assert lake.write(record("orders", id=2), "--allow-empty", streams=both).returncode == 0
    assert (lake.ids("users"), lake.ids("orders")) == ([], [2])


@pytest.mark.parametrize("text", [state("users", 1), status("users", "COMPLETE")], ids=["a state", "a status"])
def test_any_message_about_a_stream_shows_that_it_is_empty(lake, text):
    lake.write(record("users", id=1))
    assert lake.write(text).returncode == 0
    assert lake.ids() == []


def test_a_stream_without_messages_and_without_data_is_no_error(lake):
    answer = lake.write(record("orders", id=2), streams=("users", "orders"))
    assert answer.returncode == 0, answer.stderr


def test_a_discovered_catalog_means_full_refresh(lake):
    lake.write(record("users", id=1), mode="append")
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    stream = {"name": "users", "namespace": "public", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}
    catalog = lake.file("discovered.json", {"type": "CATALOG", "catalog": {"streams": [stream]}})
    answer = lake.run("write", "--config", lake.config(), "--catalog", catalog, stdin=record("users", id=2))
    assert answer.returncode == 0, answer.stderr
    assert lake.ids() == [2]


def test_only_the_newest_state_of_each_stream_is_forwarded_unchanged(lake):
    messages = (
        record("users", id=1)
        + state("users", 1)
        + state("orders", 1)
        + log("half way")
        + record("users", id=2)
        + state("users", 2)
    )
    answer = lake.write(messages, streams=("users", "orders"))
    assert answer.stdout == state("orders", 1) + state("users", 2)
    assert "INFO: half way" in answer.stderr


def test_a_global_state_is_forwarded_once_all_streams_are_published(lake):
    everything = json.dumps({"type": "STATE", "state": {"type": "GLOBAL", "global": {"stream_states": []}}}) + "\n"
    answer = lake.write(record("users", id=1) + everything, "--sync-id", "a", streams=("users", "orders"))
    assert answer.stdout == everything
    again = lake.write(record("users", id=2) + everything, "--sync-id", "a", streams=("users", "orders"))
    assert again.stdout == ""
    assert "not passed on" in again.stderr


def test_a_new_stream_that_the_contract_discards_is_counted_and_its_state_is_not_passed_on(lake):
    contract = {"streams": {"public.orders": {"schema_contract": {"new_stream": "discard"}}}}
    config = lake.config(s3dest={**lake.settings()["s3dest"], **contract})
    messages = record("users", id=1) + state("users", 1) + record("orders", id=7) + state("orders", 7)
    for _ in range(2):
        answer = lake.write(messages, "--config", config, streams=("users", "orders"))
        assert answer.stdout == state("users", 1)
        assert "public.orders: 1 record not landed: the schema contract discards new streams" in answer.stderr
        assert (lake.ids("users"), lake.ids("orders")) == ([1], [])
    planned = lake.run("plan", "--config", config, "--catalog", lake.catalog("orders"))
    assert "would discard every record: the schema contract" in " ".join(planned.stdout.split())


def test_a_receipt_tells_how_the_columns_have_changed(lake):
    columns = [{"id": {"type": "integer"}, "old": {"type": "string"}}, {"id": {"type": "number"}, "new": {}}]
    told = []
    for number, properties in enumerate(columns):
        catalog = json.loads(Path(lake.catalog("users", mode="append")).read_text())
        catalog["streams"][0]["stream"]["json_schema"]["properties"] = properties
        config = lake.config(format={"format_type": "Parquet"})
        call = ["write", "--config", config, "--catalog", lake.file(f"{number}.json", catalog)]
        told.append(lake.run(*call, stdin=record("users", id=1)).stderr)
    assert "columns" not in told[0]
    assert "columns new: new, columns gone: old, columns with another type: id (" in told[1]
    again = lake.run(*call, "--json", stdin=record("users", id=1))
    assert json.loads(again.stderr)["schema_changes"] is None


def test_a_completed_sync_id_lands_nothing_twice_and_forwards_the_recorded_state(any_lake):
    first = any_lake.write(record("users", id=1) + state("users", 1), "--sync-id", "monday", mode="append")
    again = any_lake.write(
        record("users", id=1) + record("users", id=2) + state("users", 2), "--sync-id", "monday", mode="append"
    )
    assert (first.returncode, again.returncode) == (0, 0)
    assert any_lake.ids() == [1]
    assert [json.loads(each.stdout) for each in (first, again)] == [json.loads(state("users", 1))] * 2
    assert "nothing landed again" in again.stderr


def test_incomplete_streams_are_completed_under_the_same_sync_id(lake):
    lake.write(record("users", id=1), "--sync-id", "x", mode="append")
    both = lake.write(
        record("users", id=1) + record("orders", id=1), "--sync-id", "x", streams=("users", "orders"), mode="append"
    )
    assert both.returncode == 0
    assert (lake.ids("users"), lake.ids("orders")) == ([1], [1])


def test_the_sync_id_is_part_of_object_names_unless_the_worker_sets_another(lake):
    config = lake.config(file_name_pattern="{sync_id}_{part_number}{format_extension}")
    assert lake.write(record("users", id=1), "--config", config, "--sync-id", "tuesday").returncode == 0
    assert lake.data_keys()[0].endswith("tuesday_0.jsonl")
    options = ["--config", config, "--catalog", lake.catalog("users"), "--sync-id", "wednesday"]
    assert lake.run("write", *options, stdin=record("users", id=1), WORKER_JOB_ID="4711").returncode == 0
    assert lake.data_keys()[0].endswith("4711_0.jsonl")


def test_bad_lines_are_quarantined_if_the_settings_allow_it(lake):
    torn = record("users", id=2)[:-20] + "\n"
    config = lake.config(s3dest={"on_bad_record": "quarantine", "max_attempts": 1})
    answer = lake.write(record("users", id=1) + torn + record("users", id=3), "--config", config)
    assert answer.returncode == 0, answer.stderr
    assert lake.ids() == [1, 3]
    (aside,) = [key for key in lake.all_keys() if "/quarantine/" in key]
    assert json.loads(lake.read(aside))["line"] == torn.strip()
    assert "1 bad line quarantined" in answer.stderr


def test_ignored_keys_are_named_once(lake):
    config = lake.config(part_size_mb=10, s3_upload="x")
    answer = lake.write(record("users", id=1), "--config", config, streams=("users", "orders"))
    assert answer.returncode == 0
    assert answer.stderr.count("part_size_mb, s3_upload") == 1


def test_the_report_is_json_on_request(lake):
    answer = lake.write(record("users", id=1, extra="x"), "--json", "--sync-id", "a", streams=("users", "orders"))
    users, orders = map(json.loads, answer.stderr.splitlines())
    assert answer.stdout == ""
    assert (users["stream"], users["rows"], users["read"], users["sync_id"]) == ("users", 1, 1, "a")
    assert users["objects"] == [f"s3://{lake.bucket}/{key}" for key in lake.data_keys()]
    assert (orders["stream"], orders["rows"], orders["objects"]) == ("orders", 0, [])


@pytest.mark.parametrize("words", [("STARTED", "COMPLETE"), ("COMPLETE",)])
def test_a_source_that_reports_complete_is_published(lake, words):
    statuses = "".join(status("users", word) for word in words)
    assert lake.write(record("users", id=1) + statuses).returncode == 0
    assert lake.ids() == [1]


def test_a_stream_that_fails_after_others_were_published_is_named_and_its_state_is_withheld(lake):
    """Another sync of the second stream comes first, so this sync loses that stream at the decision."""
    catalog = lake.catalog("users", "orders", mode="append")
    process = lake.start("write", "--config", lake.config(), "--catalog", catalog, "--sync-id", "late")
    messages = log("begun") + record("users", id=1) + record("orders", id=1) + state("users", 1) + state("orders", 1)
    process.stdin.write(messages.encode())
    process.stdin.flush()
    lake.await_line(process, "begun")
    assert lake.write(record("orders", id=9), "--sync-id", "early", streams=("orders",)).returncode == 0
    stdout, stderr = process.communicate(timeout=60)
    lake.watch(stdout.decode(), stderr.decode())
    assert process.returncode == 1
    assert stdout.decode() == state("users", 1)
    assert b"Sync early of public.orders was published" in stderr
    assert b"Published: public.users. Not published: public.orders." in stderr
    assert (lake.ids("users"), lake.ids("orders")) == ([1], [9])
    assert lake.uploads() == 0


def test_the_first_landing_of_a_renamed_or_moved_stream_says_where_it_may_have_landed_before(lake):
    def report(path: str, name: str = "users", *options: str) -> str:
        config = lake.config(s3_bucket_path=path)
        answer = lake.write(record(name, id=1), "--config", config, *options, streams=(name,))
        assert answer.returncode == 0, answer.stderr
        return answer.stderr

    assert "landed before" not in report("lake/v1", "users", "--owner", "shop")
    moved = report("lake/v2", "users", "--owner", "shop")
    assert f"public.users: it may have landed before as public.users under s3://{lake.bucket}/lake/v1." in moved
    assert "`s3dest retire public.users` there" in moved
    assert "landed before" not in report("lake/v2", "users", "--owner", "shop")
    renamed = json.loads(report("lake/v2", "orders", "--owner", "shop", "--json"))
    assert renamed["left_elsewhere"] == [{"stream": "users", "namespace": "public", "bucket_path": "lake/v2"}]
    assert json.loads(report("lake/v2", "orders", "--owner", "shop", "--json"))["left_elsewhere"] == []
