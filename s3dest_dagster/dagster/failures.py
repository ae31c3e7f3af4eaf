"""The library's errors as Dagster's failures: one sentence in the run's log, where it happened beside it.

It must not decide what is retried how often: that is the asset's retry policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from s3dest_dagster.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CommitError,
    CredentialsError,
    EndpointUnreachableError,
    KeyCollisionError,
    ManifestError,
    MissingExtraError,
    RecordError,
    S3DestError,
    SchemaError,
    SettingsError,
    SourceError,
    StorageError,
    SupersededError,
    UndecidedError,
)
from s3dest_dagster.printable import printable
from s3dest_dagster.stream import Scope

_NEVER_BETTER = (SettingsError, MissingExtraError, SchemaError)
"""What is wrong before anything is asked: the next attempt would meet it again."""
_PLACES = ("stream", "partition", "key", "setting", "action")
_NEXT_STEPS: Mapping[type[S3DestError], str] = {
    SettingsError: "Correct the setting and reload the definitions; a retry would meet it again.",
    MissingExtraError: "Install the extra where the run is executed; a retry would miss it again.",
    SchemaError: "Correct the stream's JSON schema and reload the definitions; a retry would meet it again.",
    RecordError: 'Correct the source, or keep such records: on_bad_record="quarantine", on_type_mismatch="overflow".',
    SourceError: "Look at the source's own lines in this run's log. What was landed before is untouched: retry.",
    AccessDeniedError: "Add the action to the identity's policy. `s3dest check` names all that are missing.",
    CredentialsError: "Correct the credentials. `s3dest check` tells whose are used.",
    BucketNotFoundError: "Create the bucket, or correct its name, region or endpoint.",
    EndpointUnreachableError: "See whether the endpoint is up and can be reached from where the run is executed.",
    StorageError: "Retry. If it stays, `s3dest check` tries every request of a sync by itself.",
    SupersededError: "Retry if this sync's records are still wanted; a pool keeps two syncs of a stream apart.",
    UndecidedError: "Run `s3dest recover`, which settles whether this sync was published.",
    KeyCollisionError: "Add {part_number} or {timestamp} to file_name_pattern, so that no two objects have one key.",
    ManifestError: "Run `s3dest verify`, which tells what of the manifests is wrong.",
    CommitError: "Retry. `s3dest verify` tells what is published.",
}
"""What to do about each kind of error; the nearest kin counts."""


@contextmanager
def as_dagster_failures() -> Iterator[None]:
    """What the library raises leaves as `dg.Failure` with its sentence as the description; the rest as it is.

    A retry policy holds for it, unless what is wrong is in the settings.
    """
    try:
        yield
    except S3DestError as error:
        raise failure(error) from error


@contextmanager
def placed(scope: Scope) -> Iterator[None]:
    """Errors of the library that do not say where they happened leave with the stream and partition of this scope."""
    try:
        yield
    except S3DestError as error:
        if error.stream is None:
            error.stream, error.partition = str(scope.stream), scope.partition
        raise


def failure(error: S3DestError) -> dg.Failure:
    """The failure that tells of this error, with the stream before it where its message does not name it."""
    places = {name: printable(value) for name in _PLACES if (value := getattr(error, name)) is not None}
    stream = printable(error.stream or "")
    return dg.Failure(
        description=error.message if stream in error.message else f"{stream}: {error.message}",
        metadata={"error": type(error).__name__, **places, "next_step": _next_step(error)},
        allow_retries=not isinstance(error, _NEVER_BETTER),
    )


def _next_step(error: S3DestError) -> str:
    return next((_NEXT_STEPS[kind] for kind in type(error).__mro__ if kind in _NEXT_STEPS), "Retry.")


def failure_of_streams(errors: Mapping[Scope, S3DestError], landed: int) -> dg.Failure:
    """The failure of a run that landed so many streams and failed for these, each by its error.

    A retry policy holds for it, unless what is wrong is in the settings for each of them.
    """
    told = {printable(str(scope)): error.message for scope, error in errors.items()}
    if len(set(told.values())) == 1:
        first = failure(next(iter(errors.values())))
        description, metadata = first.description or "", dict(first.metadata)
    else:
        description = " ".join(
            text if printable(str(scope.stream)) in text else f"{printable(str(scope))}: {text}"
            for scope, text in zip(errors, told.values(), strict=True)
        )
        metadata = {}
    if landed or len(errors) > 1:
        rest = f"; {landed} landed" if landed else ""
        description = f"{len(errors)} of {landed + len(errors)} streams failed{rest}. {description}"
    return dg.Failure(
        description=description,
        metadata={**metadata, "failed_streams": told},
        allow_retries=not all(isinstance(error, _NEVER_BETTER) for error in errors.values()),
    )
