"""The registry of a stream: its owner, the templates it has landed under, and when it was last swept.

A landing enters its stream before anything becomes visible, and is refused if the stream has another owner or lands
under another template.
Must not know: what the scopes hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from itertools import zip_longest

from s3dest_dagster.commit.documents import FORMAT_VERSION, RECREATED, DocumentKind, StreamLocation, registry_key
from s3dest_dagster.commit.scopes import FoundScope, scopes_of_stream
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.errors import OwnershipError, SettingsError, StorageError, TemplateError
from s3dest_dagster.keys import (
    KeyTemplate,
    stream_root,
)
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import Stream, StreamId

SWEEP_INTERVAL = timedelta(days=1)
"""Landings sweep a stream at most this often."""
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class UsedTemplate:
    """The settings that determine the keys of a stream's objects, as the user wrote them."""

    s3_bucket_path: str
    """The setting of this name."""
    s3_path_format: str
    """The setting of this name."""
    file_name_pattern: str
    """The setting of this name."""

    @staticmethod
    def of(template: KeyTemplate) -> UsedTemplate:
        """The registry's form of a template."""
        return UsedTemplate(template.bucket_path, template.path_format, template.file_name_pattern)

    @property
    def template(self) -> KeyTemplate | None:
        """The template. None if an older version of the library allowed it and this version refuses it."""
        try:
            return KeyTemplate(self.s3_bucket_path, self.s3_path_format, self.file_name_pattern)
        except TemplateError:
            return None

    def makes_keys_of(self, template: KeyTemplate) -> bool:
        """Whether both produce the same keys, even if they are spelled differently."""
        return self.template is not None and self.template.tokens == template.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRegistry:
    """The document that all scopes of a stream share."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: StreamLocation
    """The stream that the registry belongs to, and the registry's location. A reader refuses it anywhere else."""
    owner: str | None = None
    """The owner, who alone may land the stream: the key of an asset with "/" between its parts, or the name that the
    settings give. Null if the stream has none."""
    templates: tuple[UsedTemplate, ...] = ()
    """All templates under which a scope of the stream has landed, the current one last."""
    recreated: bool = False
    """Whether the registry was lost and recreated from the landed data. There may then be more templates than these."""
    uploads_swept_at: datetime | None = None
    """When the stream was last searched for abandoned uploads."""
    hash_key_id: str | None = None
    """The id of the key with which fields of the stream are hashed. It does not reveal the key. Null if no field has
    been hashed."""

    def entered(
        self, template: UsedTemplate, owner: str | None, now: datetime, hash_key_id: str | None = None
    ) -> StreamRegistry:
        """This registry once the owner has landed the stream under a template, perhaps with hashed fields, and, if that
        is due, swept it."""
        registry = self if owner is None else replace(self, owner=owner)
        registry = registry if hash_key_id is None else replace(registry, hash_key_id=hash_key_id)
        if not self.templates or self.templates[-1] != template:
            registry = replace(registry, templates=(*(each for each in self.templates if each != template), template))
        due = self.uploads_swept_at is None or now - self.uploads_swept_at >= SWEEP_INTERVAL
        return replace(registry, uploads_swept_at=now) if due else registry


def owner_of(stream: Stream, destination: S3Destination, asset: str | None = None) -> str | None:
    """The owner of a stream that lands with these settings. The stream's own settings come first.

    Args:
        asset: The key of the asset that lands it. It is the owner if no settings name one.
    """
    return stream.settings.owner or destination.owner or asset


REGISTRIES = DocumentKind(StreamRegistry, cure=RECREATED)


_SeenRegistry = tuple[StreamRegistry, str | None]
"""A registry as it was read or put, and its ETag. The ETag is None if there is no registry yet."""


