"""Failures: the message that people see, what a retry does, and what the bucket holds afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from s3dest_dagster import errors, stream_asset
from s3dest_dagster.dagster.failures import as_dagster_failures, failure


def failing_after(number: int) -> Iterator[dict[str, Any]]:
    for each in range(number):
        yield {"id": each}
    raise RuntimeError("the source went away")


def test_a_failing_source_leaves_the_old_data_and_no_upload(lake):
    bodies = iter([[{"id": 7}], failing_after(100_000)])

    @stream_asset
    def people():
        return next(bodies)

    lake.materialize(people)
    before = lake.all_keys()
    with pytest.raises(RuntimeError, match="went away"):
        lake.materialize(people)
    assert lake.all_keys() == before
    assert lake.ids() == [7]
    assert lake.uploads() == 0


@pytest.mark.parametrize("sync_mode", ["append", "full_refresh"])
def test_retries_land_once(lake, sync_mode):
    attempts = []

    @stream_asset(sync_mode=sync_mode, retry_policy=dg.RetryPolicy(max_retries=2))
    def people():
        attempts.append(1)
        return failing_after(3) if len(attempts) < 3 else [{"id": 1}]

    assert lake.materialize(people).success
    assert len(attempts) == 3
    assert lake.ids() == [1]


def test_a_step_that_failed_after_it_had_landed_does_not_land_twice(lake):
    """A step may die between the publication and the event that Dagster writes."""
    attempts = []
    io = lake.io()

    class Interrupted(dg.IOManager):
        def handle_output(self, context, obj):
            io.handle_output(context, obj)
            attempts.append(1)
            if len(attempts) == 1:
                raise RuntimeError("killed")

        def load_input(self, context):
            raise NotImplementedError

    @stream_asset(sync_mode="append", retry_policy=dg.RetryPolicy(max_retries=1))
    def people():
        return [{"id": len(attempts)}]

    assert lake.materialize(people, io=Interrupted()).success
    assert lake.ids() == [0]


def test_two_runs_of_an_append_stream_add_up(lake):
    @stream_asset(sync_mode="append")
    def people():
        return [{"id": 1}]

    lake.materialize(people)
    lake.materialize(people)
    assert lake.ids() == [1, 1]


def test_an_error_of_the_library_is_one_sentence_with_its_location(lake):
    @stream_asset(partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
    def people():
        return [{"id": 1}, 5]

    result = lake.materialize(people, partition_key="2026-01-02", raise_on_error=False)
    shown = result.failure_data_for_node("people")
    assert shown.user_failure_data.description.startswith("people: Record 2 is ")
    assert shown.user_failure_data.description.endswith(" Help: docs/troubleshooting.md#recorderror")
    metadata = {name: value.value for name, value in shown.user_failure_data.metadata.items()}
    assert "on_bad_record" in metadata.pop("next_step")
    assert metadata == {"error": "RecordError", "stream": "people", "partition": "2026-01-02"}


def test_a_missing_bucket_is_named(lake):
    @stream_asset
    def people():
        return [{"id": 1}]

    io = lake.io().from_connector_config(
        {
            "s3_bucket_name": "lake-missing",
            "s3_bucket_path": "",
            "s3_bucket_region": "us-east-1",
            "s3_endpoint": lake.server.endpoint,
            "access_key_id": lake.server.access_key_id,
            "secret_access_key": lake.server.secret_access_key,
            "format": {"format_type": "JSONL"},
        }
    )
    with pytest.raises(dg.Failure, match="lake-missing"):
        lake.materialize(people, io=io)


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (errors.SettingsError, False),
        (errors.TemplateError, False),
        (errors.MissingExtraError, False),
        (errors.SchemaError, False),
        (errors.SourceError, True),
        (errors.StorageError, True),
        (errors.CommitError, True),
    ],
)
def test_only_temporary_errors_are_retried(error, retried):
    assert failure(error("It went wrong.")).allow_retries is retried


def test_wrong_settings_are_not_retried(lake):
    attempts = []

    @stream_asset(retry_policy=dg.RetryPolicy(max_retries=3))
    def people():
        attempts.append(1)
        return iter([("2026-01-01", [])])

    assert not lake.materialize(people, raise_on_error=False).success
    assert len(attempts) == 1


def test_the_location_of_an_error_becomes_metadata():
    error = errors.AccessDeniedError("S3 denied.", stream="users", partition="eu", key="a/b", action="s3:PutObject")
    metadata = {name: value.value for name, value in failure(error).metadata.items()}
    assert metadata == {
        "error": "AccessDeniedError",
        "stream": "users",
        "partition": "eu",
        "key": "a/b",
        "action": "s3:PutObject",
        "next_step": "Add the action to the identity's policy. `s3dest check` names all that are missing.",
    }


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
)
def test_every_error_names_the_next_step(kind):
    assert len(failure(kind("It went wrong.")).metadata["next_step"].value.split()) > 1 or kind is errors.S3DestError


def test_foreign_errors_pass_unchanged():
    with pytest.raises(KeyError), as_dagster_failures():
        raise KeyError("theirs")


def test_outputs_of_plain_ops_are_refused_clearly(lake):
    @dg.op
    def step():
        return [{"id": 1}]

    @dg.job(resource_defs={"io_manager": lake.io()})
    def job():
        step()

    with pytest.raises(dg.Failure, match="asset"):
        job.execute_in_process()
