"""Threads for calls that may hang: nobody has to wait for them, and the process can end without them.

Python's own ThreadPoolExecutor joins its threads when the interpreter ends. Must not know what the calls do.
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


class DaemonPool:
    """Up to `threads` daemon threads that run what is submitted, in order.

    As a context manager it waits at the end for the calls under way, unless the block is left by something that is not
    an Exception: an interruption must not wait for a server that hangs.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._limit = threads
        self._name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, do: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Calls `do` on one of the threads; the future has its result."""
        future: Future[Result] = Future()
        self._tasks.put((future, do, arguments))
        if len(self._threads) < self._limit:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def _run(self) -> None:
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
            # An idle thread must not keep the last call's arguments, such as a part of an upload, in memory.
            del task, future, do, arguments

    def close(self, *, wait: bool = True) -> None:
        """Ends the threads after all calls that were submitted and not cancelled. With `wait`, returns after that."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def __enter__(self) -> DaemonPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(wait=kind is None or issubclass(kind, Exception))


def in_parallel(do: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results of `do` for all items, in order, computed on a few threads.

    The first error is raised after the calls under way have ended. Calls that have not begun by then are dropped.
    """
    todo = list(items)
    if len(todo) <= 1:
        return [do(item) for item in todo]
    with DaemonPool(min(_PARALLEL, len(todo)), "s3dest-call") as pool:
        futures = [pool.submit(do, item) for item in todo]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise
