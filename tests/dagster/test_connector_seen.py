"""What a run shows of a connector: its log, its errors part by part, its progress, its state, and its version."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest
from airbyte_messages import descriptor, message_line
from fake_docker import FakeDocker
from scripted_source import ScriptedSource

from s3dest_dagster import AirbyteSource, build_stream_assets
from s3dest_dagster.printable import MASK

SECRET = "hush-hush-42"


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    return ScriptedSource(tmp_path)


def assets_of(scripted: ScriptedSource, config: Any = None, *, as_one_run: bool = False, **settings: Any) -> list[Any]:
    source = scripted.source(config, **settings)
    return build_stream_assets(
        source, catalog=scripted.catalog, partitions_def=None, as_one_run=as_one_run, streams=modes(scripted)
    )


def modes(scripted: ScriptedSource) -> dict[str, str]:
    return {stream["name"]: "append" for stream in scripted.catalog["streams"]}


def log_of(lake, *assets: Any) -> list[tuple[int, str]]:
    """The level and text of every line of a run's log."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(*assets, instance=instance, raise_on_error=False)
        return [(each.level, each.user_message) for each in instance.all_logs(result.run_id)]


# The log


def test_each_level_of_the_protocol_is_a_level_of_the_run_log(lake, scripted):
    scripted.stream("users").records("users", {"id": 1})
    levels = {"FATAL": 50, "ERROR": 40, "WARN": 30, "INFO": 20, "DEBUG": 10, "TRACE": 10}
    for level in levels:
        scripted.log(level, f"a line of {level}")
    entries = {text: level for level, text in log_of(lake, *assets_of(scripted))}
    assert {level: entries[f"a line of {level}"] for level in levels} == levels


def test_a_status_is_logged_once_however_often_the_source_repeats_it(lake, scripted):
    scripted.stream("users").status("users", "STARTED")
    for _ in range(3):
        scripted.status("users", "RUNNING")
    scripted.records("users", {"id": 1}).status("users", "COMPLETE")
    lines = [text for _, text in log_of(lake, *assets_of(scripted)) if "for the stream users" in text]
    assert lines == [
        f"The source reported {status} for the stream users." for status in ("STARTED", "RUNNING", "COMPLETE")
    ]


def estimate(scripted: ScriptedSource, stream: str | None, rows: int, nbytes: int) -> ScriptedSource:
    name = {} if stream is None else descriptor(stream, None)
    content = {"type": "SYNC" if stream is None else "STREAM", **name, "row_estimate": rows, "byte_estimate": nbytes}
    return scripted.prints(message_line("TRACE", "trace", {"type": "ESTIMATE", "emitted_at": 1.5, "estimate": content}))


@pytest.mark.parametrize("as_one_run", [False, True])
def test_an_estimate_is_logged_with_its_records_and_its_size(lake, scripted, as_one_run):
    scripted.stream("users")
    estimate(scripted, "users", 5000, 2_000_000)
    estimate(scripted, None, 9000, 3_000_000).records("users", {"id": 1})
    texts = [text for _, text in log_of(lake, *assets_of(scripted, as_one_run=as_one_run))]
    assert "The source expects about 5,000 records and 2.0 MB of users." in texts
    assert "The source expects about 9,000 records and 3.0 MB of all streams." in texts
    assert lake.ids() == [1]


# Errors


def failure_of(lake, scripted: ScriptedSource, **settings: Any) -> dg.Failure:
    with pytest.raises(dg.Failure) as caught:
        lake.materialize(*assets_of(scripted, **settings))
    return caught.value


@pytest.mark.parametrize("as_one_run", [False, True])
def test_an_error_of_the_connector_is_shown_part_by_part(lake, scripted, as_one_run):
    scripted.stream("users").error(
        "The quota is used up.",
        f"429 for token {SECRET}",
        stack_trace=f"Traceback: get(token={SECRET})",
        failure_type="transient_error",
        stream_descriptor=descriptor("users", None),
    ).exits(1)
    failure = failure_of(lake, scripted, config={"token": SECRET}, as_one_run=as_one_run)
    shown = {name: value.value for name, value in failure.metadata.items()}
    assert shown["error"] == "ConnectorError"
    assert shown["failure_type"] == "transient_error"
    assert shown["connector_message"] == "The quota is used up."
    assert shown["internal_message"] == "429 for token ****"
    assert shown["stack_trace"] == "Traceback: get(token=****)"
    assert shown["stream"] == "users"
    assert failure.allow_retries
    assert SECRET not in f"{failure.description}{shown}"


