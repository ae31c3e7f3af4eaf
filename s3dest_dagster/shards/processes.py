"""`land_in_processes`: lands one stream on several cores of this machine, by processes that stage one shard each.

The calling process reads the records and gives each batch to a process that is free. Parts, such as files, are read by
these processes themselves. Must not know: what records are, how shards are staged and committed.
"""

from __future__ import annotations

import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, cast

from s3dest_dagster.batch import Batch, SourceItem, StreamNotice, UndecodedItems
from s3dest_dagster.commit.publication import Clock
from s3dest_dagster.errors import CommitError, S3DestError, SettingsError, SourceError, StorageError
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards.channel import Channel, OtherEnd, Signal
from s3dest_dagster.shards.driver import abandon, begin, commit
from s3dest_dagster.shards.order import Order
from s3dest_dagster.shards.receipts import ShardReceipt
from s3dest_dagster.shards.staging import stage, system_clock
from s3dest_dagster.sources.items import items_of, undecoded_items_of
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, Sync

ReadPart = Callable[[], Any]
"""Returns the records of a part. It can be pickled."""
S3OfProcess = S3Connection | Callable[[], Bucket] | None
"""How a process reaches S3: a connection, a function that can be pickled, or None for the machine's own identity."""


def land_in_processes(
    target: Target,
    stream: Stream,
    sync: Sync,
    records: Any = (),
    *,
    parts: Iterable[ReadPart] = (),
    processes: int = 2,
    scope: Scope | None = None,
    schema: Any = None,
    asset: str | None = None,
    s3: S3OfProcess = None,
) -> Receipt:
    """Lands a stream on several cores. All records become visible together, or none do and all uploads are aborted.

    Each process stages one shard, which takes the next batch or part whenever it is free. So the records come in no
    order, and each process writes at least one object. If a process fails or is killed, the sync fails. The processes
    start anew and import the calling script: guard its statements by `if __name__ == "__main__"`.

    Args:
        target: The destination. Each process has its own `memory_mb` and `encode_workers`.
        stream, sync, scope, schema, asset: See `begin`.
        records: Anything that `batches` accepts, or a source's items without states. This process reads them, and
            holds one batch at a time. Each of the others holds one, and has the next one in a memory of 8 MB that it
            shares with this process.
        parts: Functions that return records, such as `FileSource(path).read`. A process calls them. They land together
            with `records`.
        processes: How many processes, at least 1.
        s3: How the processes reach S3: a connection, or a function that opens the bucket. Default: the machine's own
            identity, at the target's endpoint.

    Raises:
        CommitError: A process was killed. Nothing is visible.
        SettingsError: There is a state among the items, or as for `begin`.
        S3DestError: As for `stage` and `commit`. An error of a part that is not one of this library is raised as it is
            if it can be pickled, and otherwise as a SourceError.

    Example:
        files = [FileSource(str(path)).read for path in sorted(Path("inbox").glob("*.jsonl"))]
        receipt = land_in_processes(target, stream, sync, parts=files, processes=4)
    """
    if processes < 1:
        raise SettingsError(f"processes is {processes}; at least one is needed.", setting="processes")
    order = begin(target, stream, sync, scope, schema=schema, asset=asset)
    ends: dict[str, Any] = {"s3": target.bucket, "clock": target.server_clock, "entropy": target.entropy}
    if order.complete:
        return commit(order, (), **ends)
    try:
        with _Processes(processes, order, s3, target.destination) as started:
            receipts = started.stage(chain(_items_read_here(records, target.clock), parts))
    except BaseException:
        # The reason counts more than an upload that is left: a sweep aborts it.
        with suppress(StorageError):
            abandon(order, s3=target.bucket)
        raise
    return commit(order, receipts, shards=processes, **ends)


# ---------------------------------------------------------------------- the process that reads


def _items_read_here(records: Any, clock: Clock) -> Iterator[SourceItem | Batch | UndecodedItems]:
    """Yields the items that a shard is made of. Nothing is read before the first one is asked for."""
    for item in undecoded_items_of(records, emitted_at=lambda: int(clock().timestamp() * 1000)):
        if not isinstance(item, StreamNotice):
            yield item


