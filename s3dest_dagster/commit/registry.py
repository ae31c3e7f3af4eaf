"""The registry of a stream: its owner, its templates, its columns, and when it was last swept.

A landing enters its stream before anything becomes visible, and is refused if the stream has another owner or lands
under another template.
Must not know: what the scopes hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import zip_longest

from s3dest_dagster.columns.column_conflicts import column_conflicts, retyped_ids
from s3dest_dagster.columns.merged_columns import WrittenColumns, remembered_columns, with_live_types
from s3dest_dagster.columns.schema_differences import Evolution
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.commit.documents import StreamLocation, registry_key
from s3dest_dagster.commit.landed_columns import LandedColumns
from s3dest_dagster.commit.registry_copies import newest_copy
from s3dest_dagster.commit.registry_document import REGISTRIES, StreamRegistry, UsedTemplate
from s3dest_dagster.commit.registry_errors import (
    differing_settings,
    in_transfer,
    other_hash_key,
    other_owner,
    other_template,
    refuse_moved,
    spelled_settings,
)
from s3dest_dagster.commit.registry_recreation import shown_stream
from s3dest_dagster.commit.registry_updates import ATTEMPTS, SeenRegistry, update_registry
from s3dest_dagster.commit.scopes import FoundScope, scopes_of_stream, stream_roots
from s3dest_dagster.commit.written_columns import all_written_columns, columns_of_stream, text_of_columns
from s3dest_dagster.errors import AccessDeniedError, ManifestError
from s3dest_dagster.keys import KeyTemplate, prefixes_of_connector, stream_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, in_parallel
from s3dest_dagster.stream import Scope, Stream, StreamId

_RESERVE_ATTEMPTS = 50
"""Every refused reservation means that another landing succeeded with its own."""


def owner_of(stream: Stream, destination: S3Destination, asset: str | None = None) -> str | None:
    """The owner of a stream that lands with these settings. The stream's own settings come first.

    Args:
        asset: The key of the asset that lands it. It is the owner if no settings name one.
    """
    return stream.settings.owner or destination.owner or asset


class RegistryEntry:
    """The entry of one landing in the registry of its stream.

    All scopes of a stream share the registry, so a stream has one template at a time: the current one. If the settings
    accept a new template, it replaces the current one. A stream that has no owner gets the first one that lands it.
    If the registry is gone, it is restored from its copy. If that is gone, too, the owner and the template are taken
    from the newest sync, and the columns from all live objects. `check` sends one request; `reserve` and `enter` after
    it send none if there is nothing to reserve or to enter.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        stream: The stream, with its name as it is in the bucket.
        owner: Who lands it. None if nobody is named.
        template: The template under which it lands. Default: the destination's, for a stream whose rule is not known.
    """

    def __init__(
        self,
        bucket: Bucket,
        destination: S3Destination,
        stream: StreamId,
        owner: str | None = None,
        template: KeyTemplate | None = None,
    ) -> None:
        self._bucket = bucket.with_root(destination.template.manifest_root)
        self._destination = destination
        self._stream = stream
        self.owner = owner
        """Who lands the stream. None if nobody is named."""
        self._template = template or destination.template
        self._used = UsedTemplate.of(self._template)
        self._root = stream_root(destination.template.literal_root, stream)
        self._seen: SeenRegistry | None = None
        self._began_with: StreamRegistry | None = None
        self._found_no_scope = False
        self._hash_key_id: str | None = None
        self._big_integers: frozenset[int] = frozenset()
        self._retyped: frozenset[int] = frozenset()

    def use_hash_key(self, key_id: str) -> None:
        """Notes the id of the key with which this landing hashes fields. Call it after `check`.

        Raises:
            SettingsError: Fields of the stream have been hashed with another key.
        """
        self._hash_key_id = key_id
        if self._seen is not None:
            self._refuse_other_key(self._seen[0])

    def check(self) -> None:
        """Checks that this owner may land the stream under this template, each time by what the registry says now.

        Raises:
            OwnershipError: The stream has another owner.
            SupersededError: What it holds was given to another name, or it got what another held, since the first call.
            TemplateError: It lands under another template.
        """
        self._seen = self._read()
        self._refuse(self._seen[0])
        self._began_with = self._began_with or self._seen[0]

    @property
    def own_prefixes(self) -> tuple[str, ...]:
        """The prefixes of the stream's keys, for the current template and each earlier one. Call it after `check`.

        Empty if not all of them are known.
        """
        registry = self._seen[0] if self._seen is not None else None
        if registry is None or registry.recreated:
            return ()
        templates = [self._template, *(used.template for used in registry.templates)]
        if None in templates:
            return ()
        names = (self._stream, *(each.stream_id for each in registry.former_names))
        known = [template for template in templates if template is not None]
        # Adopted objects have keys that the connector made, with its own spelling.
        return tuple(prefix for template in known for name in names for prefix in prefixes_of_connector(template, name))

    @property
    def given_to(self) -> tuple[StreamLocation, ...]:
        """The streams to which this one gave its content. Their objects may have keys with this stream's name."""
        return self._current()[0].given_to

    @property
    def former_names(self) -> tuple[StreamLocation, ...]:
        """The streams from which this one got content."""
        return self._current()[0].former_names

    @property
    def former_template(self) -> str:
        """The settings of the template that this landing replaces, as far as they differ. Empty if it replaces none."""
        templates = self._current()[0].templates
        if not templates or templates[-1].makes_keys_of(self._template):
            return ""
        return spelled_settings(templates[-1], differing_settings(templates[-1], self._used))

    @property
    def is_new(self) -> bool:
        """Whether nothing of the stream was ever published."""
        return not self._current()[0].templates

    @property
    def has_no_scope(self) -> bool:
        """Whether the stream had neither a registry nor a scope when this was read, so that no head need be looked for.

        The conditional put of a head still decides if another landing has begun since.
        """
        return self._found_no_scope and self._current()[1] is None

    def columns_beside(self, replaced: Scope | None) -> StreamColumns:
        """All columns that the stream has or had, as a landing would find them that replaces this scope's objects."""
        return self._published_columns(self._current()[0], replaced)[0]

    def reserve(self, evolve: Callable[[StreamColumns], Evolution], *, replaced: Scope | None = None) -> Evolution:
        """Reserves the columns of a schema, so that no other landing gives their names to other fields.

        Args:
            evolve: Returns what to reserve, given all columns that the stream has or had. It is called again if another
                landing reserves columns at the same time.
            replaced: The scope whose objects the landing replaces, if it does.

        Returns:
            The last result of `evolve`, whose columns are now reserved.
        """
        evolutions: list[Evolution] = []
        retyped: frozenset[int] = frozenset()

        def reserved(registry: StreamRegistry) -> StreamRegistry:
            nonlocal retyped
            published, kept = self._published_columns(registry, replaced)
            known = published.with_big_integers(self._big_integers)
            evolution = evolve(known)
            evolutions.append(evolution)
            retyped = retyped_ids(known, evolution.columns) if known.is_typed else frozenset()
            return replace(
                registry,
                columns=text_of_columns(evolution.columns, registry.columns),
                retyped=tuple(sorted(kept | retyped)),
            )

        self._update(reserved, attempts=_RESERVE_ATTEMPTS)
        self._retyped |= retyped
        return evolutions[-1]

    def _published_columns(
        self, registry: StreamRegistry, replaced: Scope | None
    ) -> tuple[StreamColumns, frozenset[int]]:
        """The registry's columns. A type that a failed sync changed is taken back if there are objects with the old
        one.

        Returns them, and the ids of the columns whose old type only the objects of the scope `replaced` have.
        """
        columns = columns_of_stream(registry.columns)
        if not registry.retyped:
            return columns, frozenset()
        columns = with_live_types(columns, registry.retyped, self.written_columns(but=replaced))
        typed = (each.record for each in self.written_columns() if each.is_typed) if replaced is not None else ()
        return columns, frozenset(each.id for each in column_conflicts(columns, typed)).intersection(registry.retyped)

    def check_retyped(self, landed: LandedColumns, *, replaces: bool) -> None:
        """Checks that no objects have been published with a type that this landing has changed. Call it before it is
        decided. No request is sent if no type was changed lately.

        Args:
            landed: The columns of the objects that are about to be published.
            replaces: Whether they replace those that the scope holds.

        Raises:
            SupersededError: There are such objects.
        """
        # Another process may have reserved the columns of these objects: the registry then knows what it changed.
        retyped = self._retyped.union(self._current()[0].retyped)
        if retyped and landed.records:
            landed.check_beside(retyped, self.written_columns(but=landed.scope if replaces else None))

    def note_big_integers(self, ids: frozenset[int]) -> None:
        """Notes that integers which no double holds are about to land in these columns. `enter` enters it."""
        self._big_integers |= ids

    def written_columns(self, *, but: Scope | None = None) -> list[WrittenColumns]:
        """The columns of all live objects of the stream, oldest first within each scope. Reads all scopes.

        Args:
            but: A scope to leave out.
        """
        found = scopes_of_stream(self._bucket, self._root)
        others = [each for each in found if but is None or each.scope.partition != but.partition]
        segments = [segment for each in in_parallel(FoundScope.segments, others) for segment in each]
        return [written for segment in segments for written in all_written_columns(segment)]

    def enter(self, now: datetime) -> bool:
        """Enters this owner and this template.

        Returns whether the caller must sweep the stream; the sweep is entered as done. A stream's first landing has
        nothing to sweep yet. If there is nothing to enter, no request is sent: the registry then knows the owner and
        both templates, and the head admits only one of two concurrent syncs of a scope.

        Raises:
            OwnershipError: Another owner has entered the stream in the meantime.
            TemplateError: Another landing has entered the stream under another template in the meantime.
        """
        claimed = False

        def entered(registry: StreamRegistry) -> StreamRegistry:
            nonlocal claimed
            changed = self._entered(registry, now)
            if changed == registry:
                # An earlier try may have put this, although its answer was lost.
                claimed = claimed and changed.uploads_swept_at == now
            else:
                # Compared with what was read, not with `now`: a server's clock tells whole seconds, so that another
                # landing can have swept at the same moment.
                claimed = registry.uploads_swept_at not in (None, changed.uploads_swept_at)
            return changed

        self._update(entered)
        return claimed

    def _update(self, change: Callable[[StreamRegistry], StreamRegistry], *, attempts: int = ATTEMPTS) -> None:
        """See `update_registry`. Refuses a registry that another landing has made another's in the meantime."""

        def accepted(registry: StreamRegistry) -> StreamRegistry:
            self._refuse(registry)
            return change(registry)

        self._seen = update_registry(self._bucket, self._root, self._read, accepted, seen=self._seen, attempts=attempts)

    def _current(self) -> SeenRegistry:
        """The registry as this entry last read or put it."""
        if self._seen is None:
            self._seen = self._read()
        return self._seen

    def _entered(self, registry: StreamRegistry, now: datetime) -> StreamRegistry:
        """The registry with everything that this landing enters."""
        entered = registry.entered(self._used, self.owner, now, self._hash_key_id)
        if not self._big_integers:
            return entered
        columns = columns_of_stream(registry.columns).with_big_integers(self._big_integers)
        return replace(entered, columns=text_of_columns(columns, registry.columns))

    def _read(self) -> SeenRegistry:
        return REGISTRIES.read(self._bucket, self._root, registry_key(self._root)) or (self._recreated(), None)

    def _recreated(self) -> StreamRegistry:
        """The registry for a stream that has none, because it has not landed yet or somebody deleted the registry."""
        if not any(self._bucket.list_directories(self._root)):
            self._found_no_scope = True
            return self._empty()
        if (copy := newest_copy(self._bucket, self._root)) is not None:
            return copy
        shown, has_scopes = shown_stream(self._bucket, self._root)
        self._found_no_scope = not has_scopes
        if shown is None:
            return self._empty()
        columns = remembered_columns(shown.versions, str(self._stream))
        return replace(
            self._empty(),
            owner=shown.owner,
            templates=(shown.template,),
            recreated=True,
            columns=text_of_columns(columns, None) if shown.versions else None,
        )

    def _empty(self) -> StreamRegistry:
        """The registry of a stream that has never landed."""
        location = StreamLocation(
            bucket_path=self._destination.template.literal_root,
            namespace=self._stream.namespace,
            stream=self._stream.name,
        )
        return StreamRegistry(location=location)

    def _refuse(self, registry: StreamRegistry) -> None:
        if registry.transfer is not None:
            raise in_transfer(registry.transfer, self._stream)
        if self._began_with is not None:
            refuse_moved(self._stream, self._began_with, registry)
        if registry.owner not in (None, self.owner):
            path = self._bucket.uri(self._destination.template.literal_root)
            raise other_owner(self._stream, path, registry.owner, self.owner)
        self._refuse_other_key(registry)
        self._refuse_other_template(registry)

    def _refuse_other_key(self, registry: StreamRegistry) -> None:
        if self._hash_key_id is not None and registry.hash_key_id not in (None, self._hash_key_id):
            raise other_hash_key(self._stream, registry.hash_key_id, self._hash_key_id)

    def _refuse_other_template(self, registry: StreamRegistry) -> None:
        if not registry.templates or self._destination.on_template_change == "accept":
            return
        if not registry.templates[-1].makes_keys_of(self._template):
            path = self._bucket.uri(self._destination.template.literal_root)
            raise other_template(self._stream, path, registry.templates[-1], self._used)


