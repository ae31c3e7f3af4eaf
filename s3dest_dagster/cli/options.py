"""The options that several verbs of `s3dest` have, with their help.

Must not know: any verb.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _set_flag(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Stores --verbose or --json in the session."""
    setattr(context.obj.output, str(parameter.name), value)


def set_limit(context: click.Context, parameter: click.Parameter, value: float | None) -> None:
    """Stores a limit for reading standard input in the session."""
    if value is not None:
        context.obj.limits[str(parameter.name)] = value


def _parse_time(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """The time in ISO 8601; in UTC if it has no offset."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a time. Write it like 2021-01-01T00:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


definitions_options: list[Decorator] = [
    click.option("--module", "-m", metavar="MODULE", help="Instead of --config: a module with Dagster definitions."),
    click.option(
        "--defs",
        metavar="PATH",
        help="Instead of --config: a Python file with Dagster definitions, or a project of components in YAML.",
    ),
    click.option("--select", "assets", metavar="ASSETS", help="Assets of the definitions, as Dagster selects them."),
    click.option("--io-manager", "manager", metavar="KEY", help="Only assets of the IO manager with this key."),
]
"""The options that name Dagster definitions, and assets of them."""


def selection_options(*, partition: bool = True) -> Decorator:
    """The options that select landed streams."""
    decorators: list[Decorator] = [
        click.option("--config", "config_path", metavar="CONFIG.json", help="The destination's configuration."),
        catalog_option(_ONLY_STREAMS),
        *definitions_options,
        click.option("--partition", metavar="KEY", help="Only this partition of the streams."),
    ]

    return lambda verb: _with_options(decorators if partition else decorators[:-1], verb)


def landing_options(catalog_text: str) -> Decorator:
    """The options that say what would land, and where: a configuration with a catalog, or definitions."""
    decorators: list[Decorator] = [
        config_option(required=False),
        catalog_option(catalog_text),
        discovered_option,
        *definitions_options,
    ]

    return lambda verb: _with_options(decorators, verb)


def _with_options(decorators: list[Decorator], verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with these options, of which it needs one that says where the streams are."""

    @wraps(verb)
    def checked(*given: Any, **options: Any) -> Any:
        if all(options[name] is None for name in ("config_path", "module", "defs")):
            raise click.UsageError(
                "Give either --config, or --module or --defs for the assets of Dagster definitions.",
                click.get_current_context(),
            )
        return verb(*given, **options)

    decorated: Callable[..., Any] = checked
    for option in reversed(decorators):
        decorated = option(decorated)
    return decorated


def config_option(
    text: str = "The destination's configuration, a connector's config.json.", *, required: bool = True
) -> Decorator:
    """The option that names the configuration."""
    return click.option("--config", "config_path", required=required, metavar="CONFIG.json", help=text)


def catalog_option(text: str, *, required: bool = False) -> Decorator:
    """The option that names the streams."""
    return click.option("--catalog", "catalog_path", required=required, metavar="CATALOG.json", help=text)


discovered_option = click.option(
    "--discovered",
    "discovered_path",
    metavar="DISCOVERED.json",
    help="The output of discover that the configured catalog was made from. Fields that only it has do not land.",
)
now_option = click.option(
    "--now",
    callback=_parse_time,
    metavar="TIME",
    help="Fix the clock at this time (ISO 8601; UTC if it has no offset).",
)
verbose_option = click.option(
    "--verbose", is_flag=True, expose_value=False, callback=_set_flag, help="Print more, and show tracebacks of errors."
)
json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_set_flag, help="Print JSON, for programs."
)
owner_option = click.option(
    "--owner", metavar="NAME", help="Land on behalf of this owner of the streams, such as an asset's key."
)
_ONLY_STREAMS = "Only the streams of this catalog. Default: all streams that have landed."
