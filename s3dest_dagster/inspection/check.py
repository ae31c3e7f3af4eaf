"""Checks whether a sync could land here, by trying the requests of a landing one after another on trial objects.

Each step says what failed, and which IAM action or setting fixes it. Nothing is left behind: objects are written only
once it is known that they can be deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.partition_kinds import typed_fields
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.registry import RegistryEntry, owner_of
from s3dest_dagster.commit.scopes import streams_of_only_namespace
from s3dest_dagster.errors import AccessDeniedError, S3DestError, StorageError, closest_match
from s3dest_dagster.ingest.field_filter import FieldFilter
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.inspection.plan import ACTIONS, actions
from s3dest_dagster.storage import TRIALS, Bucket, ServerAbilities, access_denied, describe_abilities, headers_of_data
from s3dest_dagster.stream import Scope, Stream, StreamId

_CONTENT = b"s3dest check"
_NO_UPLOAD = "no-such-upload"


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One step of a check."""

    name: str
    """The request or question that was tried."""
    action: str
    """The IAM action that it needs. Empty if none."""
    ok: bool
    """Whether it succeeded. A step that was not tried is not ok."""
    message: str = ""
    """A sentence if it failed, or if there is something else worth knowing."""
    tried: bool = True
    """False if it was skipped, because it needs something that another step found missing."""
    has: bool = True
    """False if the server lacks the ability. This is not a failure; the message says what is lost, and at what cost."""


def check(target: Target, token: str, *, again: bool = False) -> list[CheckStep]:
    """Tries everything that a sync needs.

    A missing permission does not end the check, so one call names all missing permissions, and those that could not be
    tried. A step that would only repeat a failure is not tried.

    Args:
        target: The destination.
        token: Makes the keys of the trial objects unique.
        again: Whether to probe the server's abilities again, and to store the result for processes that start later.

    Example:
        missing = [step for step in check(target, uuid4().hex) if not step.ok]
    """
    return list(_Check(target, token, again).steps())


def check_streams(target: Target, streams: Sequence[Stream]) -> list[CheckStep]:
    """Checks whether these streams could land. Writes nothing.

    The streams must have different keys. Each stream's JSON schema must be valid and have the fields that its settings
    lead into; its owner, its template and its hash key must be those with which it has landed; and its manifest must be
    readable.
    """
    settings = target.destination
    ids = [stream.id.prefixed(settings.stream_prefix) for stream in streams]
    rules = {name: stream.settings.partition_by for name, stream in zip(ids, streams, strict=True)}
    apart = _step("tell the streams' keys apart", lambda: settings.check_streams(ids, rules))
    return [apart, *(_check_stream(target, stream, Scope(id_)) for stream, id_ in zip(streams, ids, strict=True))]


def likely_misspelt(target: Target, names: Iterable[str]) -> list[CheckStep]:
    """Compares the names of streams that have settings with the streams that have landed, by at most two requests.

    A stream that has not landed yet may be meant, so this is a remark, and only about a name that is like another one.
    """
    prefix = target.destination.stream_prefix
    landed = streams_of_only_namespace(target.bucket, target.destination.template)
    found = [StreamId(each.namespace, each.name.removeprefix(prefix)) for each in landed]
    full, bare = {str(each) for each in found}, {each.name for each in found}
    steps = []
    for name in sorted(set(names) - full - bare):
        if likely := closest_match(name, sorted(full if "." in name else bare)):
            message = f"{name!r} has settings and has not landed here; {likely!r} has. Is that the one that is meant?"
            steps.append(CheckStep("compare the streams that have settings", "", True, message, has=False))
    return steps


def _check_stream(target: Target, stream: Stream, landed: Scope) -> CheckStep:
    settings, (namespace, name) = target.destination, landed.stream

    def look() -> None:
        fields = FieldFilter(stream, settings.hash_key)
        if fields.stream.json_schema is not None:
            record = record_type(fields.stream.json_schema, name, namespace, settings.type_rules)
            typed_fields(stream.settings.partition_by, record, str(stream.id))
        template = settings.template_of(stream)
        entry = RegistryEntry(target.bucket, settings, landed.stream, owner_of(stream, settings), template)
        entry.check()
        if fields.hash_key_id is not None:
            entry.use_hash_key(fields.hash_key_id)
        CommitLog.of(target.bucket, settings.template, landed).read_head()

    return _step(f"look at stream {landed}", look)


def _step(name: str, run: Callable[[], object]) -> CheckStep:
    try:
        run()
    except S3DestError as error:
        return CheckStep(name, error.action or "", False, error.message)
    return CheckStep(name, "", True)


