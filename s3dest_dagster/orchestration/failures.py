"""The library's errors as Dagster's failures: one sentence in the run's log, where it happened beside it.

It must not decide what is retried how often: that is the asset's retry policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from s3dest_dagster.errors import MissingExtraError, S3DestError, SchemaError, SettingsError
from s3dest_dagster.stream import Scope

_NEVER_BETTER = (SettingsError, MissingExtraError, SchemaError)
"""What is wrong before anything is asked: the next attempt would meet it again."""
_PLACES = ("stream", "partition", "key", "setting", "action")


@contextmanager
def told_as_failures() -> Iterator[None]:
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
    places = {name: value for name in _PLACES if (value := getattr(error, name)) is not None}
    stream = error.stream or ""
    return dg.Failure(
        description=error.message if stream in error.message else f"{stream}: {error.message}",
        metadata={"error": type(error).__name__, **places},
        allow_retries=not isinstance(error, _NEVER_BETTER),
    )