@pytest.mark.parametrize(("kind", "attempts"), [("config_error", 1), ("transient_error", 3), ("system_error", 3)])
@pytest.mark.parametrize("as_one_run", [False, True])
def test_only_an_error_of_the_config_is_not_retried(lake, scripted, kind, attempts, as_one_run):
    scripted.stream("users").error("It went wrong.", failure_type=kind)
    made = build_stream_assets(
        scripted.source(),
        catalog=scripted.catalog,
        partitions_def=None,
        as_one_run=as_one_run,
        retry_policy=dg.RetryPolicy(max_retries=2),
    )
    result = lake.materialize(*made, raise_on_error=False)
    assert not result.success
    assert len(scripted.calls("read")) == attempts


def test_a_config_error_says_to_correct_the_config_of_the_connector(lake, scripted):
    scripted.stream("users").error("The key is wrong.", failure_type="config_error")
    next_step = failure_of(lake, scripted).metadata["next_step"].value
    assert next_step.startswith("Correct the connector's config")


def test_a_long_stack_trace_is_shown_by_its_end(lake, scripted):
    scripted.stream("users").error("It broke.", stack_trace="x" * 50_000 + "the end")
    trace = failure_of(lake, scripted).metadata["stack_trace"].value
    assert len(trace) == 8000
    assert trace.endswith("the end")


# The state


@pytest.mark.parametrize("as_one_run", [False, True])
def test_the_state_and_its_change_are_on_the_materialization(lake, scripted, metadata_of, as_one_run):
    scripted.stream("users").counting("users", until=2)
    made = assets_of(scripted, as_one_run=as_one_run)
    first = metadata_of(lake.materialize(*made), made[0].op.name)
    assert first["state"] == {"at": 2}
    assert "state_changes" not in first
    scripted.on("read").records("users", {"id": 3}).state("users", {"at": 3, "page": None})
    scripted.source()
    second = metadata_of(lake.materialize(*made), made[0].op.name)
    assert second["state"] == {"at": 3, "page": None}
    assert second["state_changes"] == {"at": "2 → 3", "page": "nothing → null"}


def state_shown(lake, scripted: ScriptedSource, metadata_of, state: dict[str, Any], config: dict[str, Any]) -> Any:
    scripted.stream("users").records("users", {"id": 1}).state("users", state)
    (made,) = assets_of(scripted, config)
    return metadata_of(lake.materialize(made), made.op.name)["state"]


def test_no_secret_of_the_config_is_in_the_state(lake, scripted, metadata_of):
    config = {"password": SECRET, "url": "https://me:s3cr3t-word@host/"}
    state = {"at": f"token={SECRET}", SECRET: 1, "next_url": "https://me:other-word@host/", "access_token": "abc"}
    assert state_shown(lake, scripted, metadata_of, state, config) == {
        "at": "token=****",
        "****": 1,
        "next_url": "https://me:****@host/",
        "access_token": "****",
    }
    assert scripted.calls("spec") == []


def test_what_the_specification_marks_is_secret_at_any_depth(lake, scripted, metadata_of):
    marked = {"airbyte_secret": True}
    branches = {"oneOf": [{"properties": {"pin": marked}}, {"properties": {"other": {}}}]}
    schema = {"properties": {"login": branches, "shards": {"items": {"properties": {"seed": marked}}}, "city": {}}}
    scripted.on("spec").prints(message_line("SPEC", "spec", {"connectionSpecification": schema}))
    scripted.on("read")
    config = {"login": {"pin": "blue horse"}, "shards": [{"seed": 8_675_309}], "city": "Amsterdam"}
    state = {"from": "blue horse, Amsterdam", "seed": 8_675_309, "text": "8675309!"}
    assert state_shown(lake, scripted, metadata_of, state, config) == {
        "from": "****, Amsterdam",
        "seed": "****",
        "text": "****!",
    }
    assert len(scripted.calls("spec")) == 1


