"""The verbs of `s3dest state`, with their help.

Must not know: how a verb works.
"""

from __future__ import annotations

from datetime import datetime

import click

from s3dest_dagster.cli.options import json_option, now_option, selection_options, verbose_option
from s3dest_dagster.cli.output import Session


@click.group()
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
    from s3dest_dagster.cli.selections import SelectionOptions

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
    from s3dest_dagster.cli.selections import SelectionOptions

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
    from s3dest_dagster.cli.selections import SelectionOptions

    return states.reset(session, SelectionOptions(**options), names, everything, now)
