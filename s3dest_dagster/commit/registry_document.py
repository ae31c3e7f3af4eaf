"""The registry of a stream as a document: its owner, its templates, its columns, and when it was last swept.

Values only. Must not know: S3, who may enter it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

from s3dest_dagster.commit.documents import FORMAT_VERSION, RECREATED, DocumentKind, StreamLocation
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.settings.partition_fields import FieldsStyle, rule_of_text, rule_text
from s3dest_dagster.stream import StreamId

SWEEP_INTERVAL = timedelta(days=1)
"""Landings sweep a stream at most this often."""


@dataclass(frozen=True, slots=True)
class UsedTemplate:
    """The settings that determine the keys of a stream's objects, as the user wrote them."""

    s3_bucket_path: str
    """The setting of this name."""
    s3_path_format: str
    """The setting of this name."""
    file_name_pattern: str
    """The setting of this name."""
    fields_style: str = "hive"
    """The setting of this name."""
    partition_by: str = ""
    """The fields in place of `${FIELDS}`, as JSON text. Empty if there are none."""

    @staticmethod
    def of(template: KeyTemplate) -> UsedTemplate:
        """The registry's form of a template."""
        return UsedTemplate(
            template.bucket_path,
            template.path_format,
            template.file_name_pattern,
            template.fields_style,
            rule_text(template.partition_by or ()),
        )

    @staticmethod
    def of_settings(settings: Mapping[str, object]) -> UsedTemplate:
        """The template of the settings that a segment has recorded."""
        names = (each.name for each in fields(UsedTemplate))
        known = {name: str(settings[name]) for name in names if settings.get(name)}
        return UsedTemplate(**{"s3_bucket_path": "", "s3_path_format": "", "file_name_pattern": ""} | known)

    @property
    def template(self) -> KeyTemplate | None:
        """The template. None if an older version of the library allowed it and this version refuses it."""
        try:
            rule = rule_of_text(self.partition_by)
            style: FieldsStyle = "plain" if self.fields_style == "plain" else "hive"
            return KeyTemplate(self.s3_bucket_path, self.s3_path_format, self.file_name_pattern, style, rule)
        except SettingsError:
            return None

    def makes_keys_of(self, template: KeyTemplate) -> bool:
        """Whether both produce the same keys, even if they are spelled differently.

        A template that does not know its stream's rule is compared with the rule of this one.
        """
        own = self.template
        if own is None:
            return False
        other = template if template.partition_by is not None else template.for_rule(own.partition_by or ())
        return own.tokens == other.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTransfer:
    """The transfer of everything that a stream holds to another name. Until it is finished, neither name lands."""

    source: StreamLocation
    """The stream that gives its content away."""
    target: StreamLocation
    """The stream that gets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRegistry:
    """The document that all scopes of a stream share."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: StreamLocation
    """The stream that the registry belongs to, and the registry's location. A reader refuses it anywhere else."""
    version: int = 0
    """Grows with each change, except with one of `uploads_swept_at` alone. 0 before the first template."""
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
    columns: str | None = None
    """All columns that the stream has or had, as JSON text: source names, names, ids and types. They are reserved here
    before an object uses them, so that some may never have been used. Null if there are none yet."""
    retyped: tuple[int, ...] = ()
    """Ids of the columns whose type a sync has changed in place, since it leaves no object with the old type. If that
    sync was not published, there may still be such objects."""
    former_names: tuple[StreamLocation, ...] = ()
    """Names from which the stream got content. Its objects may have keys with these names."""
    given_to: tuple[StreamLocation, ...] = ()
    """Streams to which the stream gave its content. Their objects may have keys with this stream's name."""
    transfer: StreamTransfer | None = None
    """A transfer from or to this stream that is not finished, or null."""

    @property
    def names(self) -> tuple[StreamId, ...]:
        """The names that keys of the stream's objects may have: its own and its former ones."""
        return tuple(each.stream_id for each in (self.location, *self.former_names))

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


REGISTRIES = DocumentKind(StreamRegistry, cure=RECREATED)
