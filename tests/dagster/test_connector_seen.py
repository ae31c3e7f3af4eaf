"""What a run shows of a connector: its log, its errors part by part, its progress, its state, and its version."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from airbyte_messages import descriptor, message_line
from scripted_source import ScriptedSource

from s3dest_dagster import build_stream_assets

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
