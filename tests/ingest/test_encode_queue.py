"""Who encodes a batch: the threads, and whoever waits for them; the order is that of the calls."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, get_ident

import pytest
from landed import PLAIN_JSONL, batch_of, stream, users

from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import Encoded, encoder
from s3dest_dagster.ingest.encode_queue import EncodeQueue, Lane
from s3dest_dagster.settings.formats import AvroFormat, ParquetFormat

_LONG_S = 60


_COLUMNS = encoder(ParquetFormat(), stream())


@contextmanager
def busy_queue() -> Iterator[EncodeQueue]:
    """A queue of two workers, one of which is at something else for as long as the test lasts."""
    over = Event()
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(over.wait, _LONG_S)
        yield EncodeQueue(threads, workers=2)
        assert not busy.done()
        over.set()


def push(lane: Lane, *numbers: int) -> None:
    """A batch for each number."""
    for number in numbers:
        lane.push(_COLUMNS, batch_of(users(number, number)), bytes(16))


def ids(taken: list[Encoded]) -> list[int]:
    return [each for encoded in taken for each in encoded.payload["id"].to_pylist()]  # type: ignore[call-overload,union-attr]


def test_whoever_waits_encodes_what_no_thread_has_begun() -> None:
    taken: list[Encoded] = []
    with busy_queue() as queue:
        lane = queue.lane(taken.append)
        push(lane, 0, 1, 2, 3, 4)
        lane.drain()
    assert ids(taken) == [0, 1, 2, 3, 4]


def test_a_batch_that_waits_beyond_the_bound_is_handed_on_before_the_next_comes() -> None:
    taken: list[Encoded] = []
    with busy_queue() as queue:
        lane = queue.lane(taken.append)
        push(lane, 0, 1, 2, 3)
        assert ids(taken) == [0, 1]
        lane.cancel()


def test_what_encoding_for_another_lane_meets_is_raised_on_that_lane() -> None:
    taken: list[Encoded] = []
    strict = encoder(AvroFormat(), stream(), on_mismatch="fail")
    with busy_queue() as queue:
        bad, good = queue.lane(taken.append), queue.lane(taken.append)
        bad.push(strict, batch_of([{"id": "no number"}]), bytes(16))
        push(good, 1)
        good.drain()
        assert ids(taken) == [1]
        with pytest.raises(RecordError, match="id"):
            bad.drain()


def test_what_holds_the_lock_is_encoded_by_the_thread_that_brings_it() -> None:
    taken: list[Encoded] = []
    with busy_queue() as queue:
        lane = queue.lane(taken.append)
        lane.push(encoder(PLAIN_JSONL, stream()), batch_of(users(7, 7)), bytes(16))
        assert [each.rows for each in taken] == [1]


def test_work_aside_is_done_by_whoever_asks_for_it_when_no_thread_has_begun() -> None:
    done: list[int] = []

    def work() -> bytes:
        done.append(get_ident())
        return b"done"

    with busy_queue() as queue:
        outcome = queue.aside(work)
        assert not done
        assert outcome() == b"done"
    assert done == [get_ident()]


def test_work_aside_is_done_once_by_a_free_thread() -> None:
    done: list[int] = []
    begun = Event()

    def work() -> bytes:
        begun.set()
        done.append(get_ident())
        return b"done"

    with ThreadPoolExecutor(1) as threads:
        outcome = EncodeQueue(threads, workers=2).aside(work)
        assert begun.wait(_LONG_S)
        assert outcome() == b"done"
    assert len(done) == 1
    assert done != [get_ident()]
