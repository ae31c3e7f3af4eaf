"""The preview of a materialization: the first records, limited in size, without secrets, and optional."""

from __future__ import annotations

import json

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from s3dest_dagster import Stream, stream_asset
from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.dagster.preview import MAX_BYTES, MAX_COLUMNS, MAX_ROWS, Preview
from s3dest_dagster.errors import SettingsError


@pytest.fixture
def shown(lake, metadata_of):
    """Returns the preview of what an asset lands, as a list of records, or `None` without a preview."""

    def of(records, json_schema=None, metadata=None, **settings):
        @stream_asset(json_schema=json_schema, metadata=metadata)
        def people():
            return records

        return metadata_of(lake.materialize(people, io=lake.io(**settings)), "people").get("preview")

    return of


def test_the_first_records_are_shown_unchanged(shown):
    records = [{"id": number, "name": f"person {number}", "tags": ["a", None]} for number in range(2000)]
    assert shown(records) == [
        {"id": str(number), "name": f"person {number}", "tags": '["a", null]'} for number in range(5)
    ]


def test_the_setting_limits_the_number_of_rows(shown):
    assert len(shown([{"id": number} for number in range(2 * MAX_ROWS)], preview_rows=MAX_ROWS)) == MAX_ROWS


def test_the_preview_can_be_disabled_for_everything_or_for_one_stream(shown):
    assert shown([{"id": 1}], preview_rows=0) is None
    assert shown([{"id": 1}], metadata={"s3dest/preview_rows": 0}) is None
    assert shown([{"id": 1}], metadata={"s3dest/preview_rows": 1}, preview_rows=0) == [{"id": "1"}]


@pytest.mark.parametrize("rows", [-1, MAX_ROWS + 1])
def test_an_impossible_number_of_rows_is_refused(lake, rows):
    with pytest.raises(SettingsError) as raised:
        lake.io(preview_rows=rows)
    assert raised.value.setting == "preview_rows"


def test_a_wrong_number_of_rows_on_the_asset_is_refused_and_nothing_lands(lake):
    @stream_asset(metadata={"s3dest/preview_rows": "all"})
    def people():
        return [{"id": 1}]

    assert not lake.materialize(people, raise_on_error=False).success
    assert lake.data_keys() == []


def test_arrow_columns_are_shown_and_missing_fields_are_empty(shown):
    assert shown(pa.table({"id": [1, 2], "name": ["one", None]})) == [
        {"id": "1", "name": "one"},
        {"id": "2", "name": ""},
    ]
    assert shown([{"id": 1}, {"name": "two"}]) == [{"id": "1", "name": ""}, {"id": "", "name": "two"}]


def test_the_size_of_cells_and_the_number_of_columns_are_limited(shown):
    long = {letter: letter * 10_000 for letter in "xé🙂"}
    record = {**long, "deep": {"list": [long]}, **{f"field {number}": number for number in range(200)}}
    (row,) = shown([record])
    for letter in long:
        assert row[letter].startswith(letter * 20)
        assert row[letter].endswith("…")
    assert all(len(cell.encode()) <= MAX_BYTES for cell in row.values())
    assert len(row) == MAX_COLUMNS + 1
    assert row["…"] == f"{204 - MAX_COLUMNS} more columns"


def test_the_length_of_names_is_limited(shown):
    ((name, cell),) = shown([{"n" * 1_000_000: 1}])[0].items()
    assert (name[:20], name[-1], cell) == ("n" * 20, "…", "1")
    assert len(name.encode()) <= MAX_BYTES


SECRET = "s3cr3t-value"


