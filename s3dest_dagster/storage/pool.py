"""Threads for calls that may hang: whoever waits for them may stop waiting, and the process may end without them.

It must not know what the calls do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

_PARALLEL = 8

Item = TypeVar("Item")
Result = TypeVar("Result")
_Task = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Workers:
    """Up to `threads` daemon threads that do what is submitted, in order.

    As a context it waits at its end for what is under way, unless it is left by something that is no Exception: an
    interruption must not wait for a server that hangs.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._limit = threads
        self._name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, do: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Has `do` called on one of the threads; the future gives what came of it."""
        future: Future[Result] = Future()
        self._tasks.put((future, do, arguments))
        if len(self._threads) < self._limit:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, do, arguments = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = do(*arguments)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            del task, future, do, arguments

    def close(self, *, wait: bool = True) -> None:
        """Ends the threads once they have done what was submitted and not cancelled; waits for them, or does not."""
        for _ in self._threads:
            self._tasks.put(None)
        for each in self._threads if wait else ():
            each.join()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(wait=kind is None or issubclass(kind, Exception))


def in_parallel(do: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results of `do` for all items, in order; a few at a time on threads. The first error is raised, once what is
    under way has ended; what has not begun then is not done."""
    todo = list(items)
    if len(todo) <= 1:
        return [do(each) for each in todo]
    with Workers(min(_PARALLEL, len(todo)), "s3dest-call") as workers:
        futures = [workers.submit(do, each) for each in todo]
        try:
            return [each.result() for each in futures]
        except BaseException:
            for each in futures:
                each.cancel()
            raise