class _Processes:
    """Processes that stage a shard each. Leaving the `with` ends them."""

    def __init__(self, number: int, order: Order, s3: S3OfProcess, destination: S3Destination) -> None:
        self._scope = order.scope
        self._grace_s = destination.abort_grace_s
        self._processes: dict[Connection, tuple[Channel, BaseProcess]] = {}
        self._receipts: dict[Connection, ShardReceipt] = {}
        # A fork of this process would copy the locks of its threads and the connections of its S3 client.
        context = get_context("forkserver")
        for shard in range(number):
            channel = Channel(context)
            given = (channel.other_end, shard, order.to_json(), s3, destination.hash_key)
            process = context.Process(target=_work, args=given, daemon=True, name=f"s3dest-shard-{shard}")
            process.start()
            channel.close_other_end()
            self._processes[channel.pipe] = channel, process

    def stage(self, items: Iterable[Any]) -> list[ShardReceipt]:
        """Gives each item to a process that is free, and returns the receipts of all processes.

        The first item is asked for when all processes are ready, so that one that cannot start costs the source
        nothing.
        """
        for pipe in self._processes:
            self._receive(pipe)
        for item in items:
            if (taker := self._taker(item)) is None:
                break  # the sync is already complete, by another driver
            self._send(taker, item)
        while (taker := self._taker(None)) is not None:
            self._send(taker, None)
        return list(self._receipts.values())

    def _taker(self, item: Any) -> Channel | None:
        """Waits for a process that can take the item, and prefers one that is idle. None if all have given their
        receipts."""
        # The end and a part, which may take hours, never wait behind another item.
        must_be_idle = item is None or callable(item)
        timeout: float | None = 0.0  # what has been said already comes first, above all an error
        while busy := [pipe for pipe in self._processes if pipe not in self._receipts]:
            for pipe in wait(busy, timeout):
                self._receive(cast(Connection, pipe))
            takers = [channel for pipe, (channel, _) in self._processes.items() if pipe not in self._receipts]
            takers = [each for each in takers if each.is_idle or (each.is_ready and not must_be_idle)]
            if takers:
                return min(takers, key=lambda each: not each.is_idle)
            timeout = None
        return None

    def _receive(self, pipe: Connection) -> None:
        """Notes what a process says, which may be its receipt. Raises its error."""
        try:
            answer = self._processes[pipe][0].receive()
        except (EOFError, ConnectionError):
            raise self._lost(pipe) from None
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, ShardReceipt):
            self._receipts[pipe] = answer

    def _send(self, channel: Channel, item: Any) -> None:
        try:
            channel.send(item)
        except ConnectionError:
            raise self._lost(channel.pipe) from None

    def _lost(self, pipe: Connection) -> CommitError:
        _, process = self._processes[pipe]
        process.join(self._grace_s)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return CommitError(
            f"{self._scope}: a process that staged a shard {how}. Nothing was published, and what was staged is "
            "dropped. If the machine ran out of memory, lower processes or memory_mb. If the process did not even "
            'start, guard the statements of the script by `if __name__ == "__main__"`. Then land it again.',
            stream=str(self._scope.stream),
            partition=self._scope.partition,
        )

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # A process that reads from a closed pipe aborts its uploads and ends.
        for pipe in self._processes:
            pipe.close()
        deadline = time.monotonic() + self._grace_s
        for _, process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


# ---------------------------------------------------------------------- the processes that stage


class _ReaderEndedError(Exception):
    """The process that reads has given up, or is gone."""


def _work(here: OtherEnd, shard: int, order: str, s3: S3OfProcess, hash_key: str | None) -> None:
    """Stages one shard, and sends its receipt, or the error that it failed with."""
    # Ctrl-C reaches all processes of a terminal. The one that reads ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(_ReaderEndedError, ConnectionError):
        try:
            bucket = s3() if callable(s3) else s3
            here.pipe.send(Signal.READY)
            receipt = stage(Order.from_json(order), _items(here), shard=shard, s3=bucket, hash_key=hash_key)
        except _ReaderEndedError:
            raise
        except Exception as error:
            here.pipe.send(_portable(error))
        else:
            here.pipe.send(receipt)


def _items(here: OtherEnd) -> Iterator[SourceItem | Batch | UndecodedItems]:
    """Yields the items that are sent, and those of the parts that are sent."""
    for item in _sent(here):
        if callable(item):
            yield from items_of(item(), emitted_at=lambda: int(system_clock().timestamp() * 1000))
        else:
            yield item


def _sent(here: OtherEnd) -> Iterator[Any]:
    try:
        yield from here.items()
    except (EOFError, ConnectionError):
        raise _ReaderEndedError from None


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same and can be pickled."""
    if not isinstance(error, S3DestError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return SourceError(f"A part cannot be read: {type(error).__name__}: {error}")
    return error
