"""A destination opened for landing: its bucket, the threads that work for it, and what is drawn from outside.

One target serves any number of landings, side by side or one after another. It must not know streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from s3dest_dagster.formats import check_installed
from s3dest_dagster.ingest.encode_queue import EncodeQueue
from s3dest_dagster.ingest.memory_budget import MemoryBudget
from s3dest_dagster.keys import manifest_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, PartPool, headers_of_all

Clock = Callable[[], datetime]
"""Gives the current time, with a time zone."""
Entropy = Callable[[int], bytes]
"""Gives that many random bytes."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where landings land. Its landings share its threads and its memory, and are for one thread together.

    `clock` is this machine's, and dates what a landing writes. `server_clock` counts where machines must agree: how
    long something has been there, and when it may be deleted.
    """

    destination: S3Destination
    bucket: Bucket
    parts: PartPool
    encoding: EncodeQueue
    memory: MemoryBudget
    clock: Clock
    entropy: Entropy
    server_clock: Clock


@contextmanager
def open_target(
    destination: S3Destination,
    bucket: Bucket,
    *,
    clock: Clock,
    entropy: Entropy,
    server_clock: Clock | None = None,
) -> Iterator[Target]:
    """Opens the destination; leaving ends its threads. Landings must be committed or aborted before. Without a
    `server_clock` the server's answers tell the time.

    Raises MissingExtraError where the format needs an optional package that is not installed.
    """
    check_installed(destination.format)
    bucket = bucket.with_root(manifest_root(destination.template.literal_root)).with_headers(
        headers_of_all(destination)
    )
    memory = MemoryBudget(destination.open_bytes)
    with (
        PartPool(destination.upload_threads, abort_grace_s=destination.abort_grace_s) as parts,
        _encode_threads(destination.encode_workers) as threads,
    ):
        encoding = EncodeQueue(threads, workers=destination.encode_workers)
        shared = server_clock or bucket.server_time
        yield Target(destination, bucket, parts, encoding, memory, clock, entropy, shared)


@contextmanager
def _encode_threads(workers: int) -> Iterator[Executor | None]:
    """The threads that encode and compress beside the caller's own; None where that is enough."""
    if workers == 1:
        yield None
        return
    with ThreadPoolExecutor(workers - 1, thread_name_prefix="s3dest-encode") as threads:
        yield threads