class RegistryEntry:
    """The entry of one landing in the registry of its stream.

    All scopes of a stream share the registry, so a stream has one template at a time: the current one. If the settings
    accept a new template, it replaces the current one. A stream that has no owner gets the first one that lands it.
    If the registry is gone, the owner and the template are taken from the newest sync. `check` sends one request;
    `enter` after it sends none if there is nothing to enter.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        stream: The stream, with its name as it stands in the bucket.
        owner: Who lands it. None if nobody is named.
    """

    def __init__(self, bucket: Bucket, destination: S3Destination, stream: StreamId, owner: str | None = None) -> None:
        self._bucket = bucket.with_root(destination.template.manifest_root)
        self._destination = destination
        self._stream = stream
        self.owner = owner
        """Who lands the stream. None if nobody is named."""
        self._used = UsedTemplate.of(destination.template)
        self._root = stream_root(destination.template.literal_root, stream)
        self._seen: _SeenRegistry | None = None
        self._hash_key_id: str | None = None

    def use_hash_key(self, key_id: str) -> None:
        """Notes the id of the key with which this landing hashes fields. Call it after `check`.

        Raises:
            SettingsError: Fields of the stream have been hashed with another key.
        """
        self._hash_key_id = key_id
        if self._seen is not None:
            self._refuse_other_key(self._seen[0])

    def check(self) -> None:
        """Checks that this owner may land the stream under this template.

        Raises:
            OwnershipError: The stream has another owner.
            TemplateError: It lands under another template.
        """
        self._seen = self._read()
        self._refuse(self._seen[0])

    @property
    def own_prefixes(self) -> tuple[str, ...]:
        """The prefixes of the stream's keys, for the current template and each earlier one. Call it after `check`.

        Empty if not all of them are known.
        """
        registry = self._seen[0] if self._seen is not None else None
        if registry is None or registry.recreated:
            return ()
        templates = [self._destination.template, *(used.template for used in registry.templates)]
        roots = tuple(template.listing_root(self._stream) for template in templates if template is not None)
        return roots if len(roots) == len(templates) else ()

    def enter(self, now: datetime) -> bool:
        """Enters this owner and this template.

        Returns whether the caller must sweep the stream; the sweep is entered as done. A stream's first landing has
        nothing to sweep yet. If there is nothing to enter, no request is sent: the registry then knows the owner and
        both templates, and the head admits only one of two concurrent syncs of a scope.

        Raises:
            OwnershipError: Another owner has entered the stream in the meantime.
            TemplateError: Another landing has entered the stream under another template in the meantime.
        """
        if self._seen is not None and self._entered(self._seen[0], now) == self._seen[0]:
            return False
        claimed = False
        for attempt in range(1, _ATTEMPTS + 1):
            # If the registry has changed since it was read, the put fails, and the registry is read again.
            registry, etag = self._seen if self._seen is not None and attempt == 1 else self._read()
            self._refuse(registry)
            entered = self._entered(registry, now)
            if entered == registry:
                return claimed and entered.uploads_swept_at == now
            # Compared with what was read, not with `now`: a server's clock tells whole seconds, so that another landing
            # can have swept at the same moment.
            claimed = registry.uploads_swept_at not in (None, entered.uploads_swept_at)
            try:
                self._seen = entered, self._put(entered, etag)
            except StorageError:
                # Another landing was first, or the answer was lost. The registry as it is now decides.
                if attempt == _ATTEMPTS:
                    raise
            else:
                return claimed
        raise AssertionError("unreachable")

    def _entered(self, registry: StreamRegistry, now: datetime) -> StreamRegistry:
        return registry.entered(self._used, self.owner, now, self._hash_key_id)

    def _put(self, registry: StreamRegistry, etag: str | None) -> str:
        key, data = registry_key(self._root), REGISTRIES.encode(registry)
        return self._bucket.put(key, data, if_absent=etag is None, if_match=etag)

    def _read(self) -> _SeenRegistry:
        return REGISTRIES.read(self._bucket, self._root, registry_key(self._root)) or (self._recreated(), None)

    def _recreated(self) -> StreamRegistry:
        """The registry for a stream that has none, because it has not landed yet or somebody deleted the registry."""
        landed = [scope for scope in scopes_of_stream(self._bucket, self._root) if scope.seen.head.newest is not None]
        newest = max(in_parallel(_newest_segment, landed), key=lambda each: each.sync.started_at, default=None)
        return StreamRegistry(
            location=StreamLocation(
                bucket_path=self._destination.template.literal_root,
                namespace=self._stream.namespace,
                stream=self._stream.name,
            ),
            owner=newest.owner if newest is not None else None,
            templates=(_used_by(newest),) if newest is not None else (),
            recreated=newest is not None,
        )

    def _refuse(self, registry: StreamRegistry) -> None:
        if registry.owner not in (None, self.owner):
            raise self._other_owner(registry.owner)
        self._refuse_other_key(registry)
        self._refuse_other_template(registry)

    def _refuse_other_key(self, registry: StreamRegistry) -> None:
        if self._hash_key_id is not None and registry.hash_key_id not in (None, self._hash_key_id):
            raise SettingsError(
                f"Stream {str(self._stream)!r}: its fields have been hashed with another hash_key (id "
                f"{registry.hash_key_id}, and this one has {self._hash_key_id}), so that equal values would get "
                "different hashes. Nothing was written. Take the former key back, or land the stream under another "
                "s3_bucket_path.",
                stream=str(self._stream),
                setting="hash_key",
            )

    def _other_owner(self, owner: str) -> OwnershipError:
        path = self._bucket.uri(self._destination.template.literal_root)
        who, same = f"{self.owner!r} would land it too", ""
        if self.owner is None:
            who, same = "this landing names no owner", f"If this landing is on behalf of {owner!r}, set owner to that. "
        return OwnershipError(
            f"Stream {str(self._stream)!r} under {path} belongs to {owner!r}, and {who}: one would replace what the "
            f"other landed, or continue from its state. Nothing was written. {same}If these are two streams, give this "
            "one another namespace, name or s3_bucket_path. If the stream has a new owner for good, run `s3dest "
            f"transfer {self._stream} --to {self.owner or 'OWNER'}`.",
            owner=owner,
            other=self.owner,
            stream=str(self._stream),
        )

    def _refuse_other_template(self, registry: StreamRegistry) -> None:
        if not registry.templates or self._destination.on_template_change == "accept":
            return
        if not registry.templates[-1].makes_keys_of(self._destination.template):
            raise self._other_template(registry.templates[-1])

    def _other_template(self, current: UsedTemplate) -> TemplateError:
        path = self._bucket.uri(self._destination.template.literal_root)
        differ = [name for name in _SETTINGS if getattr(current, name) != getattr(self._used, name)]
        return TemplateError(
            f"Stream {str(self._stream)!r} lands under {path} with {_spelled(current, differ)}, and not with "
            f"{_spelled(self._used, differ)}: both would share one manifest, so that a full refresh with one deletes "
            "what was landed with the other. Nothing was written. Take the former back; or give the new one an "
            "s3_bucket_path of its own; or, if the stream moves to the new one for good, set on_template_change to "
            "'accept'.",
            stream=str(self._stream),
            setting=differ[0] if differ else "s3_path_format",
        )