def test_without_a_specification_every_value_of_the_config_is_secret(lake, scripted, metadata_of):
    scripted.on("spec").exits(1)
    scripted.on("read")
    shown = state_shown(lake, scripted, metadata_of, {"from": "Amsterdam"}, {"city": "Amsterdam"})
    assert shown == {"from": "****"}


@pytest.mark.parametrize("as_one_run", [False, True])
def test_the_state_of_a_partition_is_shown_though_the_config_names_the_slice(lake, scripted, metadata_of, as_one_run):
    scripted.stream("users").records("users", {"id": 1}).state("users", {"at": "2026-01-06", "key": SECRET})
    config = {"from": "{{ partition_start_date }}", "password": SECRET}
    made = build_stream_assets(
        scripted.source(config),
        catalog=scripted.catalog,
        partitions_def=dg.DailyPartitionsDefinition("2026-01-01"),
        as_one_run=as_one_run,
    )
    for _ in range(2):
        result = lake.materialize(*made, partition_key="2026-01-05")
        (event,) = result.get_asset_materialization_events()
        assert metadata_of(event.materialization.metadata)["state"] == {"at": "2026-01-06", "key": MASK}


def test_a_long_state_is_cut(lake, scripted, metadata_of):
    shown = state_shown(lake, scripted, metadata_of, {"seen": ["x" * 10] * 1000}, {})
    assert len(shown) == 5001
    assert shown.startswith('{"seen": ["xxxxxxxxxx"')


def test_a_state_of_all_streams_shows_what_concerns_the_stream(lake, scripted, metadata_of):
    entries = [
        {"stream_descriptor": {"name": "users"}, "stream_state": {"at": 1}},
        {"stream_descriptor": {"name": "orders"}, "stream_state": {"at": 2}},
    ]
    state = {"type": "GLOBAL", "global": {"shared_state": {"lsn": 7}, "stream_states": entries}}
    scripted.stream("users").stream("orders").records("users", {"id": 1}).records("orders", {"id": 2})
    scripted.prints(json.dumps({"type": "STATE", "state": state}))
    (made,) = assets_of(scripted, as_one_run=True)
    shown = lake.materialize(made).asset_materializations_for_node(made.op.name)
    assert [each.metadata["state"].value for each in shown] == [
        {"shared_state": {"lsn": 7}, "stream_state": {"at": 1}},
        {"shared_state": {"lsn": 7}, "stream_state": {"at": 2}},
    ]


# The version


def test_the_version_of_an_image_is_shown_and_changes_the_code_version(
    lake, scripted, metadata_of, tmp_path, monkeypatch
):
    scripted.stream("users").records("users", {"id": 1})
    scripted.source()
    docker = FakeDocker(tmp_path, scripted.command, label="2.1.7")
    monkeypatch.setenv("PATH", docker.path)

    def users(image: str, **settings: Any) -> dg.AssetsDefinition:
        source = AirbyteSource(f"docker://{image}")
        (made,) = build_stream_assets(source, catalog=scripted.catalog, partitions_def=None, **settings)
        return made

    def code_version(made: dg.AssetsDefinition) -> str | None:
        return made.code_versions_by_key[made.key]

    made = users("airbyte/source-shop:latest")
    shown = metadata_of(lake.materialize(made), made.op.name)
    assert (shown["connector"], shown["connector_version"]) == ("source-shop", "2.1.7")
    old, new = users("airbyte/source-shop:2.1.0"), users("airbyte/source-shop:2.2.0")
    assert code_version(old) == code_version(users("airbyte/source-shop:2.1.0"))
    assert code_version(old) != code_version(new)
    assert code_version(users("airbyte/source-shop:2.1.0", code_version="mine")) == "mine"
    assert code_version(users("airbyte/source-shop:2.1.0", as_one_run=True, code_version="mine")) == "mine"


def test_a_connector_without_a_version_is_shown_by_its_name(lake, scripted, metadata_of):
    scripted.stream("users").records("users", {"id": 1})
    (made,) = assets_of(scripted)
    shown = metadata_of(lake.materialize(made), made.op.name)
    assert shown["connector"].startswith("python")
    assert "connector_version" not in shown
