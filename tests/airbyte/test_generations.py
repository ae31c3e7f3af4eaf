"""At publication, the live syncs whose generation is below the minimum leave, and only then."""

import json

import pytest
from airbyte_messages import record, state, status

from .conftest import configured


def generation(number: int, minimum: int, mode: str = "append", sync_id: int = 42) -> dict:
    """The stream of users in a catalog with generations. Attempts of one sync have the same sync id."""
    return configured("users", mode, generation_id=number, minimum_generation_id=minimum, sync_id=sync_id)


def users(*ids: int) -> str:
    return (
        "".join(record("users", id=number) for number in ids) + state("users", max(ids)) + status("users", "COMPLETE")
    )


NOTHING_NEW = state("users", 9) + status("users", "COMPLETE")


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_minimum_of_zero_appends_in_every_mode(connector, mode):
    for number in (13, 13, 14):
        assert connector.sync(users(number), generation(number, 0, mode)).code == 0
    assert connector.ids() == [13, 13, 14]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_minimum_of_its_own_replaces_the_older_generations_in_every_mode(connector, mode):
    connector.sync(users(12), generation(12, 0))
    connector.sync(users(13), generation(13, 0))
    result = connector.sync(users(14), generation(14, 14, mode))
    assert (result.code, len(result.states)) == (0, 1)
    assert connector.ids() == [14]


def test_a_retry_that_sends_nothing_keeps_what_its_first_attempt_published(connector):
    connector.sync(users(1), generation(13, 13, "overwrite"))
    connector.sync(users(2, 3), generation(14, 14, "overwrite"))
    for _ in range(2):
        result = connector.sync(NOTHING_NEW, generation(14, 14, "overwrite"))
        assert (result.code, len(result.states)) == (0, 1)
        assert connector.ids() == [2, 3]


def test_a_sync_of_a_live_generation_adds_to_it(connector):
    connector.sync(users(1), generation(13, 0))
    connector.sync(users(2), generation(14, 14))
    connector.sync(users(3), generation(14, 14))
    connector.sync(users(4), generation(14, 0))
    assert connector.ids() == [2, 3, 4]


def test_only_the_generations_below_the_minimum_leave(connector):
    """A refresh that merges keeps what is not below the minimum."""
    for number in (12, 13, 14):
        connector.sync(users(number), generation(number, 0))
    assert connector.sync(users(15), generation(15, 13)).code == 0
    assert connector.ids() == [13, 14, 15]
    assert connector.sync(users(16), generation(16, 0)).code == 0
    assert connector.ids() == [13, 14, 15, 16]
    assert connector.sync(users(17), generation(17, 17)).code == 0
    assert connector.ids() == [17]


@pytest.mark.parametrize("end", [status("users", "INCOMPLETE"), '{"type": "REC'], ids=["incomplete", "broken off"])
def test_an_interrupted_truncate_leaves_the_old_generation_and_hands_back_no_state(connector, end):
    settings = {"max_attempts": 1, "encode_workers": 1, "checkpoint_mb": 1, "checkpoint_interval_s": 0}
    connector.sync(users(1), generation(13, 0))
    many = record("users", id=2, name="x" * 1000) * 1500 + state("users", 2)
    result = connector.sync(many + many + end, generation(14, 14), s3dest=settings)
    assert (result.code, result.states) == (1, [])
    assert connector.ids() == [1]
    assert connector.sync(users(2), generation(14, 14)).code == 0
    assert connector.ids() == [2]


def test_a_truncate_without_records_clears_the_stream(connector):
    connector.sync(users(1), generation(13, 0))
    assert connector.sync(NOTHING_NEW, generation(14, 14)).code == 0
    assert connector.ids() == []


def test_a_truncate_of_which_the_source_says_nothing_removes_nothing(connector):
    connector.sync(users(1), generation(13, 0))
    assert connector.sync("", generation(14, 14)).code == 1
    assert connector.sync("", generation(13, 13)).code == 0
    assert connector.ids() == [1]


def test_syncs_without_a_generation_count_as_generation_zero(connector):
    connector.sync(users(1))
    connector.sync(users(2), generation(1, 0, sync_id=7))
    assert connector.ids() == [1, 2]
    connector.sync(users(3), generation(1, 1, sync_id=8))
    assert connector.ids() == [2, 3]
    connector.sync(users(4))
    assert connector.ids() == [2, 3, 4]
    connector.sync(users(5), configured("users", "overwrite"))
    assert connector.ids() == [5]


