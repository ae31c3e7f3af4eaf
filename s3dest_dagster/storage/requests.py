"""Sends requests to one bucket: retries each while that may help, and maps failures to the library's errors.

Calls that may hang run on threads of a `DaemonPool`: nobody has to wait for them, and the process can end without them.
Clock, pauses and randomness are parameters, so that no test has to wait.
Must not know: what the requests are for.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import chain, islice
from queue import SimpleQueue
from threading import Event
from types import TracebackType
from typing import Any, TypeVar

from s3dest_dagster.errors import S3DestError, StorageError
from s3dest_dagster.settings.connection import is_aws
from s3dest_dagster.storage.error_mapping import CLIENT_ERRORS, is_refusal, is_transient, map_error
from s3dest_dagster.storage.headers import content_md5

_LONGEST_PAUSE_S = 20.0
_DATE_VALID_S = 60.0
"""How long the Date of an answer is used for the server's time."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Determines how often and how long a request is tried.

    The pauses between tries are random shares of 1, 2, 4, 8, 16 and then always 20 s, so that clients that failed at
    the same time do not retry at the same time
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    max_attempts: int = 8
    """The maximum number of tries, including the first."""
    deadline_s: float = 300.0
    """No try begins more than this many seconds after the first."""
    clock: Callable[[], float] = time.monotonic
    """The time in seconds."""
    pause: Callable[[float], bool | None] = time.sleep
    """Waits this many seconds. Returns True to stop further tries."""
    chance: Callable[[], float] = random.random
    """The random share of a pause, from 0 to 1."""


class Tries:
    """Counts the tries of one request. The first try begins now."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._began = policy.clock()
        self.count = 1

    def next(self) -> bool:
        """Pauses. Returns whether another try may begin."""
        policy = self._policy
        left = self._began + policy.deadline_s - policy.clock()
        if self.count >= policy.max_attempts or left <= 0:
            return False
        longest = min(2.0 ** (self.count - 1), _LONGEST_PAUSE_S)
        if policy.pause(min(longest * policy.chance(), left)):
            return False
        self.count += 1
        return True

    def describe(self) -> str:
        """A sentence that says how often and how long the request was tried. Empty if the policy allows only one
        try."""
        if self._policy.max_attempts == 1:
            return ""
        often = "once" if self.count == 1 else f"{self.count} times"
        seconds = self._policy.clock() - self._began
        return f"It was tried {often} in {seconds:.1f} s; max_attempts and retry_deadline_s say how long."


@dataclass(frozen=True, slots=True)
class _ServerDate:
    date: datetime
    monotonic: float
    wall: float


class ServerClock:
    """The server's time in whole seconds, from the Date of its answers. Sends nothing. Safe to use from several
    threads.

    Machines that share a bucket have no other clock in common.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._newest: _ServerDate | None = None

    def note(self, answer: Mapping[str, Any]) -> None:
        """Notes the Date of a boto3 answer. Ignores an answer without a readable Date."""
        text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        self._newest = _ServerDate(date, self._monotonic(), self._wall())

    def now(self) -> datetime | None:
        """The time. None if there is no Date, or if the newest Date is older than a minute."""
        newest = self._newest
        if newest is None:
            return None
        passed = self._monotonic() - newest.monotonic
        # The monotonic clock stops while a machine sleeps, and the wall clock can be set. Therefore both must agree.
        if passed > _DATE_VALID_S or not 0 <= self._wall() - newest.wall <= _DATE_VALID_S:
            return None
        return newest.date + timedelta(seconds=passed)


