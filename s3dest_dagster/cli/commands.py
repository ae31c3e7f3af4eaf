"""The verbs and options of `s3dest`, with their help. What a verb does is imported when it runs, so that help is fast.

It must not do anything itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from s3dest_dagster.cli.session import Session

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _asked(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Notes --verbose or --json in the session."""
    setattr(context.obj.output, str(parameter.name), value)


def _limit(context: click.Context, parameter: click.Parameter, value: float | None) -> None:
    """Notes a limit of reading in the session."""
    if value is not None:
        context.obj.limits[str(parameter.name)] = value


def _moment(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """The moment that an ISO 8601 text names; UTC where it names no offset."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time. Write it like 2021-01-01T00:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _where(*, partition: bool = True) -> Decorator:
    """The options that say where to look, and at what."""
    options: list[Decorator] = [
        click.option("--config", "config_path", metavar="CONFIG.json", help="The destination's configuration."),
        _catalog(_ONLY_STREAMS),
        click.option(
            "--module", "-m", metavar="MODULE", help="Instead of --config: a module with Dagster definitions."
        ),
        click.option("--select", "selection", metavar="ASSETS", help="Assets of the module, as Dagster selects them."),
        click.option("--partition", metavar="KEY", help="Only this partition of the streams."),
    ]

    def add(verb: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options if partition else options[:-1]):
            verb = option(verb)
        return verb

    return add


def _config(text: str = "The destination's configuration, a connector's config.json.") -> Decorator:
    return click.option("--config", "config_path", required=True, metavar="CONFIG.json", help=text)


def _catalog(text: str, *, required: bool = False) -> Decorator:
    return click.option("--catalog", "catalog_path", required=required, metavar="CATALOG.json", help=text)


_now = click.option("--now", callback=_moment, metavar="TIME", help="Fixes the clock (ISO 8601; UTC without offset).")
_verbose = click.option(
    "--verbose", is_flag=True, expose_value=False, callback=_asked, help="Say more, and show tracebacks of errors."
)
_json = click.option("--json", is_flag=True, expose_value=False, callback=_asked, help="Answer in JSON, for programs.")
_ONLY_STREAMS = "Only the streams of this catalog. Default: all that have landed."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="s3dest-dagster", prog_name="s3dest")
def s3dest() -> None:
    """Land streams of records in S3: all at once or not at all.

    Exit codes: 0 all is well, 1 something failed, 2 the call or the configuration is wrong.
    """


@s3dest.command()
@_config()
@_catalog("Look at these streams, too: a configured catalog, or a discovered one.")
@click.option("--again", is_flag=True, help="Find out anew what the server can do, whatever was found out before.")
@_json
@_verbose
@click.pass_obj
def check(session: Session, config_path: str, catalog_path: str | None, again: bool) -> int:
    """Try everything that a sync needs, and say what is missing and what the server cannot do.

    The trial objects are deleted again; what the server can do is noted beside the manifests. Of a catalog's streams
    the keys must stand apart, and each stream's schema, template and manifest must allow it to land.
    """
    from s3dest_dagster.cli import inspect

    return inspect.check(session.output, config_path, catalog_path, again=again)


@s3dest.command()
@_verbose
@click.pass_obj
def spec(session: Session) -> int:
    """Print the Airbyte SPEC message.

    It says which settings a configuration may have.
    """
    from s3dest_dagster.cli import inspect

    return inspect.spec(session.output)


@s3dest.command()
@click.option("--source", required=True, metavar="EXECUTABLE", help="An Airbyte source connector.")
@_config("The source's configuration.")
@_verbose
@click.pass_obj
def discover(session: Session, source: str, config_path: str) -> int:
    """Print the catalog of a source.

    The source's log lines go to standard error. What it changes of its configuration is written into the file.
    """
    from s3dest_dagster.cli import inspect

    return inspect.discover(session.output, source, config_path)


@s3dest.command()
@_config()
@_catalog("The streams: a configured catalog, or a discovered one (taken as full refresh).", required=True)
@click.option("--partition", metavar="KEY", help="Plan the sync of this partition of each stream.")
@_now
@_json
@_verbose
@click.pass_obj
def plan(session: Session, config_path: str, catalog_path: str, partition: str | None, now: datetime | None) -> int:
    """Say what a sync would write and delete, and change nothing."""
    from s3dest_dagster.cli import inspect

    return inspect.plan(session.output, config_path, catalog_path, partition, now)


@s3dest.command()
@_config()
@_catalog("The streams: a configured catalog, or a discovered one (taken as full refresh).", required=True)
@_now
@click.option("--sync-id", metavar="ID", help="Names the sync: an id that is complete lands nothing again.")
@click.option(
    "--allow-empty",
    is_flag=True,
    help="Take an input, or a stream, of which nothing is said for an empty one, even where that deletes something.",
)
@click.option(
    "--source-config",
    "source_config_path",
    metavar="SOURCE.json",
    help="The source's configuration; what the source changes of it is written there.",
)
@click.option(
    "--max-line-mb",
    type=click.IntRange(1),
    expose_value=False,
    callback=_limit,
    help="A longer line fails the sync (default: 128); some times as much is held in memory.",
)
@click.option(
    "--stall-timeout",
    "stall_timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    expose_value=False,
    callback=_limit,
    help="A source that writes nothing for so long fails the sync (default: it may).",
)
@_json
@_verbose
@click.pass_obj
def write(
    session: Session,
    config_path: str,
    catalog_path: str,
    now: datetime | None,
    sync_id: str | None,
    source_config_path: str | None,
    allow_empty: bool,
) -> int:
    """Land the Airbyte messages of standard input.

    Every stream of the catalog is a sync, also one without a record. An input that says nothing is an error.

    Nothing but the checkpoints of a long append is visible before the input has ended well. On standard output stand
    the STATE messages whose records are published, and nothing else; with --json the report on standard error is one
    JSON object a stream.
    """
    from s3dest_dagster.cli import write as writing

    return writing.write(session, config_path, catalog_path, now, sync_id, source_config_path, allow_empty=allow_empty)


@s3dest.command()
@_where()
@_json
@_verbose
@click.pass_obj
def ls(session: Session, /, **where: str | None) -> int:
    """List the objects that the streams hold now.

    What counts is their manifests; other objects of the bucket are not shown.
    """
    from s3dest_dagster.cli import maintain, targets

    return maintain.ls(session.output, targets.Where(**where))


@s3dest.command()
@_where()
@click.option("--deep", is_flag=True, help="Read every object, too: its checksum must be right, and its rows as many.")
@_json
@_verbose
@click.pass_obj
def verify(session: Session, /, deep: bool, **where: str | None) -> int:
    """Compare the bucket with the manifests.

    Every object must exist, and have the size and the ETag that its manifest says, where the server's ETags tell the
    content. The counts of every sync must add up: what was read is landed or quarantined.

    Objects that match a stream's template and that no manifest knows are counted as foreign, which is no failure.
    """
    from s3dest_dagster.cli import maintain, targets

    return maintain.verify(session.output, targets.Where(**where), deep=deep)


@s3dest.command()
@_where()
@_json
@_verbose
@click.pass_obj
def recover(session: Session, /, **where: str | None) -> int:
    """Finish syncs that were interrupted.

    A sync that was decided is published; one whose uploads have vanished is turned back.
    """
    from s3dest_dagster.cli import maintain, targets

    return maintain.recover(session.output, targets.Where(**where))


@s3dest.command()
@_where(partition=False)
@_now
@_json
@_verbose
@click.pass_obj
def sweep(session: Session, /, now: datetime | None, **where: str | None) -> int:
    """Abort uploads that crashed syncs left behind.

    Only uploads of the streams that are older than abandoned_upload_age_s, and that no sync is publishing.
    """
    from s3dest_dagster.cli import maintain, targets

    return maintain.sweep(session.output, targets.Where(**where), now)


@s3dest.group()
def state() -> None:
    """The states that sources go on from."""


_streams = click.option("--stream", "names", multiple=True, metavar="NAME", help="A stream, like public.users.")


@state.command()
@_where(partition=False)
@_verbose
@click.pass_obj
def show(session: Session, /, **where: str | None) -> int:
    """Print the states that the published records reach.

    The list is what a source takes as --state.
    """
    from s3dest_dagster.cli import state as states
    from s3dest_dagster.cli.targets import Where

    return states.show(session.output, Where(**where))


@state.command(name="set")
@_where(partition=False)
@click.option("--state", "state_path", required=True, metavar="STATE.json", help="The states; - is standard input.")
@_streams
@_now
@_json
@_verbose
@click.pass_obj
def set_(
    session: Session, /, state_path: str, names: tuple[str, ...], now: datetime | None, **where: str | None
) -> int:
    """Set the states that the next syncs go on from.

    The file holds what `state show` prints, or STATE messages. A sync that runs meanwhile fails, or wins and is named.
    """
    from s3dest_dagster.cli import state as states
    from s3dest_dagster.cli.targets import Where

    return states.set_(session, Where(**where), state_path, names, now)


@state.command()
@_where(partition=False)
@_streams
@click.option("--all", "everything", is_flag=True, help="The states of all streams that have landed.")
@_now
@_json
@_verbose
@click.pass_obj
def reset(
    session: Session, /, names: tuple[str, ...], everything: bool, now: datetime | None, **where: str | None
) -> int:
    """Forget states, so that the next syncs begin anew.

    What has landed stays: an append adds to it.
    """
    from s3dest_dagster.cli import state as states
    from s3dest_dagster.cli.targets import Where

    return states.reset(session, Where(**where), names, everything, now)
