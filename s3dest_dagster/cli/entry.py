"""From the arguments to the exit code: runs a verb, and turns whatever it raises into sentences.

Exit codes: 0 all is well, 1 something failed, 2 the call or the configuration is wrong, 128 + n stopped by signal n.
It must not know any verb.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from s3dest_dagster.cli.commands import s3dest
from s3dest_dagster.cli.logs import warnings_told
from s3dest_dagster.cli.output import Output, OutputClosedError
from s3dest_dagster.cli.session import Session
from s3dest_dagster.cli.signals import Interrupted, interruptible
from s3dest_dagster.cli.standard_streams import occupy_closed
from s3dest_dagster.errors import MissingExtraError, S3DestError, SettingsError

ALL_IS_WELL, FAILED, WRONG_CALL = 0, 1, 2


def main() -> NoReturn:
    """The `s3dest` command."""
    occupy_closed()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one verb and gives its exit code; says on standard error what went wrong."""
    output = Output()
    try:
        with warnings_told(output), interruptible() as interruption:
            code = s3dest.main(
                list(arguments), prog_name="s3dest", standalone_mode=False, obj=Session(output, interruption)
            )
            return int(code or ALL_IS_WELL)
    except click.ClickException as error:
        output.say_usage(error)
        return error.exit_code
    except Interrupted as error:
        output.say_error(error)
        return error.exit_code
    except S3DestError as error:
        output.say_error(error)
        return WRONG_CALL if isinstance(error, SettingsError | MissingExtraError) else FAILED
    except OutputClosedError as error:
        output.say_error(error)
        return FAILED
    except Exception as error:
        return _out_of_memory(output) if _lacks_memory(error) else _unexpected(output, error)


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _out_of_memory(output: Output) -> int:
    output.say(
        "Error: There is not enough memory on this machine, or for this process. Give it more, or lower memory_mb, "
        "encode_workers or the number of streams."
    )
    return FAILED


def _unexpected(output: Output, error: Exception) -> int:
    advice = "" if output.verbose else " Run it again with --verbose, and report what it says."
    error.add_note(f"This was not expected ({type(error).__name__}).{advice}")
    output.say_error(error)
    return FAILED
