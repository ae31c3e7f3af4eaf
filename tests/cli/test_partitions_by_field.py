"""The command on a stream with `partition_by`: what `write`, `ls` and `plan` tell about its directories."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import duckdb
import fastavro
import pytest

RECORDS = [
    {"id": 1, "name": "eu"},
    {"id": 2, "name": "eu"},
    {"id": 3, "name": "a/b"},
    {"id": 4, "name": None},
]


def messages(records: list[dict[str, Any]]) -> str:
    rows = ({"stream": "users", "namespace": "public", "emitted_at": 1, "data": each} for each in records)
    return "".join(json.dumps({"type": "RECORD", "record": row}) + "\n" for row in rows)


def settings(**own: Any) -> dict[str, Any]:
    by = {"streams": {"public.users": {"partition_by": [{"field": "name", "name": "region"}]}}}
    return {
        "s3_path_format": "${NAMESPACE}/${STREAM_NAME}/${FIELDS}/",
        "s3dest": {"max_attempts": 1, "encode_workers": 1, **by},
        **own,
    }


@pytest.fixture
def config(lake):
    path = lake.config(**settings())
    answer = lake.write(messages(RECORDS), "--config", path, "--json")
    assert answer.returncode == 0, answer.stderr
    summary = json.loads(answer.stderr.splitlines()[-1])["partitions"]
    assert (summary["directories"], summary["objects"], summary["null_rows"]) == (3, 3, {"region": 1})
    assert 0 < summary["smallest"] <= summary["median"]
    return path


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (["region=eu"], [2]),
        (["region=a/b"], [1]),
        (["region="], [1]),
        (["region=eu", "region=a/b"], [1, 2]),
        ([], [1, 1, 2]),
    ],
)
def test_ls_lists_the_objects_of_a_directory(lake, config, where, rows):
    options = [part for each in where for part in ("--where", each)]
    listed = json.loads(lake.run("ls", "--config", config, "--json", *options).stdout)
    assert sorted(each["rows"] for each in listed) == rows
    assert all(set(each["partition_values"]) == {"region"} for each in listed)


@pytest.mark.parametrize("where", ["region", "=eu", ""])
def test_ls_refuses_a_condition_without_a_name_or_a_value(lake, config, where):
    answer = lake.run("ls", "--config", config, "--where", where)
    assert answer.returncode == 2
    assert f"where {where!r} lacks a name or an '='" in answer.stderr


@pytest.mark.parametrize(
    ("where", "hint"),
    [(["regoin=eu"], "Did you mean 'region'?"), (["region=eu", "dt=2026"], "It has: region."), (["REGION =eu"], "")],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_ls_refuses_a_directory_that_no_object_has(lake, config, where, hint, options):
    conditions = [part for each in where for part in ("--where", each)]
    answer = lake.run("ls", "--config", config, *conditions, *options)
    assert answer.returncode == 2
    name = where[-1].partition("=")[0]
    assert f"where names {name!r}, which is no directory of the listed streams. {hint}" in answer.stderr
    assert answer.stdout == ""


def test_ls_refuses_a_directory_if_nothing_landed_by_field(lake):
    lake.write(messages(RECORDS), "--config", lake.config())
    answer = lake.run("ls", "--config", lake.config(), "--where", "region=eu")
    assert answer.returncode == 2
    assert "which is no directory of the listed streams. Nothing landed there by `partition_by`." in answer.stderr


def test_ls_lists_nothing_if_nothing_has_landed_yet(lake):
    answer = lake.run("ls", "--config", lake.config(), "--where", "region=eu")
    assert (answer.returncode, answer.stdout) == (0, "")


def test_ls_lists_no_object_for_a_value_that_has_none(lake, config):
    answer = lake.run("ls", "--config", config, "--where", "region=mars")
    assert (answer.returncode, answer.stdout) == (0, "")


def test_write_tells_the_directories_and_the_rows_without_a_value(lake):
    answer = lake.write(messages(RECORDS), "--config", lake.config(**settings()))
    assert "3 directories, the smallest object" in answer.stderr
    assert "1 row without region" in answer.stderr


@pytest.mark.parametrize("format_type", ["JSONL", "Parquet", "CSV", "Avro"])
def test_plan_shows_a_table_and_queries_for_the_layout(lake, format_type):
    format_ = {"format_type": format_type, "flattening": "Root level flattening"}
    path = lake.config(**settings(format=format_ if format_type != "Avro" else {"format_type": "Avro"}))
    planned = json.loads(lake.run("plan", "--config", path, "--catalog", lake.catalog("users"), "--json").stdout)
    (stream,) = planned["streams"]
    table = stream["readers"]["Athena"]
    root = f"s3://{lake.bucket}/data_output_path/public/users/"
    assert f"LOCATION '{root}'" in table
    assert "PARTITIONED BY (`region` string)" in table
    assert f"'storage.location.template' = '{root}region=${{region}}/'" in table
    assert "'projection.region.type' = 'injected'" in table
    emitted_at = "timestamp" if format_type in ("Parquet", "Avro") else "string"
    assert f"`_airbyte_emitted_at` {emitted_at}" in table
    assert stream["first_key"].startswith("data_output_path/public/users/region=")
    assert ("DuckDB" in stream["readers"]) == (format_type != "Avro")
    assert ("Polars" in stream["readers"]) == (format_type == "Parquet")


def test_the_table_of_avro_objects_has_the_schema_by_which_athena_reads_them(lake):
    """Athena takes no schema from the objects; a directory's column may not be in it."""
    own = settings(format={"format_type": "Avro"})
    own["s3dest"]["streams"]["public.users"]["partition_by"] = ["name"]
    lake.write(messages(RECORDS), "--config", lake.config(**own))
    planned = json.loads(
        lake.run("plan", "--config", lake.config(**own), "--catalog", lake.catalog("users"), "--json").stdout
    )
    table = planned["streams"][0]["readers"]["Athena"]
    literal = re.search(r"'avro.schema.literal' = '(.*)'\)\nSTORED AS AVRO", table)
    assert literal is not None
    schema = json.loads(literal[1].replace(r"\\", "\\"))
    bodies = [lake.read(key) for key in lake.data_keys()]
    rows = [row for body in bodies for row in fastavro.reader(io.BytesIO(body), reader_schema=schema)]
    assert sorted(row["id"] for row in rows) == [1, 2, 3, 4]
    assert not any("name" in row for row in rows)


