"""Threads that do not delay the end of the process."""

from __future__ import annotations

import subprocess
import sys
from threading import Event

import pytest

from s3dest_dagster.storage.requests import DaemonPool, in_parallel


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
