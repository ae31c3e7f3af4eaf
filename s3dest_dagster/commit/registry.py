"""The register of a stream: under which templates it has landed, and when its abandoned uploads were last looked for.

Whoever lands a scope of the stream enters it before anything becomes visible, and is refused under another template
than the one that counts. It must not know what the scopes hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from s3dest_dagster.commit.manifest import Segment, StreamRegistry, UsedTemplate, from_json, to_json
from s3dest_dagster.commit.manifest_keys import registry_key
from s3dest_dagster.commit.placement import check_owner
from s3dest_dagster.commit.scopes import FoundScope, scopes_of_stream
from s3dest_dagster.errors import StorageError, TemplateError
from s3dest_dagster.keys import KeyTemplate, manifest_root, stream_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import StreamId

SWEEP_INTERVAL = timedelta(days=1)
"""Landings sweep a stream at most this often."""
_ATTEMPTS = 5
_NAMES = ("s3_bucket_path", "s3_path_format", "file_name_pattern")


@dataclass(frozen=True, slots=True)
class _Found:
    """A register as it stands, and its ETag; an empty one and None where there is none."""

    register: StreamRegistry
    etag: str | None


class RegistryEntry:
    """What a landing has to do with the register of its stream (the name as it stands in the bucket).

    All scopes of a stream share what its manifests tell, so that a stream has one template at a time: the newest of its
    register, unless the settings accept another, which then takes its place. Where the register is gone, the newest of
    what has landed tells. Requests: one for `check`, and none for `enter` after it when there is nothing to note.
    """

    def __init__(self, bucket: Bucket, destination: S3Destination, stream: StreamId) -> None:
        self._bucket = bucket.with_root(manifest_root(destination.template.literal_root))
        self._destination = destination
        self._stream = stream
        self._root = stream_root(destination.template.literal_root, stream)
        self._key = registry_key(self._root)
        self._found: _Found | None = None

    def check(self) -> None:
        """Returns only where the stream may land under this template; else raises TemplateError."""
        self._found = self._read()
        self._refuse_another(self._found.register)

    @property
    def own(self) -> tuple[str, ...]:
        """What the stream's keys begin with, under each template that it has landed under and the one of now; nothing
        where not all of them are known. After `check`."""
        known = self._found.register if self._found is not None else None
        if known is None or known.lost:
            return ()
        templates = [self._destination.template, *map(_template_of, known.templates)]
        roots = tuple(each.listing_root(self._stream) for each in templates if each is not None)
        return roots if len(roots) == len(templates) else ()

    def enter(self, now: datetime) -> bool:
        """Notes that the stream lands under this template. Returns whether it is to be swept, which is noted as done.

        A stream's first landing has nothing to sweep yet. Where there is something to note, it raises TemplateError
        when another landing has entered the stream under another template meanwhile. Where there is nothing, nobody
        asks: the register knows both templates, and of one scope the head lets only one of the two syncs through.
        """
        if self._found is not None and self._entered(self._found.register, now) == self._found.register:
            return False
        claimed = False
        for attempt in range(1, _ATTEMPTS + 1):
            # What has changed since it was read is noticed by the put, and read anew.
            found = self._found if self._found is not None and attempt == 1 else self._read()
            self._refuse_another(found.register)
            after = self._entered(found.register, now)
            if after == found.register:
                return claimed and after.swept_at == now
            claimed = found.register.swept_at is not None and after.swept_at == now
            try:
                etag = self._bucket.put(self._key, to_json(after), if_absent=found.etag is None, if_match=found.etag)
            except StorageError:
                # Another landing was first, or the answer was lost: what stands there now tells.
                if attempt == _ATTEMPTS:
                    raise
            else:
                self._found = _Found(after, etag)
                return claimed
        raise AssertionError("unreachable")

    def _read(self) -> _Found:
        found = self._bucket.get(self._key)
        if found is None:
            return _Found(self._made_anew(), None)
        return _Found(_register_in(self._bucket, self._root, found[0]), found[1])

    def _made_anew(self) -> StreamRegistry:
        """The register of a stream that has none: it has not landed yet, or somebody deleted it."""
        held = [each for each in scopes_of_stream(self._bucket, self._root) if each.seen.head.newest is not None]
        newest = max(in_parallel(_newest, held), key=lambda each: each.started_at, default=None)
        return StreamRegistry(
            path=self._destination.template.literal_root,
            stream=self._stream.name,
            namespace=self._stream.namespace,
            lost=newest is not None,
            templates=(_used_by(newest),) if newest is not None else (),
        )

    def _entered(self, register: StreamRegistry, now: datetime) -> StreamRegistry:
        used = _used(self._destination.template)
        if not register.templates or register.templates[-1] != used:
            others = tuple(each for each in register.templates if each != used)
            register = replace(register, templates=(*others, used))
        due = register.swept_at is None or now - register.swept_at >= SWEEP_INTERVAL
        return replace(register, swept_at=now) if due else register

    def _refuse_another(self, register: StreamRegistry) -> None:
        if not register.templates or self._destination.on_template_change == "accept":
            return
        counts, template = register.templates[-1], self._destination.template
        if not _makes_same_keys(counts, template):
            raise _another_template(self._stream, self._bucket, counts, template)


def check_templates(bucket: Bucket, destination: S3Destination, streams: Iterable[StreamId]) -> list[RegistryEntry]:
    """The registrations of these streams, in their order, each checked: so that none is begun where one is refused."""
    registrations = [RegistryEntry(bucket, destination, each) for each in streams]
    in_parallel(RegistryEntry.check, registrations)
    return registrations


def used_templates(bucket: Bucket, root: str) -> list[KeyTemplate]:
    """Those under which the stream with this root has landed, as far as its register tells; an older library may have
    allowed others, which this one refuses."""
    found = bucket.get(registry_key(root))
    register = _register_in(bucket, root, found[0]) if found is not None else None
    return [made for each in (register.templates if register else ()) if (made := _template_of(each)) is not None]


def could_own(bucket: Bucket, root: str, keys: Collection[str]) -> bool:
    """Whether the stream with this root could own any of these keys: it stands under the root, or a template that the
    stream has used could have made it."""
    found = bucket.get(registry_key(root))
    if found is None or any(each.startswith(root) for each in keys):
        return True
    register = _register_in(bucket, root, found[0])
    if register.lost:
        return True
    stream = StreamId(register.namespace, register.stream)
    return any(_could_make(each, stream, keys) for each in register.templates)


def _register_in(bucket: Bucket, root: str, data: bytes) -> StreamRegistry:
    """The register of the stream with this root, from its text. ManifestError where it is not that stream's."""
    key = registry_key(root)
    register = from_json(StreamRegistry, data, key)
    check_owner(bucket, register, root, key)
    return register


