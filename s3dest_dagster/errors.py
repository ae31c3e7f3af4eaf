"""All errors that the library raises on purpose, as one tree.

A message says what happened, where (stream, partition, key, setting), and what to do next. Each leaf is also a subclass
of the built-in exception that a caller would expect, and has the location as attributes.

    S3DestError
    ├── SettingsError (ValueError)         a setting is wrong, or two settings contradict each other
    │   └── TemplateError                  a path format or file name pattern is refused
    ├── MissingExtraError (ImportError)    a setting needs an optional dependency that is not installed
    ├── SchemaError (ValueError)           a stream's JSON schema cannot be understood
    │   └── SchemaContractError            a schema differs from the stream's columns, and the contract freezes that
    ├── RecordError (ValueError)           a record cannot be landed as it is
    ├── SourceError (RuntimeError)         the source failed, died, or broke the protocol
    │   └── ConnectorError                 the connector itself reported what failed
    ├── StorageError (OSError)             S3 refused or failed
    │   ├── AccessDeniedError (PermissionError)
    │   ├── CredentialsError (PermissionError)
    │   ├── BucketNotFoundError (FileNotFoundError)
    │   ├── ObjectNotFoundError (FileNotFoundError)
    │   ├── ObjectReplacedError            the object is not the one that the manifest lists
    │   ├── EndpointUnreachableError (ConnectionError)
    │   ├── PreconditionFailedError        a conditional put met another version
    │   └── UploadVanishedError            a multipart upload is unknown, or no longer known
    └── CommitError (RuntimeError)         a sync could not be published
        ├── SupersededError                another sync was published first
        ├── UndecidedError                 the answer to the decisive request was lost
        ├── KeyCollisionError              two objects would have the same key
        ├── OwnershipError                 the stream belongs to another owner
        └── ManifestError                  a head or segment is unreadable, or of a newer format version

Messages are always printable, whatever their parts contain (see `printable`). Where an error is shown, `with_help` adds
the place in the documentation that explains it. Must not know: anything else of the
library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from s3dest_dagster.printable import printable_lines

_HELP = "docs/troubleshooting.md"


class S3DestError(Exception):
    """The root of the tree: catching it catches everything that the library raises on purpose.

    Args:
        message: What happened, where, and what to do next.
        stream, partition, key, setting: Where it happened; None if that does not apply.
        action: The IAM action that was missing.
    """

    def __init__(
        self,
        message: str,
        *,
        stream: str | None = None,
        partition: str | None = None,
        key: str | None = None,
        setting: str | None = None,
        action: str | None = None,
    ) -> None:
        self.message = printable_lines(message)
        super().__init__(self.message)
        self.stream = stream
        self.partition = partition
        self.key = key
        self.setting = setting
        self.action = action

    def __str__(self) -> str:
        return self.message

    @property
    def help_page(self) -> str:
        """Where the documentation explains errors of this class, as a path in the repository with an anchor."""
        return f"{_HELP}#{type(self).__name__.lower()}"


def with_help(text: str, errors: Iterable[S3DestError]) -> str:
    """The text about these errors, followed by where the documentation explains them.

    The command, Dagster's failures and the messages of the Airbyte destination all show errors in this way. The
    message of an error does not contain the path, because messages become parts of other messages.

    Example:
        >>> with_help("object_size_mb is 0.", [SettingsError("object_size_mb is 0.")])
        'object_size_mb is 0. Help: docs/troubleshooting.md#settingserror'
    """
    pages = dict.fromkeys(error.help_page for error in errors)
    return f"{text} Help: {', '.join(pages)}" if pages else text


class SettingsError(S3DestError, ValueError):
    """A setting is wrong, or two settings contradict each other."""


class TemplateError(SettingsError):
    """A path format or file name pattern is refused; the message shows the key that it would make."""


class MissingExtraError(S3DestError, ImportError):
    """A setting needs an optional dependency that is not installed; the message names the extra to install."""


class SchemaError(S3DestError, ValueError):
    """A stream's JSON schema cannot be understood."""


