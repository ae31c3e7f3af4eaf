"""The verbs and options of `s3dest`, with their help: those that land, and those that people run before a sync.

A verb's module is imported when the verb runs, so that help is fast. Must not know: how a verb works.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from s3dest_dagster.cli.local_commands import LOCAL_COMMANDS
from s3dest_dagster.cli.options import (
    catalog_option,
    config_option,
    discovered_option,
    json_option,
    landing_options,
    now_option,
    owner_option,
    set_limit,
    verbose_option,
)
from s3dest_dagster.cli.output import Session
from s3dest_dagster.cli.shard_commands import SHARD_COMMANDS
from s3dest_dagster.cli.state_commands import state
from s3dest_dagster.cli.stream_commands import STREAM_COMMANDS


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="s3dest-dagster", prog_name="s3dest")
def s3dest() -> None:
    """Land streams of records in S3: all at once or not at all.

    Exit codes: 0 success, 1 a failure, 2 a wrong call or configuration.
    """


@s3dest.command()
@landing_options("Check these streams, too: a configured catalog, or a discovered one.")
@click.option("--again", is_flag=True, help="Probe again what the server can do, even if it is known.")
@owner_option
@json_option
@verbose_option
@click.pass_obj
def check(
    session: Session, /, discovered_path: str | None, again: bool, owner: str | None, **options: str | None
) -> int:
    """Try everything that a sync needs, and report what is missing and what the server cannot do.

    The trial objects are deleted again. What the server can do is stored next to the manifests. With a catalog, the
    keys of its streams must not overlap, and each stream's schema, owner, template and manifest must allow it to land.
    """
    from s3dest_dagster.cli import check as checking
    from s3dest_dagster.cli.selections import SelectionOptions

    return checking.check(session.output, SelectionOptions(**options), discovered_path, again=again, owner=owner)


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
@landing_options("The streams: a configured catalog, or a discovered one (taken as full refresh).")
@click.option(
    "--partition",
    metavar="KEY",
    help="Plan the sync of this partition of each stream. Default: for assets, the newest one.",
)
@owner_option
@now_option
@json_option
@verbose_option
@click.pass_obj
def plan(
    session: Session,
    /,
    discovered_path: str | None,
    owner: str | None,
    now: datetime | None,
    **options: str | None,
) -> int:
    """Show what a sync would write and delete, and change nothing."""
    from s3dest_dagster.cli import inspect
    from s3dest_dagster.cli.selections import SelectionOptions

    return inspect.plan(session.output, SelectionOptions(**options), discovered_path, now, owner=owner)


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


for _command in (*STREAM_COMMANDS, *SHARD_COMMANDS, *LOCAL_COMMANDS, state):
    s3dest.add_command(_command)
