"""The arguments of the command, in every form in which clients write them.

Must not know: what a verb does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, NoReturn

from s3dest_dagster.errors import SettingsError

_NEEDED = {"spec": (), "check": ("config",), "write": ("config", "catalog")}
"""The verbs, each with the options that it needs. A verb ignores other options."""
_OF_SOURCES = ("discover", "read")


class WrongCallError(SettingsError):
    """The arguments are wrong. The message names the right ones."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a call."""

    verb: str
    """`spec`, `check` or `write`."""
    config: str = ""
    """The path of the configuration. Empty for `spec`."""
    catalog: str = ""
    """The path of the configured catalog. Empty except for `write`."""


class _Parser(argparse.ArgumentParser):
    """Raises WrongCallError, and writes its help to standard error: standard output is for messages."""

    def error(self, message: str) -> NoReturn:
        raise WrongCallError(f"The call is wrong: {message}. {_usage()}")

    def print_help(self, file: IO[str] | None = None) -> None:  # type: ignore[override]
        super().print_help(file or sys.stderr)


def parse(arguments: Sequence[str]) -> Arguments:
    """The arguments of a call. `--config x` and `--config=x` mean the same, in any order.

    Raises:
        WrongCallError: The verb is not one of a destination, or an option is unknown or missing.
    """
    parser = _Parser(prog="destination-s3dest", description=_usage(), allow_abbrev=False)
    parser.add_argument("verb", nargs="?", help="spec, check or write")
    parser.add_argument("--config", help="the configuration, a JSON file")
    parser.add_argument("--catalog", help="the configured catalog, a JSON file")
    parser.add_argument("--state", help="accepted and ignored: the state concerns the source")
    parser.add_argument("--debug", action="store_true", help="accepted and ignored")
    found = parser.parse_args(list(arguments))
    if found.verb in _OF_SOURCES:
        raise WrongCallError(f"{found.verb!r} is a verb of sources, and this is a destination. {_usage()}")
    if found.verb not in _NEEDED:
        what = "there is no verb" if found.verb is None else f"{found.verb!r} is no verb"
        raise WrongCallError(f"The call is wrong: {what}. {_usage()}")
    for name in _NEEDED[found.verb]:
        if not getattr(found, name):
            raise WrongCallError(f"The call is wrong: {found.verb} needs --{name}. {_usage()}")
    return Arguments(found.verb, found.config or "", found.catalog or "")


def _usage() -> str:
    return (
        "Call it as destination-s3dest spec, destination-s3dest check --config CONFIG.json, or "
        "destination-s3dest write --config CONFIG.json --catalog CATALOG.json."
    )