@pytest.mark.parametrize("number", [0, 1])
def test_ids_that_are_all_the_same_number_are_no_generations(connector, number):
    """PyAirbyte writes 1 for each, whatever it has landed before."""
    connector.sync(users(0))
    for _ in range(2):
        connector.sync(users(1), generation(number, number, "overwrite", number))
    assert connector.ids() == [1]
    connector.sync(users(2), generation(number, number, "append", number))
    assert connector.ids() == [1, 2]


def test_ids_of_one_are_a_generation_after_a_sync_of_generation_0(connector):
    """A platform whose first sync was interrupted and then refreshed, or that writes one sync id for all."""
    connector.sync(users(1), generation(0, 0, sync_id=1))
    for _ in range(2):
        assert connector.sync(users(2), generation(1, 1, sync_id=1)).code == 0
    assert connector.ids() == [2, 2]
    assert connector.sync(NOTHING_NEW, generation(1, 1, "overwrite", sync_id=1)).code == 0
    assert connector.ids() == [2, 2]


@pytest.mark.parametrize("earlier", [generation(2, 0, sync_id=1), generation(0, 0, sync_id=42)], ids=["id", "sync id"])
def test_ids_of_one_are_no_generation_after_ids_that_a_platform_gives_later(connector, earlier):
    """Another program lands the stream of a platform."""
    connector.sync(users(1), earlier)
    connector.sync(users(2), generation(1, 1, "append", sync_id=1))
    assert connector.ids() == [1, 2]
    connector.sync(users(3), generation(1, 1, "overwrite", sync_id=1))
    assert connector.ids() == [3]


def test_a_plan_lists_what_leaves_by_a_generation(connector, s3dest):
    """The objects of the connector, too, by their metadata."""
    put_of_connector(connector, "1", 14)
    keys = [put_of_connector(connector, "0", None)]
    for number in (12, 13, 14):
        before = set(connector.data_keys())
        connector.sync(users(number), generation(number, 0))
        keys += set(connector.data_keys()) - before
    for minimum, leave in ((14, keys[:3]), (15, connector.data_keys()), (0, [])):
        catalog = connector.file("catalog.json", {"streams": [generation(15, minimum)]})
        arguments = ("plan", "--config", connector.config(), "--catalog", catalog, "--json")
        (planned,) = json.loads(s3dest.run(*arguments).stdout)["streams"]
        assert sorted(planned["deletes"]) == sorted(leave)
    assert connector.sync(users(15), generation(15, 14)).code == 0
    assert set(keys[:3]).isdisjoint(connector.data_keys())


def test_every_object_says_its_generation(connector):
    connector.sync(users(1), generation(13, 0))
    connector.sync(users(2), configured("users"))
    heads = [connector.server.client().head_object(Bucket=connector.bucket, Key=key) for key in connector.data_keys()]
    assert sorted(each["Metadata"].get("ab-generation-id", "none") for each in heads) == ["13", "none"]


def put_of_connector(connector, name: str, generation_id: int | None) -> str:
    """An object as the connector leaves it."""
    key = f"data_output_path/public/users/2021_01_01_1609459200000_{name}.jsonl"
    line = {"_airbyte_ab_id": "x", "_airbyte_emitted_at": 1, "_airbyte_data": {"id": 900 + int(name)}}
    metadata = {} if generation_id is None else {"ab-generation-id": str(generation_id)}
    connector.server.client().put_object(
        Bucket=connector.bucket, Key=key, Body=json.dumps(line) + "\n", Metadata=metadata
    )
    return key


def test_objects_of_the_connector_count_by_their_metadata(connector):
    keys = [put_of_connector(connector, str(number), given) for number, given in enumerate([None, 12, 13, 14])]
    assert connector.sync(users(1), generation(13, 13)).code == 0
    assert [key for key in connector.data_keys() if key in keys] == keys[2:]
    assert connector.sync(users(2), generation(13, 13)).code == 0
    assert connector.ids() == [1, 2, 902, 903]


@pytest.mark.parametrize(
    ("ids", "word"),
    [
        ({"generation_id": 1, "minimum_generation_id": 2}, "not above the generation"),
        ({"generation_id": -1}, "0 or more"),
        ({"generation_id": "14"}, "whole number"),
    ],
)
def test_impossible_generations_are_config_errors(connector, ids, word):
    result = connector.sync(users(1), configured("users", **ids))
    (error,) = result.errors
    assert (result.code, error["failure_type"]) == (1, "config_error")
    assert word in error["message"]
    assert connector.data_keys() == []