def test_the_query_of_the_plan_reads_what_has_landed(lake, tmp_path):
    path = lake.config(**settings(format={"format_type": "Parquet"}))
    lake.write(messages(RECORDS), "--config", path)
    planned = json.loads(lake.run("plan", "--config", path, "--catalog", lake.catalog("users"), "--json").stdout)
    client = lake.server.client()
    for each in client.list_objects_v2(Bucket=lake.bucket, Prefix="data_output_path/public/")["Contents"]:
        (tmp_path / each["Key"]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each["Key"]).write_bytes(client.get_object(Bucket=lake.bucket, Key=each["Key"])["Body"].read())
    query = planned["streams"][0]["readers"]["DuckDB"].replace(f"s3://{lake.bucket}", str(tmp_path))
    found = duckdb.sql(f"select id, region from ({query}) order by id").fetchall()
    assert found == [(1, "eu"), (2, "eu"), (3, "a/b"), (4, None)]


def test_a_template_without_directories_gets_no_queries(lake):
    planned = json.loads(
        lake.run("plan", "--config", lake.config(), "--catalog", lake.catalog("users"), "--json").stdout
    )
    assert planned["streams"][0]["readers"] == {}


def test_many_small_objects_are_told_with_the_cure(lake):
    path = lake.config(**settings())
    many = [{"id": number, "name": f"region {number}"} for number in range(12)]
    answer = lake.write(messages(many), "--config", path)
    assert "Half of its 12 objects in 12 directories have at most" in answer.stderr
    assert "month in place of day" in answer.stderr
    planned = lake.run("plan", "--config", path, "--catalog", lake.catalog("users")).stdout
    assert "Half of its 12 objects in 12 directories have at most" in planned


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_a_field_that_cannot_name_directories_is_refused_before_any_record(lake, verb):
    own = settings()
    own["s3dest"]["streams"]["public.users"]["partition_by"] = ["regoin"]
    answer = lake.run(verb, "--config", lake.config(**own), "--catalog", lake.catalog("users"))
    assert answer.returncode != 0
    assert "partition_by names regoin, which is not known there. Known are id, name." in answer.stdout + answer.stderr


def test_half_of_a_surrogate_pair_names_no_directory_and_is_refused_as_what_it_is(lake):
    broken = messages([{"id": 1, "name": "SURROGATE"}]).replace("SURROGATE", "a\\ud800")
    answer = lake.write(broken + messages(RECORDS), "--config", lake.config(**settings()))
    assert answer.returncode != 0
    assert "half of a surrogate pair" in answer.stderr
    assert "DecodeError" not in answer.stderr
