"""Nothing that a run leaves in Dagster's instance, its logs and metadata, or in the bucket has a value of a private
field, however the stream is defined; and the fields are named where people look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value
from scripted_source import ScriptedSource
from secret_scan import files_under, found, objects_of

from s3dest_dagster import build_stream_assets, stream_asset
from s3dest_dagster.columns.hidden_values import Hasher
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.catalog import read_catalog

KEY = "hush key of the hashes/+="
SECRETS = {"phone": "hush-phone-0815", "mail": "hush-mail@example.org", "ssn": "hush-078-05", "key": KEY}
RECORD = {"id": 1, "phone": SECRETS["phone"], "ssn": SECRETS["ssn"], "person": {"mail": SECRETS["mail"], "city": "Ulm"}}
LANDED = {"id": 1, "ssn": Hasher(KEY).hash(b'"hush-078-05"'), "person": {"mail": "***", "city": "Ulm"}}
FIELDS = {"exclude": ["phone"], "hash": ["ssn"], "mask": ["person.mail"]}
PROPERTIES = {
    "id": {"type": "integer"},
    "phone": {"type": "string"},
    "ssn": {"type": "integer"},
    "person": {"type": "object", "properties": {"mail": {"type": "string"}, "city": {"type": "string"}}},
}


def connector(folder: Path, *, fails: bool = False) -> ScriptedSource:
    broken = json.dumps({"type": "RECORD", "record": {"stream": "users", "emitted_at": 1, "data": RECORD}})[:-2]
    source = ScriptedSource(folder).stream("users", properties=PROPERTIES)
    source = source.records("users", RECORD).prints(broken, json.dumps(RECORD)[9:]).records("users", RECORD)
    return source.exits(1) if fails else source


def from_connector(folder: Path, *, as_one_run: bool = False, fails: bool = False) -> list[dg.AssetsDefinition]:
    source = connector(folder, fails=fails)
    streams = {"users": {"sync_mode": "append", "fields": FIELDS}}
    return build_stream_assets(
        source.source({}), catalog=source.catalog, partitions_def=None, streams=streams, as_one_run=as_one_run
    )


@stream_asset(name="users", sync_mode="append", fields=FIELDS)
def from_function():
    yield from (RECORD, RECORD)


@dg.asset(name="users", metadata={"s3dest/settings": {"fields": FIELDS}, "s3dest/sync_mode": "append"})
def from_metadata():
    return [RECORD, RECORD]


DEFINITIONS: dict[str, Any] = {
    "connector": from_connector,
    "one run of a connector": lambda folder: from_connector(folder, as_one_run=True),
    "a connector that fails": lambda folder: from_connector(folder, fails=True),
    "function": lambda _: [from_function],
    "metadata": lambda _: [from_metadata],
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_nothing_that_a_run_leaves_has_a_hidden_value(lake, tmp_path, capfd, name):
    home, folder = tmp_path / "home", tmp_path / "source"
    home.mkdir()
    folder.mkdir()
    assets = DEFINITIONS[name](folder)
    io = lake.io(hash_key=KEY, on_bad_record="quarantine")
    events = ""
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        for _ in range(2):
            result = lake.materialize(*assets, io=io, instance=instance, raise_on_error=False)
            events += "\n".join(f"{each!r}" for each in instance.all_logs(result.run_id))
        repository = dg.Definitions(assets=assets, resources={"io_manager": io}).get_repository_def()
        places = [
            *files_under(home),
            *objects_of(lake.server, lake.bucket),
            ("events", events.encode()),
            ("output", "".join(capfd.readouterr()).encode()),
            ("code location", serialize_value(RepositorySnap.from_def(repository)).encode()),
            ("definitions", f"{io!r} {io} {[(each, each.metadata_by_key) for each in assets]!r}".encode()),
        ]
    assert found(SECRETS, places) == set()
    assert result.success == ("fails" not in name)
    if not result.success:
        return
    assert lake.rows() == [LANDED] * 4
    landed = result.get_asset_materialization_events()[0].step_materialization_data.materialization
    assert landed.metadata["excluded_fields"].value == {"phone": 2}
    assert landed.metadata["hashed_fields"].value == {"ssn": 2}
    assert landed.metadata["masked_fields"].value == {"person.mail": 2}
    preview = [record.data for record in landed.metadata["preview"].value.records]  # type: ignore[union-attr]
    assert [json.loads(each["person"])["mail"] for each in preview] == ["***"] * 2  # type: ignore[arg-type]


def test_the_columns_of_an_asset_are_those_that_land(tmp_path):
    (users,) = from_connector(tmp_path)
    columns = users.metadata_by_key[users.key]["dagster/column_schema"].columns
    assert {each.name: each.type for each in columns if not each.name.startswith("_")} == {
        "id": "integer",
        "ssn": "string",
        "person": next(each.type for each in columns if each.name == "person"),
    }


def test_a_hash_key_can_come_from_the_environment_and_a_literal_is_kept(lake, monkeypatch):
    monkeypatch.setenv("HASH_KEY", KEY)
    assert lake.materialize(from_function, io=lake.io(hash_key=dg.EnvVar("HASH_KEY"))).success
    assert lake.materialize(from_function, io=lake.io(hash_key=KEY)).success
    with pytest.raises(dg.Failure, match="another hash_key"):
        lake.materialize(from_function, io=lake.io(hash_key=KEY + "2"))
    assert lake.rows() == [LANDED] * 4


def test_fields_that_the_configured_catalog_leaves_out_do_not_land(lake, tmp_path):
    source = ScriptedSource(tmp_path).stream("users", properties=PROPERTIES).records("users", RECORD)
    configured = json.loads(json.dumps(source.catalog))
    del configured["streams"][0]["json_schema"]["properties"]["phone"]
    del configured["streams"][0]["json_schema"]["properties"]["ssn"]
    del configured["streams"][0]["json_schema"]["properties"]["person"]["properties"]["mail"]
    known = source.source({}, catalog=read_catalog(source.catalog))
    (users,) = build_stream_assets(known, catalog=configured, partitions_def=None)
    assert lake.materialize(users).success
    assert lake.rows() == [{"id": 1, "person": {"city": "Ulm"}}]


def test_settings_of_streams_in_a_connectors_config_are_refused_where_streams_are_assets(lake):
    config = {
        "s3_bucket_name": "b",
        "s3_bucket_path": "",
        "s3_bucket_region": "",
        "format": {"format_type": "JSONL"},
        "s3dest": {"streams": {"users": {"fields": FIELDS}}},
    }
    with pytest.raises(SettingsError, match="here streams are assets"):
        type(lake.io()).from_connector_config(config)