def _could_make(used: UsedTemplate, stream: StreamId, keys: Collection[str]) -> bool:
    """Whether the template could make one of the keys; also where nobody can say."""
    template = _template_of(used)
    return template is None or any(map(template.matcher(stream).fullmatch, keys))


def _template_of(used: UsedTemplate) -> KeyTemplate | None:
    """The template; None for one that an older library allowed and this one refuses."""
    try:
        return KeyTemplate(used.s3_bucket_path, used.s3_path_format, used.file_name_pattern)
    except TemplateError:
        return None


def _used(template: KeyTemplate) -> UsedTemplate:
    return UsedTemplate(template.bucket_path, template.path_format, template.file_name_pattern)


def _newest(held: FoundScope) -> Segment:
    name = held.seen.head.newest
    assert name is not None, "a scope that holds objects has a segment"
    return held.commit_log.read_segment(name)


def _used_by(segment: Segment) -> UsedTemplate:
    path, path_format, pattern = map(segment.settings.get, _NAMES)
    return UsedTemplate(str(path or ""), str(path_format or ""), str(pattern or ""))


def _makes_same_keys(used: UsedTemplate, template: KeyTemplate) -> bool:
    """Whether both make the same keys, however they are spelled."""
    former = _template_of(used)
    return former is not None and former.tokens == template.tokens


def _another_template(stream: StreamId, bucket: Bucket, counts: UsedTemplate, now: KeyTemplate) -> TemplateError:
    used = _used(now)
    differ = [name for name in _NAMES if getattr(counts, name) != getattr(used, name)]
    return TemplateError(
        f"Stream {str(stream)!r} lands under {bucket.uri(now.literal_root)} with {_told(counts, differ)}, and not with "
        f"{_told(used, differ)}: both would share one manifest, so that a full refresh with one deletes what was "
        "landed with the other. Nothing was written. Take the former back; or give the new one an s3_bucket_path of "
        "its own; or, if the stream moves to the new one for good, set on_template_change to 'accept'.",
        stream=str(stream),
        setting=differ[0] if differ else "s3_path_format",
    )


def _told(used: UsedTemplate, names: Iterable[str]) -> str:
    spelled = {name: repr(getattr(used, name)) if getattr(used, name) else "left out" for name in names}
    return " and ".join(f"{name} {value}" for name, value in spelled.items())
