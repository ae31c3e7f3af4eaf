"""The verbs on what streams hold, with their help: ls, show, verify, recover, sweep, transfer and retire.

Must not know: how a verb works.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from s3dest_dagster.cli.options import json_option, now_option, selection_options, verbose_option
from s3dest_dagster.cli.output import Session

_ORDERS = ["landed", "rows", "size", "key"]


@click.command()
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only objects with this directory of partition_by, as dt=2026-01-05; an empty value means null.",
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(_ORDERS),
    help="Sort by this: the newest, the most rows or the largest first. Default: by stream, partition and time.",
)
@click.option("--files", is_flag=True, help="List the copies of files that came with records, not the objects.")
@selection_options()
@now_option
@json_option
@verbose_option
@click.pass_obj
def ls(
    session: Session,
    /,
    where: Sequence[str],
    order: str | None,
    files: bool,
    now: datetime | None,
    **options: str | None,
) -> int:
    """List the objects that the streams hold now.

    The manifests decide what is listed; other objects in the bucket are not.
    """
    from s3dest_dagster.cli import listing, selections
    from s3dest_dagster.inspection.partition_filter import PartitionFilter

    request = listing.ListRequest(PartitionFilter.of_texts(where), order, now, files)
    return listing.ls(session.output, selections.SelectionOptions(**options), request)


@click.command()
@click.argument("stream")
@click.option("--rows", type=click.IntRange(0), default=5, help="The number of records to show. Default: 5.")
@selection_options()
@now_option
@json_option
@verbose_option
@click.pass_obj
def show(session: Session, /, stream: str, rows: int, now: datetime | None, **options: str | None) -> int:
    """Show a stream, such as public.users: its columns, what it holds, its last syncs and a few records."""
    from s3dest_dagster.cli import selections
    from s3dest_dagster.cli import show as showing

    return showing.show(session.output, selections.SelectionOptions(**options), stream, rows, now)


@click.command()
@selection_options()
@click.option("--deep", is_flag=True, help="Read every object, too, and compare its checksum and its number of rows.")
@json_option
@verbose_option
@click.pass_obj
def verify(session: Session, /, deep: bool, **options: str | None) -> int:
    """Compare the bucket with the manifests.

    Every object must exist with the size and the ETag of its manifest, if the server's ETags depend on the content. The
    counts of every sync must add up: every record that was read is landed or quarantined.

    Objects that match a stream's template but are in no manifest are counted as foreign, which is not a failure.
    """
    from s3dest_dagster.cli import maintain, selections

    return maintain.verify(session.output, selections.SelectionOptions(**options), deep=deep)


@click.command()
@selection_options()
@json_option
@verbose_option
@click.pass_obj
def recover(session: Session, /, **options: str | None) -> int:
    """Finish syncs that were interrupted.

    A sync that was decided is published. If its uploads have vanished, it is rolled back.
    """
    from s3dest_dagster.cli import maintain, selections

    return maintain.recover(session.output, selections.SelectionOptions(**options))


@click.command()
@selection_options(partition=False)
@now_option
@json_option
@verbose_option
@click.pass_obj
def sweep(session: Session, /, now: datetime | None, **options: str | None) -> int:
    """Abort uploads that crashed syncs left behind.

    Only uploads of the selected streams are aborted, if they are older than abandoned_upload_age_s and no sync is
    publishing them.
    """
    from s3dest_dagster.cli import maintain, selections

    return maintain.sweep(session.output, selections.SelectionOptions(**options), now)


@click.command()
@click.argument("stream")
@click.option("--to", "owner", metavar="OWNER", help="The new owner, such as an asset's key.")
@click.option("--to-stream", "target", metavar="STREAM", help="The new name, such as public.people.")
@click.option("--yes", is_flag=True, help="Give the stream its new name. Without this option, only show what would go.")
@selection_options(partition=False)
@now_option
@json_option
@verbose_option
@click.pass_obj
def transfer(
    session: Session,
    /,
    stream: str,
    owner: str | None,
    target: str | None,
    yes: bool,
    now: datetime | None,
    **options: str | None,
) -> int:
    """Give a stream, such as public.users, to a new owner, or everything that it holds to a new name.

    With --to, every other owner is refused from then on. A sync that is running still lands.

    With --to-stream, objects, states, columns and owner go to the new name, which must hold nothing. The objects keep
    their keys. Neither name lands before that is finished. If it is interrupted, run it again.
    """
    from s3dest_dagster.cli import selections, transfers

    selection = selections.SelectionOptions(**options)
    if target is None:
        return transfers.transfer_owner(session.output, selection, stream, owner)
    request = transfers.RenameRequest(stream, target, owner, yes=yes)
    return transfers.transfer_content(session, selection, request, now)


@click.command()
@click.argument("stream")
@click.option("--scope", "partition", metavar="KEY", help="Only this partition; an empty KEY is what has no partition.")
@click.option("--undo", is_flag=True, help="Bring back what was retired and is not deleted yet.")
@click.option("--yes", is_flag=True, help="Do it. Without this option, only show what would be done.")
@selection_options(partition=False)
@now_option
@json_option
@verbose_option
@click.pass_obj
def retire(
    session: Session,
    /,
    stream: str,
    partition: str | None,
    undo: bool,
    yes: bool,
    now: datetime | None,
    **options: str | None,
) -> int:
    """Take away all that a stream, such as public.users, or one of its partitions holds.

    Each partition is a commit of its own, and its state goes, too. The objects are deleted after retire_grace_s. Until
    then --undo brings everything back, unless the partition has landed since.
    """
    from s3dest_dagster.cli import leftovers, selections

    request = leftovers.RetireRequest(stream, partition, undo=undo, yes=yes)
    return leftovers.retire(session, selections.SelectionOptions(**options), request, now)


STREAM_COMMANDS = (ls, show, verify, recover, sweep, transfer, retire)
