"""The threads and the callers that wait for them encode the batches. The order is that of the calls."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, get_ident

import pytest
from land_and_read import PLAIN_JSONL, batch_of, stream, users

from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import encoder
from s3dest_dagster.ingest.encode_queue import EncodedBatch, EncodeQueue, StreamQueue
from s3dest_dagster.settings.formats import AvroFormat, ParquetFormat

_LONG_S = 60


_COLUMNS = encoder(ParquetFormat(), stream())


@contextmanager
def busy_queue() -> Iterator[EncodeQueue]:
    """A queue with two workers, one of which is busy with something else for the whole test."""
    over = Event()
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(over.wait, _LONG_S)
        yield EncodeQueue(threads, workers=2)
        assert not busy.done()
        over.set()


def append(own: StreamQueue, *numbers: int) -> None:
    """Appends a batch for each number."""
    for number in numbers:
        own.append(_COLUMNS, batch_of(users(number, number)), bytes(16))


def ids(delivered: list[EncodedBatch]) -> list[int]:
    return [each for batch in delivered for each in batch.encoded.payload["id"].to_pylist()]  # type: ignore[call-overload,union-attr]


def test_a_waiting_thread_encodes_batches_that_no_other_thread_has_begun() -> None:
    delivered: list[EncodedBatch] = []
    with busy_queue() as queue:
        own = queue.stream_queue(delivered.append)
        append(own, 0, 1, 2, 3, 4)
        own.drain()
    assert ids(delivered) == [0, 1, 2, 3, 4]


def test_a_batch_beyond_the_bound_is_delivered_before_the_next_is_added() -> None:
    delivered: list[EncodedBatch] = []
    with busy_queue() as queue:
        own = queue.stream_queue(delivered.append)
        append(own, 0, 1, 2, 3)
        assert ids(delivered) == [0, 1]
        own.cancel()


def test_an_error_is_raised_to_the_stream_whose_batch_caused_it() -> None:
    delivered: list[EncodedBatch] = []
    strict = encoder(AvroFormat(), stream(), on_mismatch="fail")
    with busy_queue() as queue:
        bad, good = queue.stream_queue(delivered.append), queue.stream_queue(delivered.append)
        bad.append(strict, batch_of([{"id": "no number"}]), bytes(16))
        append(good, 1)
        good.drain()
        assert ids(delivered) == [1]
        with pytest.raises(RecordError, match="id"):
            bad.drain()


def test_an_encoder_that_holds_the_lock_runs_on_the_calling_thread() -> None:
    delivered: list[EncodedBatch] = []
    with busy_queue() as queue:
        own = queue.stream_queue(delivered.append)
        own.append(encoder(PLAIN_JSONL, stream()), batch_of(users(7, 7)), bytes(16))
        assert [each.encoded.rows for each in delivered] == [1]


def test_the_caller_does_background_work_that_no_thread_has_begun() -> None:
    done: list[int] = []

    def work() -> bytes:
        done.append(get_ident())
        return b"done"

    with busy_queue() as queue:
        outcome = queue.run_in_background(work)
        assert not done
        assert outcome() == b"done"
    assert done == [get_ident()]


def test_background_work_is_done_once_by_a_free_thread() -> None:
    done: list[int] = []
    begun = Event()

    def work() -> bytes:
        begun.set()
        done.append(get_ident())
        return b"done"

    with ThreadPoolExecutor(1) as threads:
        outcome = EncodeQueue(threads, workers=2).run_in_background(work)
        assert begun.wait(_LONG_S)
        assert outcome() == b"done"
    assert len(done) == 1
    assert done != [get_ident()]
