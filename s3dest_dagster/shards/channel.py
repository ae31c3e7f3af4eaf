"""`Channel`: hands the items of one process to another one of the same machine.

A batch travels through memory that both processes share, since a pipe copies it twice more, in pieces of 64 KB with a
switch of processes for each. The batch after it is put there while the first one is encoded, so that no process waits
for the one that reads. Must not know: what items are, which process gets which.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

SHARED_BYTES = 8 << 20
"""The size of the shared memory: more than the usual batch of any source. A larger one goes through the pipe."""


class Signal(Enum):
    """What the receiving process says between its items."""

    READY = "ready"
    """It is running, and will ask for items."""
    IDLE = "idle"
    """It has finished an item, or asks for the first one."""
    RECEIVED = "received"
    """It has copied the item, so that another one can be put in its place."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """A pickle whose buffers are in the shared memory, one behind the other."""

    pickled: bytes
    lengths: tuple[int, ...]


class Channel:
    """The end of the process that sends. `other_end` is pickled for the process that receives, when that is started."""

    def __init__(self, context: BaseContext, size: int = SHARED_BYTES) -> None:
        self.pipe, there = context.Pipe()
        # A file without a name, which is gone with the last of the two processes, however they end.
        shared = context.RawArray("B", size)
        self.other_end = OtherEnd(there, shared)
        self._memory = memoryview(shared).cast("B")
        # The other process is not idle before it has said so.
        self._unfinished = 1
        self._is_ready = False

    @property
    def is_idle(self) -> bool:
        return self._unfinished == 0

    @property
    def is_ready(self) -> bool:
        """Whether there is room for an item, which may have to wait for the one before it."""
        return self._is_ready

    def send(self, item: Any) -> None:
        """Raises a ConnectionError if the other process is gone."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
        views = [each.raw() for each in buffers]
        self._unfinished += 1
        self._is_ready = False
        if sum(map(len, views)) > len(self._memory):
            self.pipe.send(item)
            return
        position = 0
        for view in views:
            self._memory[position : position + len(view)] = view
            position += len(view)
        self.pipe.send(_Shared(pickled, tuple(map(len, views))))

    def receive(self) -> Any:
        """What the other process says: a `Signal`, or an answer of its own. Raises an EOFError or a ConnectionError if
        that process is gone."""
        answer = self.pipe.recv()
        if answer is Signal.IDLE:
            self._unfinished -= 1
            # Another item may lie there, which the other process has not copied yet.
            self._is_ready = self._is_ready or self.is_idle
        elif answer is Signal.RECEIVED:
            self._is_ready = True
        return answer

    def close_other_end(self) -> None:
        """Leaves the other end to the process that was started with it."""
        self.other_end.pipe.close()


class OtherEnd:
    """The end of the process that receives."""

    def __init__(self, pipe: Connection, shared: Any) -> None:
        self.pipe = pipe
        self._shared = shared

    def items(self) -> Iterator[Any]:
        """Yields the items that are sent, up to a None. Raises an EOFError or a ConnectionError if the other process
        is gone."""
        while True:
            self.pipe.send(Signal.IDLE)
            item = self._received()
            if item is None:
                return
            # A function is a part, which may take hours. The next one is for the process that is free first.
            if not callable(item):
                self.pipe.send(Signal.RECEIVED)
            yield item

    def _received(self) -> Any:
        message = self.pipe.recv()
        if not isinstance(message, _Shared):
            return message
        memory = memoryview(self._shared).cast("B")
        buffers, position = [], 0
        for length in message.lengths:
            # A copy, since the next item takes the place of this one while its values are still in use.
            buffers.append(bytes(memory[position : position + length]))
            position += length
        return pickle.loads(message.pickled, buffers=buffers)