class Requests:
    """Sends the requests to one bucket. `clock` is the server's clock, derived from its answers."""

    def __init__(self, client: Any, bucket: str, retry_policy: RetryPolicy) -> None:
        self.client = client
        self.bucket = bucket
        self.clock = ServerClock()
        self._retry_policy = retry_policy

    @property
    def endpoint(self) -> str:
        """The URL that requests go to."""
        return str(self.client.meta.endpoint_url)

    @property
    def partition(self) -> str:
        """The AWS partition for ARNs: "aws-cn" in China, "aws-us-gov", and "aws" elsewhere and on other servers."""
        return str(self.client.meta.partition) if is_aws(self.endpoint) else "aws"

    def cancelled_by(self, event: Event) -> Requests:
        """The same, but once the event is set, pauses end and no request is retried."""
        same = copy(self)
        same._retry_policy = replace(self._retry_policy, pause=event.wait)
        return same

    def begin(self) -> Tries:
        """The tries of one request. The first try begins now."""
        return Tries(self._retry_policy)

    def send(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request once and returns boto3's answer. `operation` is the name of the client's method."""
        answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.bucket, **arguments)
        self.clock.note(answer)
        return answer

    def send_with_md5(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Like `send`, but with Content-MD5 and no other checksum, for operations that have no argument for it."""
        with content_md5(self.client, operation):
            return self.send(operation, **arguments)

    def call(self, action: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request, with retries, and returns boto3's answer. Raises as `retry` does."""
        return self.retry(action, arguments.get("Key"), partial(self.send, operation, **arguments))

    def retry(self, action: str, key: str | None, do: Callable[[], Answer], tries: Tries | None = None) -> Answer:
        """Returns the result of `do`, which sends requests. Calls it again while that may help and the policy allows
        it.

        Every request may be sent twice: a second try must work even if the first one has already taken effect.

        Args:
            action: the IAM action that is needed, for the error.
            key: the key of the request, for the error.
            tries: tries that have already begun.

        Raises:
            StorageError: the last failure, mapped by `map_error`.
        """
        tries = tries or self.begin()
        while True:
            try:
                return do()
            except S3DestError:
                raise
            except CLIENT_ERRORS as error:
                transient = is_transient(error)
                if not transient or not tries.next():
                    tried = tries.describe() if transient else ""
                    raise map_error(error, action, self.bucket, key, tried=tried, partition=self.partition) from error

    @contextmanager
    def relying_on(self, ability: str) -> Iterator[None]:
        """Adds to a refusal that the server previously had this ability, and how to probe the server again."""
        try:
            yield
        except StorageError as error:
            if is_aws(self.endpoint) or not is_refusal(error):
                raise
            raise StorageError(
                f"{error.message} When the server was first used, it took {ability}. If it no longer does, run "
                "`s3dest check --again`, which probes the server anew.",
                key=error.key,
            ) from error


_PARALLEL = 8
SCOPES_AT_ONCE = 16
"""Scopes that are read side by side. Each has up to eight requests in flight, so that there are at most 128."""

Item = TypeVar("Item")
Result = TypeVar("Result")
_Task = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class DaemonPool:
    """Up to `threads` daemon threads that run submitted calls in order.

    As a context manager, it waits at the end for running calls, unless the block is left by a BaseException that is not
    an Exception: an interruption must not wait for a server that hangs.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._limit = threads
        self._name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, do: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Calls `do` on one of the threads. The future has its result."""
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
        """Ends the threads after all submitted calls that were not cancelled. With `wait`, returns only after that."""
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

    The first error is raised after all running calls have ended. Calls that have not begun by then are dropped.
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


def each_in_parallel(
    do: Callable[[Item], Result], items: Iterable[Item], threads: int = SCOPES_AT_ONCE
) -> Iterator[Result]:
    """Yields the results of `do`, in the order of the items, computed on a few threads.

    Only a few items and results are held at a time, so that memory does not grow with their number. An error is raised
    at its item's turn, or never if the caller stops before it: calls that have not begun by then are dropped.

    Args:
        do: Called once for each item. It may use `in_parallel` itself.
        items: Taken as far as threads need them.
        threads: Calls at a time.
    """
    rest = iter(items)
    first = list(islice(rest, 2))
    if len(first) < 2 or threads == 1:
        yield from map(do, chain(first, rest))
        return
    with DaemonPool(threads, "s3dest-scope") as pool:
        waiting = deque[Future[Result]]()
        try:
            for item in chain(first, rest):
                waiting.append(pool.submit(do, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
