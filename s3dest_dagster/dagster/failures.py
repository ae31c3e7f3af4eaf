"""Turns the library's errors into Dagster failures: one sentence in the run's log, with the next step next to it.

Must not know: how often a step is retried (the asset's retry policy decides).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from s3dest_dagster.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CommitError,
    ConnectorError,
    CredentialsError,
    EndpointUnreachableError,
    KeyCollisionError,
    ManifestError,
    MissingExtraError,
    OwnershipError,
    RecordError,
    S3DestError,
    SchemaError,
    SettingsError,
    SourceError,
    StorageError,
    SupersededError,
    UndecidedError,
    with_help,
)
from s3dest_dagster.printable import printable
from s3dest_dagster.stream import Scope

_NOT_RETRIED = (SettingsError, MissingExtraError, SchemaError, OwnershipError)
"""Errors that a retry would raise again."""
_DETAILS = ("stream", "partition", "key", "setting", "action")
_NEXT_STEPS: Mapping[type[S3DestError], str] = {
    SettingsError: "Correct the setting and reload the definitions; a retry would meet it again.",
    MissingExtraError: "Install the extra where the run is executed; a retry would miss it again.",
    SchemaError: "Correct the stream's JSON schema and reload the definitions; a retry would meet it again.",
    RecordError: 'Correct the source, or keep such records: on_bad_record="quarantine", on_type_mismatch="overflow".',
    ConnectorError: "Read what the connector reported. What was landed before is untouched: retry.",
    SourceError: "Look at the source's own lines in this run's log. What was landed before is untouched: retry.",
    AccessDeniedError: "Add the action to the identity's policy. `s3dest check` names all that are missing.",
    CredentialsError: "Correct the credentials. `s3dest check` tells whose are used.",
    BucketNotFoundError: "Create the bucket, or correct its name, region or endpoint.",
    EndpointUnreachableError: "See whether the endpoint is up and can be reached from where the run is executed.",
    StorageError: "Retry. If it stays, `s3dest check` tries every request of a sync separately.",
    SupersededError: "Retry if this sync's records are still wanted; a pool keeps two syncs of a stream apart.",
    UndecidedError: "Run `s3dest recover`, which settles whether this sync was published.",
    KeyCollisionError: "Add {part_number} or {timestamp} to file_name_pattern, so that no two objects have one key.",
    OwnershipError: "Give one of the two another namespace, or move the stream by `s3dest transfer`.",
    ManifestError: "Run `s3dest verify`, which tells what of the manifests is wrong.",
    CommitError: "Retry. `s3dest verify` tells what is published.",
}
"""What to do about each kind of error. The entry of the closest base class applies."""
_CONFIG_STEP = "Correct the connector's config, or what it names at the source; a retry would meet it again."


@contextmanager
def as_dagster_failures() -> Iterator[None]:
    """Turns the library's errors into `dg.Failure`, with the message as the description. Other errors pass unchanged.

    A retry policy applies, unless the settings or the connector's config are wrong.
    """
    try:
        yield
    except S3DestError as error:
        raise failure(error) from error


@contextmanager
def located(scope: Scope) -> Iterator[None]:
    """Adds the scope's stream and partition to the library's errors that do not say where they happened."""
    try:
        yield
    except S3DestError as error:
        if error.stream is None:
            error.stream, error.partition = str(scope.stream), scope.partition
        raise


def failure(error: S3DestError) -> dg.Failure:
    """The failure for an error. Its description begins with the stream, unless the message already names it, and ends
    with where the documentation explains the error."""
    details = {name: printable(value) for name in _DETAILS if (value := getattr(error, name)) is not None}
    return dg.Failure(
        description=with_help(_described(error), [error]),
        metadata={"error": type(error).__name__, **details, **_reported(error), "next_step": _next_step(error)},
        allow_retries=_is_retried(error),
    )


def _is_retried(error: S3DestError) -> bool:
    if isinstance(error, ConnectorError):
        return not error.is_config_error
    return not isinstance(error, _NOT_RETRIED)


def _reported(error: S3DestError) -> dict[str, str]:
    """The first error that a connector reported, part by part."""
    if not isinstance(error, ConnectorError) or not error.reported:
        return {}
    first = error.reported[0]
    parts = {
        "failure_type": first.failure_type,
        "connector_message": first.message,
        "internal_message": first.internal_message,
        "stack_trace": first.stack_trace,
    }
    return {name: text for name, text in parts.items() if text}


def _described(error: S3DestError) -> str:
    stream = printable(error.stream or "")
    return _with_name(stream, error.message, stream)


def _with_name(stream: str, message: str, name: str) -> str:
    """The message, preceded by the name if it does not name the stream."""
    return message if stream in message else f"{name}: {message}"


def _next_step(error: S3DestError) -> str:
    if isinstance(error, ConnectorError) and error.is_config_error:
        return _CONFIG_STEP
    return next((_NEXT_STEPS[kind] for kind in type(error).__mro__ if kind in _NEXT_STEPS), "Retry.")


def failure_of_streams(errors: Mapping[Scope, S3DestError], landed: int) -> dg.Failure:
    """The failure of a run in which some streams failed.

    A retry policy applies, unless the settings or the connector's config are wrong for every stream that failed.

    Args:
        errors: The error of each scope that failed.
        landed: The number of streams that landed.
    """
    messages = {printable(str(scope)): error.message for scope, error in errors.items()}
    if len(set(messages.values())) == 1:
        only = next(iter(errors.values()))
        description, metadata = _described(only), dict(failure(only).metadata)
    else:
        description = " ".join(
            _with_name(printable(str(scope.stream)), error.message, printable(str(scope)))
            for scope, error in errors.items()
        )
        metadata = {}
    if landed or len(errors) > 1:
        rest = f"; {landed} landed" if landed else ""
        description = f"{len(errors)} of {landed + len(errors)} streams failed{rest}. {description}"
    return dg.Failure(
        description=with_help(description, errors.values()),
        metadata={**metadata, "failed_streams": messages},
        allow_retries=any(map(_is_retried, errors.values())),
    )
