"""A state is set or cleared by hand: records stay, no sync is overwritten silently, and errors leave the old or the
new state."""

from __future__ import annotations

import contextlib

import pytest
from failing_clients import HARDEST_WAYS, WAYS, FailingClient, failing_in_turn
from land_and_read import batch_of, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import State
from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.commit.states import change_state, reached_state
from s3dest_dagster.errors import S3DestError, SupersededError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

USERS = Scope(StreamId("public", "users"))
APPEND = stream(mode=SyncMode.APPEND)


class Lake:
    """A bucket on which states are changed."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.settings = destination(server.new_bucket())
        self.bucket = server.open(self.settings)
        self.bucket.__dict__["_conditional"] = server.root is None

    def change(self, state: str | None, sync_id: str = "by hand", client=None) -> str | None:
        bucket = self.bucket if client is None else Bucket(client, self.bucket.name)
        with target(self.server, self.settings, self.bucket) as opened:
            before = change_state(
                bucket, self.settings, USERS, state, sync(sync_id), attempt="0a1b2c3d", clock=opened.server_clock
            )
        return before and before.text

    def state(self) -> str | None:
        found = reached_state(self.bucket, self.settings.template, USERS)
        return found and found.text

    def land(self, number: int, state: str | None, sync_id: str) -> None:
        with target(self.server, self.settings, self.bucket) as opened:
            items = [batch_of(users(number, number))]
            if state is not None:
                items.append(State(USERS.stream, state.encode(), b"{}"))
            land(items, opened, APPEND, sync(sync_id))

    def ids(self) -> list[int]:
        return ids_by_listing(self.server, self.bucket.name)


@pytest.fixture
def lake(moto_s3: S3Server) -> Lake:
    return Lake(moto_s3)


def test_setting_and_clearing_a_state_returns_the_previous_one(any_s3: S3Server) -> None:
    lake = Lake(any_s3)
    lake.land(1, '{"at":1}', "first")
    assert (lake.change('{"at":9}'), lake.state()) == ('{"at":1}', '{"at":9}')
    assert (lake.change(None, "again"), lake.state()) == ('{"at":9}', None)
    assert lake.ids() == [1]
    assert verify(lake.bucket, lake.settings.template, USERS).problems == ()


def test_the_next_sync_begins_with_the_state_that_was_set(lake: Lake) -> None:
    lake.change('{"at":9}')
    with target(lake.server, lake.settings, lake.bucket) as opened, Landing(opened, APPEND, sync("s")) as landing:
        assert landing.last_state.text == '{"at":9}'
    lake.land(1, '{"at":10}', "s")
    assert (lake.state(), lake.ids()) == ('{"at":10}', [1])


def test_a_sync_without_a_state_keeps_a_set_or_cleared_state(lake: Lake) -> None:
    lake.land(1, '{"at":1}', "first")
    lake.change(None)
    lake.land(2, None, "second")
    assert lake.state() is None
    lake.change('{"at":9}', "again")
    lake.land(3, None, "third")
    assert lake.state() == '{"at":9}'


@pytest.mark.parametrize("state", [None, '{"at":1}'])
def test_an_unchanged_state_is_not_written(lake: Lake, state: str | None) -> None:
    if state is not None:
        lake.land(1, state, "first")
    client = FailingClient(lake.server.client())
    assert lake.change(state, client=client) == state
    assert "put_object" not in client.calls


def test_a_sync_that_began_earlier_does_not_overwrite_the_state(lake: Lake) -> None:
    with target(lake.server, lake.settings, lake.bucket) as opened, Landing(opened, APPEND, sync("running")) as running:
        running.append_batch(batch_of(users(1, 1)))
        running.advance_state(State(USERS.stream, b'{"at":1}', b"{}"))
        lake.change('{"at":9}', "state-set-1")
        with pytest.raises(SupersededError, match="Sync state-set-1"):
            running.commit()
    assert (lake.state(), lake.ids()) == ('{"at":9}', [])


@pytest.mark.parametrize("way", HARDEST_WAYS)
def test_a_failure_at_any_call_leaves_the_old_or_the_new_state(lake: Lake, way: str) -> None:
    after, dead = WAYS[way]
    lake.land(1, "0", "first")
    for number, client in enumerate(failing_in_turn(lake.server.client(), after=after, dead=dead), 1):
        before = lake.state()
        with contextlib.suppress(S3DestError):
            lake.change(str(number), f"by hand {number}", client)
        assert recover(lake.bucket, lake.settings.template, USERS).ok
        assert lake.state() in (before, str(number)), client.failed
        lake.change(str(number), f"once more {number}")
        assert (lake.state(), lake.ids()) == (str(number), [1]), client.failed
