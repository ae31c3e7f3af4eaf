"""Works on the scopes of a stream side by side, and says on a terminal how many are done.

The results come in the order of the scopes, whichever is done first. Must not know: what is done with a scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from s3dest_dagster.cli.output import status_line
from s3dest_dagster.errors import (
    BucketNotFoundError,
    CommitError,
    CredentialsError,
    EndpointUnreachableError,
    StorageError,
)
from s3dest_dagster.printable import amount
from s3dest_dagster.storage import each_in_parallel
from s3dest_dagster.stream import Scope, StreamId

_Result = TypeVar("_Result")
_STEPS = 100
_BAR_WIDTH = 20


class ScopeProgress:
    """Says how many scopes of a stream are done, and how many streams. Silent outside of `shown`."""

    def __init__(self) -> None:
        self._show: Callable[[str], None] = lambda text: None
        self._streams = ""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the progress on standard error while the block runs, if that is a terminal."""
        with status_line() as self._show:
            yield
        self._show = lambda text: None

    def stream_done(self, number: int) -> None:
        """Notes that this many streams are done."""
        self._streams = f"{amount(number, 'stream')} done"
        self._show(self._streams)

    def counting(self, stream: StreamId) -> Callable[[], None]:
        """Returns what to call after each scope of a stream, if it is not known how many there are."""
        numbers = count(1)
        before = f"{self._streams}; " if self._streams else ""

        def done() -> None:
            if (number := next(numbers)) % _STEPS == 0:
                self._show(f"{before}{stream}: {amount(number, 'scope')}")

        return done

    def results(
        self, stream: StreamId, do: Callable[[Scope], _Result], scopes: Sequence[Scope], *, at_once: int | None = None
    ) -> Iterator[_Result]:
        """Yields the result of `do` for each scope of a stream, in their order.

        Args:
            at_once: How many scopes are worked on at a time. None: as many as requests allow.
        """
        step = max(len(scopes) // _STEPS, 1)
        before = f"{self._streams}; " if self._streams else ""
        results = each_in_parallel(do, scopes) if at_once is None else each_in_parallel(do, scopes, at_once)
        for number, result in enumerate(results, 1):
            if number % step == 0:
                bar = progress_bar(number, len(scopes))
                self._show(f"{before}{bar} {stream}: {number:,} of {amount(len(scopes), 'scope')}")
            yield result


def progress_bar(done: int, total: int) -> str:
    """A bar of 20 characters, in brackets. ASCII, since a terminal may have no other characters."""
    filled = _BAR_WIDTH * done // total
    return f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}]"


@contextmanager
def continue_after_error(report: Callable[[str], None]) -> Iterator[None]:
    """Reports an error that concerns one stream, so that the others go on. Errors of the whole bucket are raised."""
    try:
        yield
    except (CredentialsError, BucketNotFoundError, EndpointUnreachableError):
        raise
    except (CommitError, StorageError) as error:
        report(error.message)
