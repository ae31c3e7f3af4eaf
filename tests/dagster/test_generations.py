"""A connector's catalog with generations lands by their rule in Dagster, too, unless a run or a user says otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_source import ScriptedSource

from s3dest_dagster import Generation, Stream, StreamRunConfig, SyncMode, build_stream_assets
from s3dest_dagster.dagster.run_config import stream_of_run
from s3dest_dagster.settings.destination import S3Destination


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    return ScriptedSource(tmp_path).stream("users").on("read").records("users", {"id": 1})


def catalog(scripted: ScriptedSource, number: int, minimum: int) -> dict[str, Any]:
    """The configured catalog of the next sync."""
    (stream,) = scripted.catalog["streams"]
    ids = {"generation_id": number, "minimum_generation_id": minimum, "sync_id": 7}
    return {"streams": [{"stream": stream, "destination_sync_mode": "append", "sync_mode": "full_refresh", **ids}]}


def test_the_generations_of_a_catalog_decide_what_leaves(lake, scripted):
    for number, minimum, expected in ((2, 0, 1), (3, 0, 2), (4, 3, 2), (5, 5, 1), (5, 5, 2)):
        lake.materialize(
            *build_stream_assets(scripted.source(), catalog=catalog(scripted, number, minimum), partitions_def=None)
        )
        assert (number, lake.ids()) == (number, [1] * expected)


def test_a_sync_mode_that_is_asked_for_holds_instead(lake, scripted):
    for number in (2, 3):
        made = build_stream_assets(
            scripted.source(),
            catalog=catalog(scripted, number, 0),
            streams={"users": "full_refresh"},
            partitions_def=None,
        )
        lake.materialize(*made)
    assert lake.ids() == [1]


def test_a_full_refresh_of_a_run_has_no_generation():
    stream = Stream(name="users", sync_mode=SyncMode.APPEND, generation=Generation(3))
    destination = S3Destination(s3_bucket_name="lake")
    assert stream_of_run(StreamRunConfig(full_refresh=True), stream, destination).generation is None
    assert stream_of_run(StreamRunConfig(), stream, destination).generation == Generation(3)