_SETTINGS = tuple(each.name for each in fields(UsedTemplate))


def check_entries(
    bucket: Bucket, destination: S3Destination, streams: Sequence[StreamId], owners: Sequence[str | None] = ()
) -> list[RegistryEntry]:
    """The checked registry entries of these streams, in their order. If one is refused, no landing begins.

    Args:
        owners: Who lands each of the streams. Default: nobody is named.
    """
    owned = zip_longest(streams, owners)
    entries = [RegistryEntry(bucket, destination, stream, owner) for stream, owner in owned]
    in_parallel(RegistryEntry.check, entries)
    return entries


def check_names(
    bucket: Bucket, destination: S3Destination, streams: Sequence[StreamId], owners: Sequence[str | None] = ()
) -> list[RegistryEntry]:
    """As `check_entries`, after the check that the template keeps these streams' keys apart.

    Raises:
        OwnershipError: One of the streams has another owner.
        TemplateError: Two of the streams could make the same key, or one lands under another template.
    """
    destination.check_streams(streams)
    return check_entries(bucket, destination, streams, owners)


def registry_of(bucket: Bucket, destination: S3Destination, stream: StreamId) -> StreamRegistry | None:
    """The registry of a stream, whose name is that in the bucket. None if the stream has none."""
    found = _find(bucket, destination, stream)
    return found[0] if found is not None else None


def transfer(bucket: Bucket, destination: S3Destination, stream: StreamId, owner: str) -> StreamRegistry | None:
    """Gives a stream to a new owner. Returns the registry before, or None if the stream has none.

    From then on a landing by the former owner is refused when it begins. One that has begun before still lands.

    Args:
        stream: The stream, with its name as it is in the bucket.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        found = _find(bucket, destination, stream)
        if found is None or found[0].owner == owner:
            return found[0] if found is not None else None
        registry, etag = found
        key = registry_key(registry.location.root)
        try:
            bucket.put(key, REGISTRIES.encode(replace(registry, owner=owner)), if_match=etag)
        except StorageError:
            # A landing was first, or the answer was lost. The registry as it is now decides.
            if attempt == _ATTEMPTS:
                raise
        else:
            return registry
    raise AssertionError("unreachable")


def _find(bucket: Bucket, destination: S3Destination, stream: StreamId) -> tuple[StreamRegistry, str] | None:
    root = stream_root(destination.template.literal_root, stream)
    return REGISTRIES.read(bucket.with_root(destination.template.manifest_root), root, registry_key(root))


def _newest_segment(found: FoundScope) -> Segment:
    name = found.seen.head.newest
    assert name is not None, "a scope that holds objects has a segment"
    return found.commit_log.read_segment(name)


def _used_by(segment: Segment) -> UsedTemplate:
    return UsedTemplate(*(str(segment.settings.get(name) or "") for name in _SETTINGS))


def _spelled(used: UsedTemplate, names: Iterable[str]) -> str:
    spelled = {name: repr(getattr(used, name)) if getattr(used, name) else "left out" for name in names}
    return " and ".join(f"{name} {value}" for name, value in spelled.items())
