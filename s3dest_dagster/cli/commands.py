"""The verbs and options of `s3dest`, with their help.

A verb's module is imported when the verb runs, so that help is fast. Must not know: how a verb works.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from s3dest_dagster.cli.local_commands import LOCAL_COMMANDS
from s3dest_dagster.cli.options import (
    catalog_option,
    config_option,
    discovered_option,
    json_option,
    now_option,
    owner_option,
    selection_options,
    set_limit,
    verbose_option,
)
from s3dest_dagster.cli.output import Session
from s3dest_dagster.cli.shard_commands import SHARD_COMMANDS


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="s3dest-dagster", prog_name="s3dest")
def s3dest() -> None:
    """Land streams of records in S3: all at once or not at all.

    Exit codes: 0 success, 1 a failure, 2 a wrong call or configuration.
    """


@s3dest.command()
@config_option()
@catalog_option("Check these streams, too: a configured catalog, or a discovered one.")
@discovered_option
@click.option("--again", is_flag=True, help="Probe again what the server can do, even if it is known.")
@owner_option
@json_option
@verbose_option
@click.pass_obj
def check(
    session: Session,
    config_path: str,
    catalog_path: str | None,
    discovered_path: str | None,
    again: bool,
    owner: str | None,
) -> int:
    """Try everything that a sync needs, and report what is missing and what the server cannot do.

    The trial objects are deleted again. What the server can do is stored next to the manifests. With a catalog, the
    keys of its streams must not overlap, and each stream's schema, owner, template and manifest must allow it to land.
    """
    from s3dest_dagster.cli import inspect

    return inspect.check(session.output, config_path, catalog_path, discovered_path, again=again, owner=owner)


@s3dest.command()
@verbose_option
@click.pass_obj
def spec(session: Session) -> int:
    """Print the Airbyte SPEC message.

    It lists the settings that a configuration may have.
    """
    from s3dest_dagster.cli import inspect

    return inspect.spec(session.output)


@s3dest.command()
@click.option("--source", required=True, metavar="EXECUTABLE", help="An Airbyte source connector.")
@config_option("The source's configuration.")
@verbose_option
@click.pass_obj
def discover(session: Session, source: str, config_path: str) -> int:
    """Print the catalog of a source.

    The source's log lines go to standard error. If the source changes its configuration, the file is updated.
    """
    from s3dest_dagster.cli import inspect

    return inspect.discover(session.output, source, config_path)


@s3dest.command()
@config_option()
@catalog_option("The streams: a configured catalog, or a discovered one (taken as full refresh).", required=True)
@discovered_option
@click.option("--partition", metavar="KEY", help="Plan the sync of this partition of each stream.")
@owner_option
@now_option
@json_option
@verbose_option
@click.pass_obj
def plan(
    session: Session,
    config_path: str,
    catalog_path: str,
    discovered_path: str | None,
    partition: str | None,
    owner: str | None,
    now: datetime | None,
) -> int:
    """Show what a sync would write and delete, and change nothing."""
    from s3dest_dagster.cli import inspect

    return inspect.plan(session.output, config_path, catalog_path, discovered_path, partition, now, owner=owner)


@s3dest.command()
@config_option()
@catalog_option("The streams: a configured catalog, or a discovered one (taken as full refresh).", required=True)
@discovered_option
@now_option
@click.option(
    "--sync-id", metavar="ID", help="Name the sync. A sync that is complete under its id is not landed again."
)
@click.option(
    "--allow-empty",
    is_flag=True,
    help="Treat an input, or a stream, without any message as empty, even if that deletes objects.",
)
@click.option(
    "--source-config",
    "source_config_path",
    metavar="SOURCE.json",
    help="The source's configuration file, which is updated if the source changes its configuration.",
)
@click.option(
    "--max-line-mb",
    type=click.IntRange(1),
    expose_value=False,
    callback=set_limit,
    help="Fail the sync at a longer line (default: 128). A line needs several times its size in memory.",
)
@click.option(
    "--stall-timeout",
    "stall_timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    expose_value=False,
    callback=set_limit,
    help="Fail the sync if the source writes nothing for so long (default: wait forever).",
)
@owner_option
@json_option
@verbose_option
@click.pass_obj
def write(
    session: Session,
    config_path: str,
    catalog_path: str,
    discovered_path: str | None,
    now: datetime | None,
    sync_id: str | None,
    source_config_path: str | None,
    allow_empty: bool,
    owner: str | None,
) -> int:
    """Land the Airbyte messages of standard input.

    Every stream of the catalog is a sync, even if it has no record. An input without any message is an error.

    Only checkpoints of a long append are visible before the input has ended successfully. Standard output gets the
    STATE messages whose records are published, and nothing else. With --json, standard error gets one JSON object per
    stream.
    """
    from s3dest_dagster.cli import write as writing

    files = (config_path, catalog_path, discovered_path)
    return writing.write(session, *files, now, sync_id, source_config_path, allow_empty=allow_empty, owner=owner)


@s3dest.command()
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only objects with this directory of partition_by, as dt=2026-01-05; an empty value means null.",
)
@selection_options()
@json_option
@verbose_option
@click.pass_obj
def ls(session: Session, /, where: Sequence[str], **options: str | None) -> int:
    """List the objects that the streams hold now.

    The manifests decide what is listed; other objects in the bucket are not.
    """
    from s3dest_dagster.cli import maintain, targets
    from s3dest_dagster.inspection.partition_filter import PartitionFilter

    return maintain.ls(session.output, targets.SelectionOptions(**options), PartitionFilter.of_texts(where))


@s3dest.command()
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
    from s3dest_dagster.cli import maintain, targets

    return maintain.verify(session.output, targets.SelectionOptions(**options), deep=deep)


@s3dest.command()
@selection_options()
@json_option
@verbose_option
@click.pass_obj
def recover(session: Session, /, **options: str | None) -> int:
    """Finish syncs that were interrupted.

    A sync that was decided is published. If its uploads have vanished, it is rolled back.
    """
    from s3dest_dagster.cli import maintain, targets

    return maintain.recover(session.output, targets.SelectionOptions(**options))


@s3dest.command()
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
    from s3dest_dagster.cli import maintain, targets

    return maintain.sweep(session.output, targets.SelectionOptions(**options), now)


@s3dest.command()
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
    from s3dest_dagster.cli import targets, transfers

    selection = targets.SelectionOptions(**options)
    if target is None:
        return transfers.transfer_owner(session.output, selection, stream, owner)
    request = transfers.RenameRequest(stream, target, owner, yes=yes)
    return transfers.transfer_content(session, selection, request, now)


@s3dest.command()
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
    from s3dest_dagster.cli import leftovers, targets

    request = leftovers.RetireRequest(stream, partition, undo=undo, yes=yes)
    return leftovers.retire(session, targets.SelectionOptions(**options), request, now)


@s3dest.command()
@config_option()
@catalog_option("The streams whose objects are looked for: a configured catalog, or a discovered one.", required=True)
@click.option(
    "--layout",
    type=click.Choice(["0.6", "1"]),
    help="Only objects with the columns of this version of the connector. Default: of any version.",
)
@click.option("--deep", is_flag=True, help="Read every object, to count its records and to see that it can be read.")
@click.option("--undo", is_flag=True, help="Forget what was adopted. Its objects stay in the bucket.")
@click.option("--yes", is_flag=True, help="Do it. Without this option, only show what would be done.")
@owner_option
@now_option
@json_option
@verbose_option
@click.pass_obj
def adopt(session: Session, /, now: datetime | None, **options: Any) -> int:
    """Take over the objects that the Airbyte connector has left for the streams of a catalog.

    They are listed in the streams' manifests, and stay as they are. From then on ls, verify, appends and full refreshes
    treat them like objects that s3dest has landed. Objects that may belong to another stream, or cannot be read, are
    called ambiguous and are left out. All others are foreign.
    """
    from s3dest_dagster.cli import adopt as adopting

    return adopting.adopt_objects(session, adopting.AdoptRequest(**options), now)


@s3dest.group()
def state() -> None:
    """The states that sources resume from."""


_streams = click.option("--stream", "names", multiple=True, metavar="NAME", help="A stream, such as public.users.")


@state.command()
@selection_options(partition=False)
@verbose_option
@click.pass_obj
def show(session: Session, /, **options: str | None) -> int:
    """Print the states that the published records have reached.

    A source accepts the list as its --state.
    """
    from s3dest_dagster.cli import state as states
    from s3dest_dagster.cli.targets import SelectionOptions

    return states.show(session.output, SelectionOptions(**options))


@state.command(name="set")
@selection_options(partition=False)
@click.option("--state", "state_path", required=True, metavar="STATE.json", help="The states; - is standard input.")
@_streams
@now_option
@json_option
@verbose_option
@click.pass_obj
def set_(
    session: Session, /, state_path: str, names: tuple[str, ...], now: datetime | None, **options: str | None
) -> int:
    """Set the states that the next syncs resume from.

    The file holds the output of `state show`, or STATE messages. If a sync runs at the same time, either it fails, or
    this command fails and names it.
    """
    from s3dest_dagster.cli import state as states
    from s3dest_dagster.cli.targets import SelectionOptions

    return states.set_(session, SelectionOptions(**options), state_path, names, now)


@state.command()
@selection_options(partition=False)
@_streams
@click.option("--all", "everything", is_flag=True, help="The states of all streams that have landed.")
@now_option
@json_option
@verbose_option
@click.pass_obj
def reset(
    session: Session, /, names: tuple[str, ...], everything: bool, now: datetime | None, **options: str | None
) -> int:
    """Forget states, so that the next syncs start from the beginning.

    Landed objects stay: an append adds to them.
    """
    from s3dest_dagster.cli import state as states
    from s3dest_dagster.cli.targets import SelectionOptions

    return states.reset(session, SelectionOptions(**options), names, everything, now)


for _command in (*SHARD_COMMANDS, *LOCAL_COMMANDS):
    s3dest.add_command(_command)