@dataclass(slots=True)
class _Check:
    """A check in progress."""

    target: Target
    token: str
    again: bool
    granted: set[str] = field(default_factory=set)
    """The actions that a step has used successfully."""
    missing: set[str] = field(default_factory=set)
    """The actions that were denied."""
    broken: bool = False
    """Whether a step has failed for a reason other than a missing permission."""

    def steps(self) -> Iterator[CheckStep]:
        bucket, root = self.target.bucket, self._root
        yield self._try("list objects", "s3:ListBucket", lambda: bucket.first_page(root))
        if self.broken:
            return
        yield self._try("delete objects", "s3:DeleteObject", lambda: bucket.check_delete(self._small))
        yield from self._uploads()
        if {"s3:PutObject", "s3:DeleteObject"} <= self.granted:
            yield from self._objects()
        elif "s3:ListBucket" in self.granted:
            # Without permission to list, S3 answers "access denied" for an object that does not exist, to everybody.
            yield self._try("read objects", "s3:GetObject", lambda: bucket.check_read(self._small))
        yield from self._not_tried()

    def _not_tried(self) -> Iterator[CheckStep]:
        """Yields the actions for which no step could determine whether they are granted."""
        needs = ", ".join(sorted(self.missing))
        for action in actions(self.target.destination):
            if not self.broken and action not in self.granted | self.missing:
                yield CheckStep("not tried", action, False, f"needs {needs}; check again once that is granted", False)

    @property
    def _root(self) -> str:
        return self.target.destination.template.manifest_root

    @property
    def _small(self) -> str:
        return f"{self._root}{TRIALS}check-{self.token}"

    @property
    def _large(self) -> str:
        return f"{self._small}-multipart"

    @property
    def _data(self) -> Bucket:
        """The bucket with the headers of data objects."""
        return self.target.bucket.with_data_headers(headers_of_data(self.target.destination))

    def _uploads(self) -> Iterator[CheckStep]:
        """Tries uploads, and aborts them. Nobody ever sees them."""
        bucket, destination, begun = self.target.bucket, self.target.destination, [_NO_UPLOAD]
        yield self._try("begin an upload", "s3:PutObject", lambda: begun.append(bucket.create_upload(self._large, {})))
        abort = self._try("abort it", "s3:AbortMultipartUpload", lambda: bucket.abort_upload(self._large, begun[-1]))
        yield abort
        yield self._try("list uploads", "s3:ListBucketMultipartUploads", lambda: list(bucket.list_uploads(self._root)))
        if destination.acl and abort.ok and "s3:PutObject" in self.granted:
            yield self._try(f"begin an upload with acl {destination.acl!r}", "s3:PutObjectAcl", self._with_acl)

    def _objects(self) -> Iterator[CheckStep]:
        """Tries complete objects, and everything that a landing does with them."""
        bucket, kms = self.target.bucket, self.target.destination.encrypts_by_kms
        how = f" encrypted by {self.target.destination.server_side_encryption}" if kms else ""
        wrote = self._try(
            f"write an object{how}",
            "kms:GenerateDataKey" if kms else "s3:PutObject",
            lambda: bucket.put(self._small, _CONTENT),
        )
        yield wrote
        if wrote.ok:
            yield self._try("read it back", "s3:GetObject", self._read_back)
        if wrote.ok and self._may_send_headers() and self._may_probe():
            yield self._try(f"complete an upload{how}", "kms:Decrypt" if kms else "s3:PutObject", self._complete)
        yield self._try("delete the trial objects", "s3:DeleteObject", self._delete_trials)
        if self._may_probe() and not self.broken:
            yield from self._abilities()

    def _abilities(self) -> Iterator[CheckStep]:
        """Yields a step for each ability of the server. A missing ability is not a failure, but has a cost."""
        bucket = self.target.bucket
        found: list[ServerAbilities] = []
        name = "find out what the server can do"
        step = self._try(name, "", lambda: found.append(bucket.probe_again() if self.again else bucket.abilities))
        if not step.ok:
            yield step
        for abilities in found:
            yield from (
                CheckStep(each.name, "", True, each.message, has=each.has) for each in describe_abilities(abilities)
            )

    def _delete_trials(self) -> None:
        for key in (self._small, self._large):
            self.target.bucket.check_delete(key)

    def _may_probe(self) -> bool:
        """Whether the permissions are sufficient to probe the server's abilities. Uploading parts also depends on
        them."""
        return set(ACTIONS) - {"s3:ListBucketMultipartUploads"} <= self.granted

    def _may_send_headers(self) -> bool:
        return not self.target.destination.acl or "s3:PutObjectAcl" in self.granted

    def _try(self, name: str, action: str, request: Callable[[], object]) -> CheckStep:
        try:
            request()
        except AccessDeniedError as error:
            return self._denied(name, action, error)
        except StorageError as error:
            self.broken = True
            return CheckStep(name, error.action or action, False, error.message)
        self.granted |= {action} if action else set()
        return CheckStep(name, action, True)

    def _denied(self, name: str, action: str, error: AccessDeniedError) -> CheckStep:
        """The step for a denial. If the server names an action that is granted, the step's own action is missing."""
        if error.action in self.granted:
            bucket, kms_key = self.target.bucket, self.target.destination.kms_key_id
            error = access_denied(action, bucket.name, error.key, kms_key=kms_key, partition=bucket.partition)
        self.missing.add(error.action or action)
        return CheckStep(name, error.action or action, False, error.message)

    def _read_back(self) -> None:
        found = self.target.bucket.get(self._small)
        if found is None or found[0] != _CONTENT:
            raise StorageError(
                f"{self.target.bucket.uri(self._small)} does not hold what was just written to it.", key=self._small
            )

    def _with_acl(self) -> None:
        self._data.abort_upload(self._large, self._data.create_upload(self._large, {}))

    def _complete(self) -> None:
        upload_id = self._data.create_upload(self._large, self.target.destination.object_metadata or {})
        etag = self._data.upload_part(self._large, upload_id, 1, _CONTENT)
        self._data.complete_upload(self._large, upload_id, [etag])
