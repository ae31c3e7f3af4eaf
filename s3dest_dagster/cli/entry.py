"""From the arguments to the exit code: runs a verb and reports whatever it raises.

Exit codes: 0 success, 1 a failure, 2 a wrong call or configuration, 128 + n stopped by signal n. Must not know: any
verb.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click

from s3dest_dagster.cli.commands import s3dest
from s3dest_dagster.cli.output import Output, OutputClosedError, Session, open_closed_streams
from s3dest_dagster.cli.signals import Interrupted, interruptible
from s3dest_dagster.errors import MissingExtraError, S3DestError, SettingsError

SUCCESS, FAILURE, WRONG_CALL = 0, 1, 2
OUT_OF_MEMORY = (
    "There is not enough memory on this machine, or for this process. Give it more, or lower memory_mb, encode_workers "
    "or the number of streams."
)
_LIBRARY = "s3dest_dagster"


def main() -> NoReturn:
    """The `s3dest` command."""
    open_closed_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one verb and returns its exit code. Errors are reported on standard error."""
    output = Output()
    try:
        with forward_warnings(output), interruptible() as interruption:
            code = s3dest.main(
                list(arguments), prog_name="s3dest", standalone_mode=False, obj=Session(output, interruption)
            )
            return int(code or SUCCESS)
    except click.ClickException as error:
        output.say_usage(error)
        return error.exit_code
    except Interrupted as error:
        output.say_error(error)
        return error.exit_code
    except S3DestError as error:
        output.say_error(error)
        return WRONG_CALL if isinstance(error, SettingsError | MissingExtraError) else FAILURE
    except OutputClosedError as error:
        output.say_error(error)
        return FAILURE
    except Exception as error:
        return _out_of_memory(output) if is_out_of_memory(error) else _unexpected(output, error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the machine, or the process, has too little memory."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _out_of_memory(output: Output) -> int:
    output.say(f"Error: {OUT_OF_MEMORY}")
    return FAILURE


def _unexpected(output: Output, error: Exception) -> int:
    advice = "" if output.verbose else " Run the command again with --verbose, and report what it prints."
    error.add_note(f"This error was not expected ({type(error).__name__}).{advice}")
    output.say_error(error)
    return FAILURE


@contextmanager
def forward_warnings(output: Output) -> Iterator[None]:
    """Prints logged warnings on standard error while the block runs.

    Warnings of other libraries appear only with --verbose: what matters of them is raised as an error of ours.
    """
    forwarder = _WarningForwarder(output)
    logging.getLogger().addHandler(forwarder)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(forwarder)


class _WarningForwarder(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        if self._output.verbose:
            self._output.say_lines(self.format(record))
        elif record.name.partition(".")[0] == _LIBRARY:
            self._output.say_lines(record.getMessage())
