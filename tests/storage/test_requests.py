"""Threads that do not delay the end of the process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from itertools import count
from threading import Event

import pytest

from s3dest_dagster.storage.requests import SCOPES_AT_ONCE, DaemonPool, each_in_parallel, in_parallel


def test_results_are_in_the_order_of_the_items() -> None:
    assert in_parallel(lambda number: number * number, range(100)) == [number * number for number in range(100)]
    assert in_parallel(str, []) == []


def test_the_first_error_is_raised_after_the_calls_under_way_have_ended() -> None:
    ended = []
    other_began = Event()

    def do(number: int) -> None:
        if number == 0:
            other_began.wait(60)
            raise ZeroDivisionError
        other_began.set()
        ended.append(number)

    with pytest.raises(ZeroDivisionError):
        in_parallel(do, [0, 1])
    assert ended == [1]


def test_a_cancelled_call_that_has_not_begun_is_never_made() -> None:
    done = []

    def do(number: int) -> None:
        if number == 0:
            raise ZeroDivisionError
        gate.wait(60)
        done.append(number)

    gate = Event()
    with DaemonPool(1, "test") as pool:
        blocked = pool.submit(gate.wait, 60)
        waiting = pool.submit(do, 5)
        waiting.cancel()
        gate.set()
    assert blocked.result()
    assert done == []


HANGING = """
import threading
from s3dest_dagster.storage.requests import in_parallel

def do(number):
    if number == 0:
        raise KeyboardInterrupt
    threading.Event().wait()

try:
    in_parallel(do, [0, 1])
except KeyboardInterrupt:
    print("stopped")
"""


def test_neither_an_interruption_nor_the_process_waits_for_a_call_that_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "stopped\n")


class Calls:
    """Counts calls, and how many run at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.all = 0

    def __call__(self, item: int) -> int:
        with self._lock:
            self.all += 1
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.002)
        with self._lock:
            self._now -= 1
        return item


def test_results_come_in_the_order_of_the_items_and_only_a_few_are_held():
    calls, taken = Calls(), count()
    results = each_in_parallel(calls, (next(taken) for _ in range(1000)))
    assert [next(results) for _ in range(50)] == list(range(50))
    assert next(taken) <= 50 + 3 * SCOPES_AT_ONCE
    results.close()
    assert calls.all <= 50 + 3 * SCOPES_AT_ONCE
    assert 1 < calls.most <= SCOPES_AT_ONCE
    assert list(each_in_parallel(str, [7])) == ["7"]
    assert list(each_in_parallel(str, [])) == []


def test_scopes_whose_objects_are_read_in_parallel_have_at_most_200_requests_in_flight():
    calls = Calls()
    assert sum(map(len, each_in_parallel(lambda _: in_parallel(calls, range(20)), range(40)))) == 800
    assert SCOPES_AT_ONCE < calls.most <= 200


def test_an_error_is_raised_at_its_turn():
    def do(number: int) -> int:
        if number == 3:
            raise ValueError("the fourth")
        return number

    results = each_in_parallel(do, range(100))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
