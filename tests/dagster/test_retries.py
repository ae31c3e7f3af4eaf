"""Dagster's retry policies with landings: what fails once lands at the next attempt, exactly once, and the failure
is logged."""

from __future__ import annotations

from functools import partial
from typing import Any

import dagster as dg
import pytest
from botocore.exceptions import ClientError
from scripted_source import ScriptedSource

from s3dest_dagster import build_stream_assets, stream_asset

ONCE = dg.RetryPolicy(max_retries=1)
DAILY = dg.DailyPartitionsDefinition("2026-01-01")
CALLS = ["put_object", "create_multipart_upload", "complete_multipart_upload"]


class Denied:
    """An S3 resource that denies the first call of one kind for data, or, of puts, the first of a segment."""

    def __init__(self, client: Any, call: str) -> None:
        self._client, self._call = client, call
        self.denials = 0

    def get_client(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return partial(self._denied, method) if name == self._call and not self.denials else method

    def _denied(self, method: Any, **call: Any) -> Any:
        matches = "/segments/" in call["Key"] if self._call == "put_object" else not call["Key"].startswith("_s3dest/")
        if not matches:
            return method(**call)
        self.denials += 1
        raise ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, self._call)


def logged_retries(instance: dg.DagsterInstance, run_id: str) -> list[Any]:
    """The failed attempts in the log."""
    events = [each.dagster_event for each in instance.all_logs(run_id) if each.dagster_event]
    return [each.event_specific_data.error for each in events if each.event_type_value == "STEP_UP_FOR_RETRY"]


@pytest.mark.parametrize("sync_mode", ["append", "full_refresh"])
@pytest.mark.parametrize("call", CALLS)
def test_everything_lands_once_in_a_bucket_that_fails_once(lake, call, sync_mode):
    """What was published before the failure is not landed again."""
    s3 = Denied(lake.server.client(), call)
    attempts = []

    @stream_asset(sync_mode=sync_mode, retry_policy=ONCE)
    def people():
        attempts.append(1)
        return [{"id": 1}, {"id": 2}]

    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(people, io=lake.io(s3=s3), instance=instance)
        (logged,) = logged_retries(instance, result.run_id)
    assert (len(attempts), s3.denials) == (2, 1)
    assert lake.ids() == [1, 2]
    assert "s3:PutObject" in str(logged)


def test_a_connector_that_fails_once_is_run_again_and_lands_once(lake, tmp_path):
    scripted = ScriptedSource(tmp_path).stream("users", source_defined_cursor=True)
    scripted.on("read", 1).records("users", {"id": 1}).error("the token expired").exits(1)
    scripted.on("read", 2).records("users", {"id": 1}, {"id": 2})
    (users,) = build_stream_assets(
        scripted.source(),
        catalog=scripted.catalog,
        partitions_def=None,
        streams={"users": "append"},
        retry_policy=ONCE,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(users, instance=instance)
        (logged,) = logged_retries(instance, result.run_id)
    assert lake.ids() == [1, 2]
    assert lake.uploads() == 0
    assert "the token expired" in str(logged)


def test_a_permanent_failure_is_one_sentence_with_its_location(lake):
    s3 = Denied(lake.server.client(), "complete_multipart_upload")

    @stream_asset(namespace="crm", partitions_def=DAILY)
    def people():
        return [{"id": 1}]

    result = lake.materialize(people, io=lake.io(s3=s3), partition_key="2026-01-05", raise_on_error=False)
    shown = result.failure_data_for_node("crm__people").user_failure_data
    logged = {name: value.value for name, value in shown.metadata.items()}
    assert logged["stream"] == "crm.people"
    assert logged["partition"] == "2026-01-05"
    assert logged["key"].startswith("crm/people/")
    assert logged["action"] == "s3:PutObject"
    assert "\n" not in shown.description


def test_only_the_failed_partition_of_a_range_is_read_again(lake, tmp_path):
    scripted = ScriptedSource(tmp_path).stream("users")
    scripted.on("read", 1).records("users", {"id": 5})
    scripted.on("read", 2).records("users", {"id": 60}).exits(1)
    scripted.on("read", 3).records("users", {"id": 6})
    (users,) = build_stream_assets(
        scripted.source({"day": "{{ partition_key }}"}),
        catalog=scripted.catalog,
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=ONCE,
    )
    tags = {"dagster/asset_partition_range_start": "2026-01-05", "dagster/asset_partition_range_end": "2026-01-06"}
    lake.materialize(users, tags=tags)
    days = [call["files"]["config"]["day"] for call in scripted.calls("read")]
    assert days == ["2026-01-05", "2026-01-06", "2026-01-06"]
    assert lake.ids() == [5, 6]
