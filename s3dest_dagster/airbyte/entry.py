"""From the arguments to the exit code: runs a verb, and reports whatever it raises as a TRACE message.

Exit codes: 0 the verb has answered (even if the answer of `check` is FAILED), 1 a failure, 2 a wrong call. A signal
ends the process once everything is cleaned up. Must not know: how a verb works.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

from s3dest_dagster.airbyte.arguments import Arguments, WrongCallError, parse
from s3dest_dagster.airbyte.messages import FailureType, LogOutput, Messages
from s3dest_dagster.airbyte.standard_output import StandardOutput
from s3dest_dagster.cli.entry import (
    FAILURE,
    OUT_OF_MEMORY,
    SUCCESS,
    WRONG_CALL,
    forward_warnings,
    is_out_of_memory,
)
from s3dest_dagster.cli.output import OutputClosedError, Session, full_text, open_closed_streams
from s3dest_dagster.cli.signals import Interrupted, interruptible
from s3dest_dagster.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    MissingExtraError,
    OwnershipError,
    S3DestError,
    SchemaError,
    SettingsError,
)

_CONFIG_ERRORS = (
    SettingsError,
    MissingExtraError,
    SchemaError,
    CredentialsError,
    AccessDeniedError,
    BucketNotFoundError,
    OwnershipError,
)
"""The errors that last until the user changes the configuration, or what it names."""


def main() -> NoReturn:
    """The `destination-s3dest` command."""
    open_closed_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one verb and returns its exit code. If a signal ends it, the process ends by this signal, too."""
    standard_output = StandardOutput()
    output = LogOutput(standard_output)
    messages = Messages(standard_output, output, time.time)
    try:
        with forward_warnings(output), interruptible() as interruption:
            code = _run_verb(arguments, Session(output, interruption), messages)
            standard_output.close()
            return code
    except OutputClosedError as error:
        output.say_error(error)
        return FAILURE
    except Interrupted as error:
        output.say_error(error)
        return _end_by(error.exit_code - 128)


def _run_verb(arguments: Sequence[str], session: Session, messages: Messages) -> int:
    try:
        _answer(parse(arguments), session, messages)
    except S3DestError as error:
        failure_type: FailureType = "config_error" if isinstance(error, _CONFIG_ERRORS) else "system_error"
        messages.error(full_text(error), failure_type, type(error).__name__, error.stream)
        return WRONG_CALL if isinstance(error, WrongCallError) else FAILURE
    except OutputClosedError:
        raise
    except Exception as error:
        text = OUT_OF_MEMORY if is_out_of_memory(error) else f"This error was not expected: {full_text(error)}"
        messages.error(text, "system_error", "".join(traceback.format_exception(error)))
        return FAILURE
    return SUCCESS


def _answer(call: Arguments, session: Session, messages: Messages) -> None:
    """Runs a verb. Its module is imported only now, so that `spec` is fast."""
    if call.verb == "spec":
        from s3dest_dagster.settings.connector_spec import connector_spec

        messages.spec(connector_spec())
    elif call.verb == "check":
        from s3dest_dagster.airbyte.verbs import check

        check(session.output, messages, call.config)
    else:
        from s3dest_dagster.airbyte.verbs import write

        write(session, messages, call.config, call.catalog)


def _end_by(signal_number: int) -> int:
    """Ends the process by a signal. Clients that have sent it take any exit code for a failure."""
    signal.signal(signal_number, signal.SIG_DFL)
    os.kill(os.getpid(), signal_number)
    return 128 + signal_number
