"""`s3dest begin`, `stage`, `commit` and `abandon`: one sync from many workers, which are any processes.

Orders and receipts are lines of JSON, in files or pipes. Must not know: the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from s3dest_dagster.batch import BadRecord, JsonBatch
from s3dest_dagster.cli.output import Output, Session
from s3dest_dagster.cli.targets import new_sync, opened_target, read_config, read_streams
from s3dest_dagster.cli.write import report
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.shards import driver
from s3dest_dagster.shards.order import Order
from s3dest_dagster.shards.receipts import ShardReceipt
from s3dest_dagster.shards.staging import stage as stage_shard
from s3dest_dagster.shards.staging import system_clock
from s3dest_dagster.sources.files import read_json_lines
from s3dest_dagster.stream import Scope, Stream

_STDIN = "-"


@dataclass(frozen=True, slots=True)
class BeginRequest:
    """What an order is to be about."""

    name: str | None
    """The stream. None if the catalog has only one."""
    partition: str | None
    """The partition. None for what has no partition."""
    sync_id: str | None
    """The id of the sync. None for a random one."""
    now: datetime | None
    """The time at which the clock is stopped. None for the machine's clock."""
    owner: str | None
    """On whose behalf the stream lands. None if nobody is named."""


def begin(
    output: Output, config_path: str, catalog_path: str, discovered_path: str | None, request: BeginRequest
) -> int:
    """Prints the order of a sync."""
    config = read_config(config_path, output)
    selected = read_streams(config, catalog_path, discovered_path).of_owner(request.owner)
    stream = _only(selected.streams, request.name)
    with opened_target(config, request.now) as target:
        scope = Scope(stream.id, request.partition)
        order = driver.begin(target, stream, new_sync(request.sync_id, request.now), scope)
    if order.complete:
        output.say(f"{scope}: sync {order.sync_id} is complete already, so that there is nothing to stage.")
    output.pass_on(order.to_json().encode())
    return 0


def stage(output: Output, order_path: str, shard: str, paths: Sequence[str], config_path: str | None) -> int:
    """Prints the receipt of a shard, whose records are in JSON Lines."""
    order = _order(order_path)
    connection, hash_key = _access(config_path, output)
    with ExitStack() as files:
        opened: list[BinaryIO] = [files.enter_context(Path(path).open("rb")) for path in _checked(paths)]
        receipt = stage_shard(
            order, _records(opened or [_standard_input()]), shard=shard, s3=connection, hash_key=hash_key
        )
    if receipt.complete:
        output.say(f"{order.scope}: sync {order.sync_id} is complete already, so that nothing was staged.")
    else:
        output.say(f"{order.scope}: shard {shard}, {amount(receipt.rows, 'row')} staged")
    output.pass_on(receipt.to_json().encode())
    return 0


def commit(session: Session, order_path: str, paths: Sequence[str], shards: int | None, config_path: str | None) -> int:
    """Publishes the shards whose receipts are in these files."""
    order = _order(order_path)
    connection, _ = _access(config_path, session.output)
    lines = [line for path in paths for line in _lines(path)]
    with session.interruption.deferred():
        receipt = driver.commit(order, map(ShardReceipt.from_json, lines), shards=shards, s3=connection)
    report(receipt, order.open_bucket(connection, order.to_destination()), session.output)
    return 0


def abandon(output: Output, order_path: str, config_path: str | None) -> int:
    """Aborts what the workers of an order have uploaded."""
    order = _order(order_path)
    connection, _ = _access(config_path, output)
    aborted = driver.abandon(order, s3=connection)
    output.say(f"{order.scope}: sync {order.sync_id} is abandoned, {amount(aborted, 'upload')} aborted")
    return 0


# ---------------------------------------------------------------------- files


def _only(streams: Sequence[Stream], name: str | None) -> Stream:
    """The stream with this name, or the only one."""
    named = [each for each in streams if name is None or str(each.id) == name]
    if len(named) == 1:
        return named[0]
    known = [str(each.id) for each in streams]
    if name is None:
        raise SettingsError(f"The catalog has {amount(len(known), 'stream')}: name one by --stream.", setting="stream")
    raise SettingsError(f"The catalog has no stream {name!r}. {did_you_mean(name, known)}", setting="stream")


def _order(path: str) -> Order:
    try:
        return Order.from_json(b"".join(_lines(path)))
    except SettingsError as error:
        error.add_note(f"(In {path}.)")
        raise


def _access(config_path: str | None, output: Output) -> tuple[S3Connection | None, str | None]:
    """The connection and the key of hashed fields in a configuration file, if one is named."""
    if config_path is None:
        return None, None
    config = read_config(config_path, output)
    return config.connection, config.destination.hash_key


def _lines(path: str) -> Iterator[bytes]:
    """Yields the lines of a file, or of standard input, that are not blank."""
    content = _standard_input().read() if path == _STDIN else Path(*_checked([path])).read_bytes()
    yield from (line for line in content.splitlines() if line.strip())


def _checked(paths: Sequence[str]) -> Sequence[str]:
    """The paths. Raises SettingsError for one that is not a file."""
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise SettingsError(f"There is no file {missing[0]}.")
    return paths


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise SettingsError("Standard input is closed.")
    return sys.stdin.buffer


def _records(files: Sequence[BinaryIO]) -> Iterator[JsonBatch | BadRecord]:
    """Yields the records of files with JSON Lines, and the lines that are no records, with their files."""

    def numbered(file: BinaryIO) -> Iterator[JsonBatch | BadRecord]:
        for item in read_json_lines(file, lambda: int(system_clock().timestamp() * 1000)):
            yield replace(item, file=file.name) if isinstance(item, BadRecord) else item

    return chain.from_iterable(map(numbered, files))
