"""The verbs of one sync from many workers, with their help: begin, stage, commit and abandon.

Must not know: how a verb works.
"""

from __future__ import annotations

from datetime import datetime

import click

from s3dest_dagster.cli.options import (
    catalog_option,
    config_option,
    discovered_option,
    json_option,
    now_option,
    owner_option,
    verbose_option,
)
from s3dest_dagster.cli.output import Session

_order = click.option(
    "--order", "order_path", required=True, metavar="ORDER.json", help="What begin printed; - is standard input."
)
_access = click.option(
    "--config",
    "config_path",
    metavar="CONFIG.json",
    help="How to reach S3, and hash_key. Default: this machine's own identity. The order has all other settings.",
)


@click.command()
@config_option()
@catalog_option("The stream: a configured catalog, or a discovered one (taken as full refresh).", required=True)
@discovered_option
@click.option("--stream", "name", metavar="NAME", help="The stream, such as public.users, if the catalog has several.")
@click.option("--partition", metavar="KEY", help="The partition to land. Default: what has no partition.")
@now_option
@click.option("--sync-id", metavar="ID", help="Name the sync. An order of a complete sync has nothing to stage.")
@owner_option
@verbose_option
@click.pass_obj
def begin(
    session: Session,
    config_path: str,
    catalog_path: str,
    discovered_path: str | None,
    name: str | None,
    partition: str | None,
    now: datetime | None,
    sync_id: str | None,
    owner: str | None,
) -> int:
    """Begin a sync that several workers stage, and print its order.

    The order is one line of JSON without secrets. Give it to every worker, and to commit.
    """
    from s3dest_dagster.cli import shards

    request = shards.BeginRequest(name, partition, sync_id, now, owner)
    return shards.begin(session.output, config_path, catalog_path, discovered_path, request)


@click.command()
@_order
@click.option("--shard", required=True, metavar="NAME", help="The shard, named alike in every attempt at it.")
@click.argument("paths", nargs=-1, metavar="[FILE]...")
@_access
@verbose_option
@click.pass_obj
def stage(session: Session, order_path: str, shard: str, paths: tuple[str, ...], config_path: str | None) -> int:
    """Upload the records of one shard, and print its receipt. Nothing is visible before commit.

    The files, or standard input, hold JSON Lines: one record per line. The receipt is one line of JSON.
    """
    from s3dest_dagster.cli import shards

    return shards.stage(session.output, order_path, shard, paths, config_path)


@click.command()
@_order
@click.argument("paths", nargs=-1, required=True, metavar="RECEIPT...")
@click.option("--shards", type=click.IntRange(0), metavar="COUNT", help="Fail unless so many shards have a receipt.")
@_access
@json_option
@verbose_option
@click.pass_obj
def commit(
    session: Session, order_path: str, paths: tuple[str, ...], shards: int | None, config_path: str | None
) -> int:
    """Publish the shards of an order, all of them or none.

    The files hold receipts, one per line; - is standard input. One receipt counts for each shard. Uploads of all other
    attempts are aborted.
    """
    from s3dest_dagster.cli import shards as verbs

    return verbs.commit(session, order_path, paths, shards, config_path)


@click.command()
@_order
@_access
@verbose_option
@click.pass_obj
def abandon(session: Session, order_path: str, config_path: str | None) -> int:
    """Give an order up: abort what its workers have uploaded.

    What is published stays.
    """
    from s3dest_dagster.cli import shards

    return shards.abandon(session.output, order_path, config_path)


SHARD_COMMANDS = (begin, stage, commit, abandon)
"""The verbs of this module."""
