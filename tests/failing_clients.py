"""S3 clients that fail on purpose at one call, before or after the server acts, or that another writer overtakes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

EVERY_CRASH = bool(os.environ.get("S3DEST_EVERY_CRASH"))
"""Whether every kind of sync is tested with every failure at every call. Otherwise the usual kinds are tested with
one or two."""
WAYS = {
    "refused-one-call": (False, False),
    "refused-from-then-on": (False, True),
    "answer-lost-one-call": (True, False),
    "answer-lost-from-then-on": (True, True),
}
"""By name: whether the server acts, and whether every later call fails too."""
HARDEST_WAYS = tuple(WAYS) if EVERY_CRASH else ("answer-lost-from-then-on",)
"""For tests that would take too long with the usual ways."""
USUAL_WAYS = tuple(WAYS) if EVERY_CRASH else ("refused-one-call", *HARDEST_WAYS)
ACTS = frozenset(
    {
        "put_object",
        "get_object",
        "head_object",
        "delete_object",
        "delete_objects",
        "list_objects_v2",
        "create_multipart_upload",
        "upload_part",
        "complete_multipart_upload",
        "abort_multipart_upload",
        "list_multipart_uploads",
    }
)

READS = frozenset({"get_object", "head_object", "list_objects_v2", "list_multipart_uploads"})
"""Calls that change nothing on the server."""


class FailingClient:
    """An S3 client that fails at one call. `calls` are the calls so far.

    Args:
        at: the number of the call, from 1, or the name of a method. The client fails at its first call.
        after: the server acts, but its answer is lost.
        dead: every later call fails, too.
    """

    def __init__(self, client: Any, *, at: int | str | None = None, after: bool = False, dead: bool = False) -> None:
        self._client = client
        self._at = at
        self._after = after
        self._dead = dead
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._counted(name, method) if name in ACTS else method

    def _counted(self, name: str, method: Any) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            number = len(self.calls)
            self._at = number if name == self._at else self._at
            fails = isinstance(self._at, int) and (number == self._at or (self._dead and number > self._at))
            if fails and not (self._after and number == self._at):
                raise EndpointConnectionError(endpoint_url="injected")
            answer = method(**arguments)
            if fails:
                raise ReadTimeoutError(endpoint_url="injected")
            return answer

        return call

    @property
    def meta(self) -> Any:
        return self._client.meta

    @property
    def failed(self) -> str:
        """The call that failed, for messages."""
        at = self._at if isinstance(self._at, int) else 0
        return f"call {at} ({self.calls[at - 1]})" if 0 < at <= len(self.calls) else "no call"


def failing_in_turn(client: Any, *, after: bool, dead: bool, step: int = 1) -> Iterator[FailingClient]:
    """Clients for an operation that is repeated: one that never fails, then one that fails at its first call, at its
    second, and so on.

    With a `step`, clients fail at one in so many calls, unless every crash is tested.

    What a sync that dies at a read leaves is what it left at its last change, and a read that follows another finds
    the bucket that the other found. So clients that die at a read, or fail at such a one, are made only if every crash
    is tested.
    """
    unfailing = FailingClient(client)
    yield unfailing
    before, calls = "", []
    for at, call in enumerate(unfailing.calls, 1):
        if EVERY_CRASH or call not in READS or not (dead or before in READS):
            calls.append(at)
        before = call
    first, every = (0, 1) if EVERY_CRASH else (step - 1, step)
    for at in calls[first::every]:
        yield FailingClient(client, at=at, after=after, dead=dead)


class DyingAfterDeciding(FailingClient):
    """A client that is dead from the first call of a method after the commit's decision."""

    def __init__(self, client: Any, at: str) -> None:
        super().__init__(client, dead=True)
        self._last_call = at

    def _counted(self, name: str, method: Any) -> Any:
        counted = super()._counted(name, method)

        def call(**arguments: Any) -> Any:
            if name == "put_object" and b'"pending_segment": "' in arguments["Body"]:
                self._at = self._last_call
            return counted(**arguments)

        return call


class CountedClient:
    """An S3 client that counts its calls, and the bytes that it puts outside multipart uploads."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: list[str] = []
        self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            self.bytes += len(arguments.get("Body", b"")) if name == "put_object" else 0
            return method(**arguments)

        return call if name in ACTS else method

    @property
    def meta(self) -> Any:
        return self._client.meta


class OvertakenClient:
    """An S3 client that lets another writer act just before one of its calls.

    Args:
        at: the number of the call, or the name of a method, at whose first call for a key that ends with `key`.
        other: acts as the other writer.
        lost: acts after the server has acted instead, whose answer is lost.
    """

    def __init__(
        self, client: Any, at: int | str, other: Callable[[], object], *, key: str = "", lost: bool = False
    ) -> None:
        self._client, self._at, self._other, self._key, self._lost = client, at, other, key, lost
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._counted(name, method) if name in ACTS else method

    @property
    def calls(self) -> int:
        """The number of calls so far."""
        return len(self.names)

    def _counted(self, name: str, method: Any) -> Any:
        def call(**arguments: Any) -> Any:
            self.names.append(name)
            if name == self._at and str(arguments.get("Key", "")).endswith(self._key):
                self._at = self.calls
            if self.calls != self._at:
                return method(**arguments)
            if not self._lost:
                self._other()
                return method(**arguments)
            method(**arguments)
            self._other()
            raise ReadTimeoutError(endpoint_url="injected")

        return call