def streams_of_owner(bucket: Bucket, template: KeyTemplate, owner: str, likely: StreamId) -> list[StreamId]:
    """The streams under a bucket path that belong to an owner, with their names in the bucket.

    It takes one request if the likely stream is the owner's. Otherwise namespaces are listed, and the registry of each
    stream is read. Registries that the identity may not read, or that are damaged, are left out.

    Args:
        likely: The stream that is looked at first.
    """

    def owned(root: str) -> StreamId | None:
        try:
            found = REGISTRIES.read(bucket, root, registry_key(root))
        except (AccessDeniedError, ManifestError):
            return None
        return found[0].location.stream_id if found is not None and found[0].owner == owner else None

    if (first := owned(stream_root(template.literal_root, likely))) is not None:
        return [first]
    try:
        roots = stream_roots(bucket, template.manifest_root)
    except AccessDeniedError:
        return []
    return sorted(filter(None, in_parallel(owned, roots)), key=str)


def check_entries(
    bucket: Bucket,
    destination: S3Destination,
    streams: Sequence[StreamId],
    owners: Sequence[str | None] = (),
    templates: Sequence[KeyTemplate] = (),
) -> list[RegistryEntry]:
    """The checked registry entries of these streams, in their order. If one is refused, no landing begins.

    Args:
        owners: Who lands each of the streams. Default: nobody is named.
        templates: The template of each of the streams. Default: the destination's, see `RegistryEntry`.
    """
    given = zip_longest(streams, owners, templates)
    entries = [RegistryEntry(bucket, destination, stream, owner, template) for stream, owner, template in given]
    in_parallel(RegistryEntry.check, entries)
    return entries


def check_names(
    bucket: Bucket,
    destination: S3Destination,
    streams: Sequence[Stream],
    landed: Sequence[StreamId],
    owners: Sequence[str | None] = (),
) -> list[RegistryEntry]:
    """As `check_entries`, after the check that the template keeps these streams' keys apart.

    Args:
        landed: The names of the streams in the bucket.

    Raises:
        OwnershipError: One of the streams has another owner.
        SettingsError: A stream has `partition_by`, and the template has no place for its directories.
        TemplateError: Two of the streams could make the same key, or one lands under another template.
    """
    templates = [destination.template_of(each) for each in streams]
    rules = {name: each.settings.partition_by for name, each in zip(landed, streams, strict=True)}
    destination.check_streams(landed, rules)
    return check_entries(bucket, destination, landed, owners, templates)
