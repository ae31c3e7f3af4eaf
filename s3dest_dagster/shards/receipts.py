"""The receipts of shards: what a worker has staged, and which of all receipts count.

Values only. Must not know: S3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from s3dest_dagster.commit.landed_objects import ListedObjects, SegmentObject
from s3dest_dagster.commit.segment import Counts
from s3dest_dagster.errors import CommitError, SchemaError, SettingsError
from s3dest_dagster.printable import amount
from s3dest_dagster.shards.order import Order

_SHOWN = 5
ShardId = str | int
"""The name of a shard: any text or number that is the same in every attempt at it."""


class ShardReceipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one worker has staged for an order. Nothing of it is visible before the commit.

    Example:
        receipts = [ShardReceipt.from_json(text) for text in texts]
    """

    order: str
    """Id of the order."""
    shard: str
    """The shard."""
    objects: tuple[SegmentObject, ...] = ()
    """Its staged objects."""
    quarantine: SegmentObject | None = None
    """The staged object with lines that were not records, or None."""
    lists: tuple[ListedObjects, ...] = ()
    """Documents in the bucket that list its objects and its quarantine, if it has many. The receipt then has none."""
    counts: Counts = Counts()
    """Counts of its records by outcome."""
    fingerprint: str = ""
    """SHA-256 of the columns with which the objects were written."""
    big_integers: tuple[int, ...] = ()
    """Ids of columns in which integers were seen that no double holds."""
    complete: bool = False
    """Whether the sync was complete when the worker ended, so that it has kept nothing."""

    def to_json(self) -> str:
        """The receipt as JSON text. `from_json` gives an equal receipt."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> ShardReceipt:
        """The receipt of a JSON text. Raises SettingsError if it is none."""
        try:
            return _DECODER.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"This is no receipt of a shard: {error}. Give the text that `stage` returned."
            ) from None

    @property
    def rows(self) -> int:
        """Rows of all objects."""
        return sum(each.rows for each in self.objects) + sum(each.rows for each in self.lists)


_DECODER = msgspec.json.Decoder(ShardReceipt)


def counted(
    order: Order, receipts: Iterable[ShardReceipt], shards: int | Collection[ShardId] | None
) -> Iterator[ShardReceipt]:
    """Yields the receipts that count: the first of each shard. Further ones are of attempts that lost.

    Args:
        order: The order.
        receipts: All receipts.
        shards: The shards that there must be, or their number. None if the engine does not know them.

    Raises:
        SettingsError: A receipt belongs to another order.
        CommitError: A receipt was changed, or, at the end, a shard is missing, or there is one too many.
        SchemaError: A shard has other columns than the order.
    """
    found: dict[str, None] = {}
    for receipt in receipts:
        if receipt.order != order.id:
            raise SettingsError(
                f"The receipt of shard {receipt.shard!r} belongs to order {receipt.order}, and this one is {order.id}. "
                "Nothing was published or dropped. Commit each order with its own receipts.",
                **order.error_location(),
            )
        if not receipt.complete and receipt.shard not in found:
            found[receipt.shard] = None
            _check_content(order, receipt)
            yield receipt
    if shards is not None:
        _check_shards(order, found, shards)


def _check_shards(order: Order, found: Collection[str], shards: int | Collection[ShardId]) -> None:
    if isinstance(shards, int):
        if len(found) != shards:
            raise _wrong_shards(order, f"{amount(shards, 'shard')} were expected, and {len(found):,} have a receipt")
        return
    expected = dict.fromkeys(map(str, shards))
    if missing := [each for each in expected if each not in found]:
        raise _wrong_shards(order, f"no receipt has come from {_named(missing)} of {amount(len(expected), 'shard')}")
    if unknown := [each for each in found if each not in expected]:
        raise _wrong_shards(order, f"{_named(unknown)} was not expected")


def _named(shards: Sequence[str]) -> str:
    shown = ", ".join(map(repr, shards[:_SHOWN]))
    more = f" and {len(shards) - _SHOWN:,} more" if len(shards) > _SHOWN else ""
    return f"shard {shown}{more}"


def _wrong_shards(order: Order, problem: str) -> CommitError:
    return CommitError(
        f"Sync {order.sync_id} of {order.scope} is not complete: {problem}. Nothing was published, and what the "
        "workers have staged is dropped. Begin a new order, and stage every shard.",
        **order.error_location(),
    )


def _check_content(order: Order, receipt: ShardReceipt) -> None:
    kept = receipt.quarantine.rows if receipt.quarantine is not None else 0
    kept += sum(each.quarantined_rows for each in receipt.lists)
    if not receipt.counts.add_up(receipt.rows, kept):
        raise CommitError(
            f"The counts of shard {receipt.shard!r} of {order.scope} do not add up: "
            f"{amount(receipt.counts.read, 'record')} read, {receipt.rows:,} landed, {kept:,} quarantined. Nothing was "
            "published. Somebody has changed the receipt; begin a new order.",
            **order.error_location(),
        )
    if receipt.fingerprint != order.fingerprint:
        raise SchemaError(
            f"Shard {receipt.shard!r} of {order.scope} was written with other columns than those of its order. Nothing "
            "was published. Give all workers the same order and the same version of s3dest-dagster.",
            **order.error_location(),
        )