def test_a_field_with_the_name_of_a_secret_is_masked(shown):
    secrets = {
        "password": SECRET,
        "apiKey": SECRET,
        "API-Key": SECRET,
        "access_token": SECRET,
        "client-secret": [SECRET],
        "user": {"credentials": {"anything": SECRET}},
        "users": [{"name": "a", "passphrase": SECRET}],
        "source": f"postgres://reader:{SECRET}@db/shop",
        "accesstoken": SECRET,
        "auth": {"basic": SECRET},
        "text": json.dumps([{"config": {"password": SECRET}}]),
    }
    (row,) = shown([{"id": 1, **secrets}])
    assert SECRET not in json.dumps(row)
    assert [name for name in secrets if "****" not in row[name]] == []
    assert (row["id"], row["users"], row["source"]) == (
        "1",
        '[{"name": "a", "passphrase": "****"}]',
        "postgres://reader:****@db/shop",
    )


def test_a_field_that_the_schema_declares_secret_is_masked(shown):
    marks = {"airbyte": {"airbyte_secret": True}, "write": {"writeOnly": True}, "format": {"format": "password"}}
    fields = {name: {"type": "string", **mark} for name, mark in marks.items()}
    within = {"type": "object", "properties": fields}
    schema = {
        "properties": {
            **fields,
            "plain": {"type": "string"},
            "deep": within,
            "list": {"type": "array", "items": within},
        }
    }
    record = dict.fromkeys(fields, SECRET)
    (row,) = shown([{**record, "plain": "p", "deep": record, "list": [record]}], json_schema=schema)
    struck = dict.fromkeys(fields, "****")
    assert row == {**struck, "plain": "p", "deep": json.dumps(struck), "list": json.dumps([struck])}


def test_secrets_are_also_declared_in_unions_and_by_references(shown):
    secret = {"type": "string", "airbyte_secret": True}
    within = {"type": "object", "properties": {"pem": {"anyOf": [{"type": "null"}, secret]}}}
    schema = {
        "definitions": {"login": within, "key/pair": within},
        "properties": {
            "optional": {"oneOf": [{"type": "null"}, secret]},
            "object": {"oneOf": [{"type": "null"}, {"allOf": [within]}]},
            "referred": {"$ref": "#/definitions/login"},
            "escaped": {"$ref": "#/definitions/key~1pair"},
            "listed": {"type": "array", "items": {"$ref": "#/definitions/login"}},
            "plain": {"oneOf": [{"type": "null"}, {"type": "string"}]},
        },
    }
    one = {"pem": SECRET}
    (row,) = shown(
        [{"optional": SECRET, "object": one, "referred": one, "escaped": one, "listed": [one], "plain": "p"}],
        json_schema=schema,
    )
    struck = '{"pem": "****"}'
    assert row == {
        "optional": "****",
        "object": struck,
        "referred": struck,
        "escaped": struck,
        "listed": f"[{struck}]",
        "plain": "p",
    }


def test_a_text_that_is_not_json_or_has_no_secret_is_shown_unchanged(shown):
    record = {"a": '{"id":  1}', "b": "[1, 2", "c": "{}", "d": "[see below]"}
    assert shown([record]) == [record]


def test_names_that_only_contain_such_a_word_are_not_masked(shown):
    record = {"author": "Ada", "passenger": "Bob", "monkey": "c", "tokenized": "d", "key": "e"}
    assert shown([record]) == [record]


def test_a_record_that_cannot_be_shown_does_not_fail_the_landing():
    preview = Preview(Stream(name="moments"), 5)
    moments = pa.record_batch({"at": pa.array([2**62], pa.timestamp("s"))})
    batch = ArrowBatch(moments, np.zeros(1, np.int64))
    preview.add(batch)
    assert preview.metadata() == {}


def test_each_partition_of_a_run_has_its_own_preview(lake, metadata_of):
    @stream_asset(
        partitions_def=dg.StaticPartitionsDefinition(["eu", "us"]), backfill_policy=dg.BackfillPolicy.single_run()
    )
    def people():
        return {"eu": [{"id": "e"}], "us": [{"id": "u"}]}

    tags = {"dagster/asset_partition_range_start": "eu", "dagster/asset_partition_range_end": "us"}
    events = lake.materialize(people, tags=tags).get_asset_materialization_events()
    shown = {each.partition: metadata_of(each.materialization.metadata)["preview"] for each in events}
    assert shown == {"eu": [{"id": "e"}], "us": [{"id": "u"}]}
