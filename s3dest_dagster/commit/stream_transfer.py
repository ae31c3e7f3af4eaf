"""Gives everything that a stream holds to another name: objects, states, columns, owner, key of hashed fields.

The objects keep their keys. While the transfer lasts, the registries of both names refuse landings. Each scope is given
by a commit of its own, which is decided by the scope's head like a sync, so that anybody can finish it. A transfer that
was interrupted goes on if it is repeated. Must not know: why a stream gets another name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from s3dest_dagster.commit.collection import needed_segments
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import StreamLocation, commit_without_source
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.publication import Clock, begin
from s3dest_dagster.commit.registry_document import StreamRegistry, StreamTransfer
from s3dest_dagster.commit.registry_errors import in_transfer
from s3dest_dagster.commit.registry_updates import registry_of, update_stream
from s3dest_dagster.commit.retirement import ScopeContent, content_in
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.segment_builder import StagedSync, build_segment
from s3dest_dagster.commit.sync_commit import commit
from s3dest_dagster.errors import CommitError, OwnershipError, SettingsError, SupersededError
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import Scope, StreamId, SyncMode

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class NewName:
    """A stream and the name that everything it holds gets. Both names are as in the bucket."""

    source: StreamId
    """The stream."""
    target: StreamId
    """The name that gets everything."""
    owner: str | None = None
    """Who lands the new name. None: the owner of the old one."""


def what_would_move(bucket: Bucket, destination: S3Destination, name: NewName) -> list[ScopeContent]:
    """What `move_stream` would give to the new name. Writes nothing.

    Raises:
        OwnershipError: The new name has another owner, or one of the streams is in another transfer.
        CommitError: The new name holds something already.
        SettingsError: The names are equal.
    """
    return _Transfer(bucket, destination, name).what_would_move()


def move_stream(
    bucket: Bucket,
    destination: S3Destination,
    name: NewName,
    now: datetime,
    entropy: Callable[[int], bytes],
    clock: Clock | None = None,
) -> list[ScopeContent]:
    """Gives everything that a stream holds to another name. Afterwards the old name holds nothing and has no owner.

    A sync of the stream that has begun before either is published first and goes along, or fails. What was replaced or
    retired and is still kept goes along, too. If the call fails, the stream has its content under the old name, or
    `recover` and the next call finish the transfer.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        name: The stream and its new name.
        now: The time of the commits.
        entropy: Returns that many random bytes.
        clock: Returns the time. Default: the server's clock.

    Returns:
        What each scope held, with its old name.

    Raises:
        OwnershipError: The new name has another owner, or one of the streams is in another transfer.
        CommitError: The new name holds something already.
        SettingsError: The names are equal.
    """
    transfer = _Transfer(bucket, destination, name)
    transfer.what_would_move()
    if transfer.is_almost_finished:
        transfer.unlock_target()
        return []
    transfer.lock()
    moved = transfer.move_scopes(now, entropy, clock)
    transfer.finish()
    return moved


class _Transfer:
    """The steps of one transfer."""

    def __init__(self, bucket: Bucket, destination: S3Destination, name: NewName) -> None:
        self._bucket = bucket.with_root(destination.template.manifest_root)
        self._destination = destination
        self._name = name
        self._transfer = StreamTransfer(source=self._location(name.source), target=self._location(name.target))
        self._source = self._registry(name.source)
        self._target = self._registry(name.target)

    def _location(self, stream: StreamId) -> StreamLocation:
        path = self._destination.template.literal_root
        return StreamLocation(bucket_path=path, namespace=stream.namespace, stream=stream.name)

    def _registry(self, stream: StreamId) -> StreamRegistry:
        found = registry_of(self._bucket, self._destination, stream)
        return found or StreamRegistry(location=self._location(stream))

    # ------------------------------------------------------------------ checks

    @property
    def is_almost_finished(self) -> bool:
        """Whether an earlier call did everything, except that the new name does not land yet."""
        return self._target.transfer == self._transfer and self._source.transfer is None

    def what_would_move(self) -> list[ScopeContent]:
        """What the stream holds. Raises an error if its new name cannot have it."""
        if self._transfer.source.root == self._transfer.target.root:
            raise SettingsError(f"{self._name.source} has this name already.", setting="stream")
        for registry in (self._source, self._target):
            self._refuse_other_transfer(registry)
        self._refuse_other_owner(self._source, self._target)
        contents = [content for each in self._scopes(self._name.source) if (content := self._content(each))]
        if contents and self._target.transfer != self._transfer:
            self._refuse_content()
        return contents

    def _refuse_other_transfer(self, registry: StreamRegistry) -> None:
        if registry.transfer not in (None, self._transfer):
            assert registry.transfer is not None, "None is no other transfer"
            raise in_transfer(registry.transfer, registry.location.stream_id)

    def _refuse_other_owner(self, source: StreamRegistry, target: StreamRegistry) -> None:
        owner = self._name.owner or source.owner
        if target.owner in (None, owner) or self.is_almost_finished:
            return
        raise OwnershipError(
            f"Stream {str(self._name.target)!r} belongs to {target.owner!r}, and {str(self._name.source)!r} to "
            f"{source.owner or 'nobody'!r}. Nothing was written. If {target.owner!r} is to have the content, add --to "
            f"{target.owner}.",
            owner=target.owner,
            other=owner,
            stream=str(self._name.target),
        )

    def _refuse_content(self) -> None:
        for scope in self._scopes(self._name.target):
            commit_log = self._commit_log(scope)
            if not commit_log.is_empty(commit_log.read_head().head):
                raise CommitError(
                    f"{scope} holds objects or a state already, so that it cannot get those of {self._name.source}. "
                    f"Nothing was written. Choose another name, or retire it: `s3dest retire {self._name.target}`.",
                    stream=str(scope.stream),
                    partition=scope.partition,
                )

    def _scopes(self, stream: StreamId) -> Iterable[Scope]:
        return scopes(self._bucket, self._destination.template, {stream})

    def _commit_log(self, scope: Scope) -> CommitLog:
        return CommitLog.of(self._bucket, self._destination.template, scope)

    def _content(self, scope: Scope) -> ScopeContent | None:
        commit_log = self._commit_log(scope)
        head = commit_log.read_head().head
        return None if commit_log.is_empty(head) else content_in(commit_log, head)

    # ------------------------------------------------------------------ the registries

    def lock(self) -> None:
        """Keeps both names from landing, and tells the new name what the old one knows.

        The old name is locked first, and unlocked first: if only the new name is locked, the transfer is done.
        """
        self._source = self._update(self._name.source, self._locked)
        try:
            self._target = self._update(self._name.target, self._informed)
        except (OwnershipError, CommitError):
            self._update(self._name.source, lambda registry: replace(registry, transfer=None))
            raise

    def _locked(self, registry: StreamRegistry) -> StreamRegistry:
        self._refuse_other_transfer(registry)
        return replace(registry, transfer=self._transfer)

    def _informed(self, registry: StreamRegistry) -> StreamRegistry:
        """The registry of the new name, with everything that the old one's says of its content."""
        source, target = self._source, self._transfer.target
        self._refuse_other_transfer(registry)
        self._refuse_other_owner(source, registry)
        templates = (*(each for each in registry.templates if each not in source.templates), *source.templates)
        names = dict.fromkeys((*registry.former_names, *source.former_names, source.location))
        return replace(
            registry,
            owner=self._name.owner or source.owner,
            templates=templates,
            recreated=registry.recreated or source.recreated,
            uploads_swept_at=registry.uploads_swept_at or source.uploads_swept_at,
            hash_key_id=source.hash_key_id,
            columns=source.columns,
            retyped=source.retyped,
            former_names=tuple(each for each in names if each != target),
            given_to=tuple(each for each in registry.given_to if each != source.location),
            transfer=self._transfer,
        )

    def finish(self) -> None:
        """Frees the old name, then lets the new one land."""
        self._update(self._name.source, self._freed)
        self.unlock_target()

    def _freed(self, registry: StreamRegistry) -> StreamRegistry:
        others = (each for each in registry.given_to if each != self._transfer.target)
        given_to = (*others, self._transfer.target)
        return replace(registry, owner=None, hash_key_id=None, given_to=given_to, transfer=None)

    def unlock_target(self) -> None:
        """Lets the new name land."""
        self._update(self._name.target, lambda registry: replace(registry, transfer=None))

    def _update(self, stream: StreamId, change: Callable[[StreamRegistry], StreamRegistry]) -> StreamRegistry:
        return update_stream(
            self._bucket, self._destination, stream, change, StreamRegistry(location=self._location(stream))
        )

    # ------------------------------------------------------------------ the scopes

    def move_scopes(self, now: datetime, entropy: Callable[[int], bytes], clock: Clock | None) -> list[ScopeContent]:
        """Gives every scope that holds anything, including those that landings finish meanwhile."""
        clock = clock or self._bucket.server_time
        moved: list[ScopeContent] = []
        while True:
            found = [self._move(scope, now, entropy, clock) for scope in self._scopes(self._name.source)]
            contents = [each for each in found if each is not None]
            if not contents:
                return moved
            moved += contents

    def _move(self, scope: Scope, now: datetime, entropy: Callable[[int], bytes], clock: Clock) -> ScopeContent | None:
        """Gives one scope. Returns what it held. None if there is nothing to give."""
        commit_log = self._commit_log(scope)
        for attempt in range(1, _ATTEMPTS + 1):
            seen = begin(commit_log, clock)
            if commit_log.is_empty(seen.head):
                return None
            content = content_in(commit_log, seen.head)
            _copy_documents(commit_log, commit_log.of_stream(self._transfer.target), seen.head)
            try:
                commit(commit_log, seen, self._segment(commit_log, seen.head, now, entropy), clock)
            except SupersededError:
                if attempt == _ATTEMPTS:
                    raise
            else:
                return content
        raise AssertionError("unreachable")

    def _segment(self, commit_log: CommitLog, head: Head, now: datetime, entropy: Callable[[int], bytes]) -> Segment:
        sync, attempt = commit_without_source("transfer", now, entropy)
        staged = StagedSync.without_records(commit_log.scope.stream, SyncMode.APPEND, sync, attempt, head)
        settings = replace(self._destination, on_rematerialize="append")
        segment = build_segment(staged, settings, settings.template, commit_log, head)
        return replace(segment, kind="transfer", given_to=self._transfer.target)


def _copy_documents(commit_log: CommitLog, heir: CommitLog, head: Head) -> None:
    """Copies the segments and the marks that a head needs. Nobody reads the copies until a head names them."""
    segments = needed_segments(commit_log, head)
    for each in segments.values():
        commit_log.lists.copy(each, heir.lists)
    copies = (replace(each, location=heir.location) for each in segments.values())
    in_parallel(heir.put_segment, copies)
    in_parallel(lambda mark: heir.mark_sync(mark, lambda: False), commit_log.marks())