class SchemaContractError(SchemaError):
    """The source's schema differs from the stream's columns, and the stream's contract freezes that difference.

    Args:
        field: The first field that differs; None if it is the stream itself.
    """

    def __init__(self, message: str, *, stream: str | None = None, field: str | None = None) -> None:
        super().__init__(message, stream=stream)
        self.field = field


class RecordError(S3DestError, ValueError):
    """A record cannot be landed as it is."""


class SourceError(S3DestError, RuntimeError):
    """The source failed, died, or broke the protocol."""


@dataclass(frozen=True, slots=True)
class ReportedError:
    """An error as a connector reported it, in a TRACE message. No secret of the config is in it."""

    message: str
    """What the connector says to its users."""
    failure_type: str | None = None
    """Whose fault it is: `config_error`, `transient_error` or `system_error`."""
    internal_message: str | None = None
    """What the connector says to its developers."""
    stack_trace: str | None = None
    """Where in the connector it happened: the last 8,000 characters."""
    stream: str | None = None
    """The stream that could not be read; None if it concerns all."""


class ConnectorError(SourceError):
    """The connector itself reported what failed.

    Args:
        reported: The errors that it reported, the first one first, at most 20 of them. Each has the attributes
            `message`, `failure_type` (`config_error`, `transient_error` or `system_error`), `internal_message`,
            `stack_trace` and `stream`, as far as the connector gave them, and no secret of the config.
    """

    def __init__(
        self,
        message: str,
        *,
        reported: tuple[ReportedError, ...] = (),
        stream: str | None = None,
        setting: str | None = None,
    ) -> None:
        super().__init__(message, stream=stream, setting=setting)
        self.reported = reported

    @property
    def is_config_error(self) -> bool:
        """Whether only the connector's config is wrong, so that a retry would fail in the same way."""
        return bool(self.reported) and all(error.failure_type == "config_error" for error in self.reported)


class StorageError(S3DestError, OSError):
    """S3 refused or failed, and retrying did not help."""


class AccessDeniedError(StorageError, PermissionError):
    """The identity may not do this; `action` names the missing IAM action."""


class CredentialsError(StorageError, PermissionError):
    """There are no credentials, or S3 does not know them."""


class BucketNotFoundError(StorageError, FileNotFoundError):
    """The bucket does not exist."""


class ObjectNotFoundError(StorageError, FileNotFoundError):
    """The object does not exist."""


class ObjectReplacedError(StorageError):
    """The object is not the one that the manifest lists: another sync or another writer replaced it."""


class EndpointUnreachableError(StorageError, ConnectionError):
    """Nothing answers at the endpoint."""


class PreconditionFailedError(StorageError):
    """A conditional put met another version of the object."""


class UploadVanishedError(StorageError):
    """A multipart upload is unknown to the server, or no longer known."""


class CommitError(S3DestError, RuntimeError):
    """A sync could not be published. Nothing of it is visible, unless its message says that it is decided.

    Then some of it may be visible, and the next sync of the scope, or `s3dest recover`, finishes it.
    """


class SupersededError(CommitError):
    """Another sync was first: one of the same scope, or one of the stream that changed the type of a column."""


class UndecidedError(CommitError):
    """The answer to the decisive request was lost and cannot be read back; `s3dest recover` finds out."""


class KeyCollisionError(CommitError):
    """Two objects of one sync, or of two streams, would have the same key."""


class OwnershipError(CommitError):
    """The stream belongs to another owner. Nothing was written.

    Args:
        owner: The owner.
        other: Who tried to land it; None if nobody was named.
    """

    def __init__(
        self, message: str, *, owner: str | None = None, other: str | None = None, stream: str | None = None
    ) -> None:
        super().__init__(message, stream=stream, setting="owner")
        self.owner = owner
        self.other = other


class ManifestError(CommitError):
    """A head or segment is unreadable, or has a newer format version than this library knows."""


_MAX_NAMES = 20


def closest_match(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant by a wrong one; empty if none is close."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.75)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that helps with a wrong name: it suggests the closest known name, or else lists some of them."""
    names = sorted(known)
    likely = closest_match(name, names)
    if likely:
        return f"Did you mean {likely!r}?"
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return f"It has: {', '.join(names[:_MAX_NAMES]) or 'none'}{more}."
