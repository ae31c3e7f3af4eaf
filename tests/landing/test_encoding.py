"""Who encodes a batch: the threads, and whoever waits for them; the order is that of the calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest
from landed import PLAIN_JSONL, batch_of, stream, users

from s3dest_dagster.destination import AvroFormat
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import Encoded, Encoder, encoder
from s3dest_dagster.landing.encoding import EncodeQueue, Lane

_LONG_S = 60


@contextmanager
def busy_thread() -> Iterator[Executor]:
    """One thread that is at something else for as long as the test lasts."""
    over = Event()
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(over.wait, _LONG_S)
        yield threads
        assert not busy.done()
        over.set()


def push(lane: Lane, encoder: Encoder, number: int) -> None:
    lane.push(encoder, batch_of(users(number, number)), bytes(16))


def ids(taken: list[Encoded]) -> list[int]:
    lines = b"".join(each.payload for each in taken if isinstance(each.payload, bytes)).splitlines()
    return [json.loads(line)["_airbyte_data"]["id"] for line in lines]


def test_whoever_waits_encodes_what_no_thread_has_begun() -> None:
    taken: list[Encoded] = []
    lines = encoder(PLAIN_JSONL, stream())
    with busy_thread() as threads:
        lane = EncodeQueue(threads, workers=2).lane(taken.append)
        for number in range(5):
            push(lane, lines, number)
        lane.drain()
    assert ids(taken) == [0, 1, 2, 3, 4]


def test_a_batch_that_waits_beyond_the_bound_is_handed_on_before_the_next_comes() -> None:
    taken: list[Encoded] = []
    lines = encoder(PLAIN_JSONL, stream())
    with busy_thread() as threads:
        lane = EncodeQueue(threads, workers=2).lane(taken.append)
        for number in range(4):
            push(lane, lines, number)
        assert ids(taken) == [0, 1]
        lane.cancel()


def test_what_encoding_for_another_lane_meets_is_raised_on_that_lane() -> None:
    taken: list[Encoded] = []
    strict = encoder(AvroFormat(), stream(), on_mismatch="fail")
    with busy_thread() as threads:
        queue = EncodeQueue(threads, workers=2)
        bad, good = queue.lane(taken.append), queue.lane(taken.append)
        bad.push(strict, batch_of([{"id": "no number"}]), bytes(16))
        push(good, encoder(PLAIN_JSONL, stream()), 1)
        good.drain()
        assert ids(taken) == [1]
        with pytest.raises(RecordError, match="id"):
            bad.drain()
