"""What a process gives to another one arrives whole and in order, however large it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pytest
from encoded import batch_of

from s3dest_dagster.batch import ArrowBatch, JsonBatch
from s3dest_dagster.shards.channel import Channel, Signal

SIZE = 1 << 16


def said(channel: Channel, *expected: Signal) -> None:
    assert [channel.receive() for _ in expected] == list(expected)


def columns(rows: int, begin: int = 0) -> ArrowBatch:
    values = np.arange(begin, begin + rows, dtype=np.int64)
    return ArrowBatch(pa.RecordBatch.from_pydict({"id": values}), values)


def test_a_batch_keeps_its_values_when_the_next_one_takes_its_place() -> None:
    channel = Channel(get_context("spawn"), SIZE)
    with ThreadPoolExecutor(1) as pool:
        items = channel.other_end.items()
        first = pool.submit(next, items)
        said(channel, Signal.IDLE)
        channel.send(columns(1_000))
        said(channel, Signal.RECEIVED)
        received = first.result(10)
        channel.send(columns(1_000, begin=5_000))
        second = pool.submit(next, items)
        said(channel, Signal.IDLE, Signal.RECEIVED)
        assert second.result(10).data.column("id").to_pylist() == list(range(5_000, 6_000))
        assert received.data.column("id").to_pylist() == received.emitted_at.tolist() == list(range(1_000))


@pytest.mark.parametrize("rows", [1, 3_000, 50_000])
def test_batches_arrive_whether_or_not_they_fit_into_the_shared_memory(rows: int) -> None:
    channel = Channel(get_context("spawn"), SIZE)
    with ThreadPoolExecutor(1) as pool:
        items = channel.other_end.items()
        for batch in (columns(rows), batch_of([{"id": number} for number in range(rows)]), columns(rows, begin=7)):
            received = pool.submit(next, items)
            said(channel, Signal.IDLE)
            channel.send(batch)
            said(channel, Signal.RECEIVED)
            found = received.result(10)
            assert found.emitted_at.tolist() == batch.emitted_at.tolist()
            if isinstance(batch, JsonBatch):
                assert list(found.raws) == list(batch.raws)
            else:
                assert found.data.equals(batch.data)


def test_a_second_item_may_wait_and_a_third_may_not() -> None:
    channel = Channel(get_context("spawn"), SIZE)
    assert not channel.is_ready
    with ThreadPoolExecutor(1) as pool:
        items = channel.other_end.items()
        pool.submit(next, items)
        said(channel, Signal.IDLE)
        assert channel.is_idle
        channel.send(columns(1))
        assert not channel.is_ready
        said(channel, Signal.RECEIVED)
        assert channel.is_ready
        assert not channel.is_idle
        channel.send(columns(1))
        assert not channel.is_ready
        pool.submit(next, items)
        said(channel, Signal.IDLE)
        assert not channel.is_ready
        said(channel, Signal.RECEIVED)
        assert channel.is_ready


def test_a_part_is_taken_by_an_idle_process_alone() -> None:
    channel = Channel(get_context("spawn"), SIZE)
    with ThreadPoolExecutor(1) as pool:
        items = channel.other_end.items()
        part = pool.submit(next, items)
        said(channel, Signal.IDLE)
        channel.send(partial(int, "7"))
        assert part.result(10)() == 7
        assert not channel.is_ready
        pool.submit(next, items, None)
        said(channel, Signal.IDLE)
        assert channel.is_ready
        channel.send(None)


def test_a_process_that_is_gone_is_an_error_on_both_sides() -> None:
    channel = Channel(get_context("spawn"), SIZE)
    channel.close_other_end()
    with pytest.raises(EOFError):
        channel.receive()
    with pytest.raises(ConnectionError):
        channel.send(columns(1))
    channel = Channel(get_context("spawn"), SIZE)
    channel.pipe.close()
    with pytest.raises(ConnectionError):
        next(channel.other_end.items())
