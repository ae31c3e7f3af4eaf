"""The settings of one stream: whose it is, how its columns are named, and which of its fields leave the source.

They are frozen values, which are checked when they are created. Python, a component's YAML and the `"s3dest"` object of
a `config.json` all give them as a mapping with the names of the fields here. Must not know: schemas, records, where
settings are given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NoReturn, get_args

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.field_paths import FieldPath, join_paths
from s3dest_dagster.settings.fields import documented, refuse_unknown, refuse_variables, setting
from s3dest_dagster.settings.partition_fields import PartitionRule, partition_rule
from s3dest_dagster.settings.schema_contract import SchemaContract

CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that no name of a column has: controls, breaks of lines, and halves of surrogate pairs."""
LONGEST_NAME = 255
"""The most characters of a column's name that a user gives: Glue, Athena and Hive accept no more."""
RESERVED_NAMES = ("_airbyte_additional_properties", "_ab_additional_properties")
"""The names of the overflow, which every object has."""
ENVELOPE_NAMES = (
    "_airbyte_ab_id",
    "_airbyte_emitted_at",
    "_airbyte_raw_id",
    "_airbyte_extracted_at",
    "_airbyte_meta",
    "_airbyte_generation_id",
    "_airbyte_data",
)
"""The names of columns that every record has or can have besides its own."""
Paths = tuple[FieldPath, ...]
OnDeselected = Literal["exclude", "land"]
_MOST_SHOWN = 80
RULES = ("exclude", "hash", "mask")
"""The settings of `FieldSelection` that keep a field's value out of everything that is written."""


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSelection:
    """Which fields of a stream land, and which land as a hash or as a mask.

    Paths are checked when the selection is created (see `settings.field_paths`). The rule for a field applies to
    everything within it.
    """

    include: Paths | None = setting(
        "Only these fields land, with everything within them. By default all fields do.", default=None
    )
    exclude: Paths = setting("These fields do not land.", default=())
    hash: Paths = setting(
        "Instead of the value of these fields lands its HMAC-SHA-256, in hexadecimal. It needs `hash_key`.", default=()
    )
    mask: Paths = setting("Instead of the value of these fields lands `***`.", default=())
    deselected: Paths = setting(
        "Not for users: fields that the discovered catalog has and the configured one leaves out. They do not land "
        "either.",
        default=(),
    )

    def __post_init__(self) -> None:
        for name in ("include", *RULES, "deselected"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _paths(given, f"fields.{name}"))
        if self.include == ():
            _refuse("include", "fields.include names no field. Leave it out, and all fields land.")
        for name, paths in (("hash", self.hash), ("mask", self.mask)):
            self._check_overlaps(name, paths)
            self._check_included(name, paths)
        for path in self.include or ():
            self._check_clash("include", path, self._excluded(), FieldPath.starts_with)

    @classmethod
    def of(cls, given: FieldSelection | Mapping[str, Any] | None) -> FieldSelection:
        """The selection that a mapping describes. Raises SettingsError for an unknown name or a wrong path."""
        if isinstance(given, FieldSelection):
            return given
        if not isinstance(given, Mapping | None):
            raise SettingsError(
                f"fields is {given!r}. It must map include, exclude, hash or mask to paths.", setting="fields"
            )
        refuse_unknown("fields", given or (), ("include", *RULES))
        return cls(**(given or {}))

    def __bool__(self) -> bool:
        """Whether any field does not land as it is."""
        return self.include is not None or any(paths for _, paths in self.rules())

    def rules(self) -> Iterator[tuple[str, Paths]]:
        """Yields each of `RULES` with its paths. Deselected fields are excluded."""
        yield "exclude", self._excluded()
        yield "hash", self.hash
        yield "mask", self.mask

    def with_deselected(self, paths: Iterable[FieldPath]) -> FieldSelection:
        """This selection, which also leaves out fields that a catalog deselects. A field that has another rule keeps
        it."""
        included = self.include or ()
        ruled = [each for _, others in self.rules() for each in others]
        left_out = (path for path in paths if path not in included and not any(map(path.starts_with, ruled)))
        return replace(self, deselected=(*self.deselected, *left_out))

    def hides(self, path: FieldPath) -> str:
        """The setting that keeps the value of a field from landing, except as a hash. Empty if none does."""
        for name, paths in (("exclude", self.exclude), ("mask", self.mask), ("deselected", self.deselected)):
            if any(map(path.starts_with, paths)):
                return name
        return "" if self.include is None or any(_overlap(path, each) for each in self.include) else "include"

    def _excluded(self) -> Paths:
        return (*self.exclude, *self.deselected)

    def _check_overlaps(self, name: str, paths: Paths) -> None:
        """Raises SettingsError if a field of `paths` is within a field with another rule, or contains one."""
        for path in paths:
            for _, others in self.rules():
                self._check_clash(name, path, [each for each in others if each is not path], _overlap)

    def _check_clash(
        self, name: str, path: FieldPath, others: Iterable[FieldPath], clashes: Callable[[FieldPath, FieldPath], bool]
    ) -> None:
        for other in others:
            if not clashes(path, other):
                continue
            if other in self.deselected:
                _refuse(name, f"fields.{name} names {path}, and the configured catalog leaves out {other}. Select it.")
            rule = next(rule for rule, paths in self.rules() if other in paths)
            _refuse(name, f"fields.{name} names {path}, and fields.{rule} {other}. Remove one of them.")

    def _check_included(self, name: str, paths: Paths) -> None:
        for path in paths if self.include is not None else ():
            if not any(path.starts_with(each) for each in self.include or ()):
                _refuse(
                    name, f"fields.{name} names {path}, which fields.include leaves out. Add it there, or remove it."
                )


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """The settings of one stream."""

    owner: str | None = setting(
        "Who lands the stream. By default the key of its asset; in the command, nobody.", default=None
    )
    rename: Mapping[FieldPath, str] = setting("Columns by the path of their field.", factory=dict, hash=False)
    fields: FieldSelection = setting(
        "Which fields leave the source, see [private fields](private-fields.md).", factory=FieldSelection
    )
    deselected_fields: OnDeselected = setting(
        'A field that the discovered catalog has and the configured one leaves out does not land; `"land"` lands it '
        "as an undeclared field.",
        default="exclude",
    )
    schema_contract: SchemaContract | None = setting(
        "What happens if the source brings another schema than the stream has, as for the destination. By default the "
        "destination's, see [schema contract](schema-evolution.md#schema-contract).",
        default=None,
    )
    partition_by: PartitionRule = setting(
        "Fields whose values become directories, in place of `${FIELDS}` in `s3_path_format`: a list of paths, or of "
        "mappings with `field`, `as` (`year`, `month`, `day` or `hour`), `name` and `tz`, see [partitions by "
        "field](partitions-by-field.md).",
        default=(),
    )
    expire_partitions_after: int | None = setting(
        "Days after which a partition is retired, as for the destination; 0: never. By default the destination's, see "
        "[retention](owners.md#retention).",
        default=None,
    )

    def __post_init__(self) -> None:
        refuse_variables("owner", self.owner)
        refuse_variables("schema_contract", self.schema_contract)
        if not isinstance(self.owner, str | None) or self.owner == "":
            raise SettingsError("owner is not a text, or is empty. Name who lands the stream.", setting="owner")
        self._check_days()
        object.__setattr__(self, "rename", _renames(self.rename))
        object.__setattr__(self, "fields", FieldSelection.of(self.fields))
        object.__setattr__(self, "partition_by", partition_rule(self.partition_by, self.rename))
        if self.schema_contract is not None:
            object.__setattr__(self, "schema_contract", SchemaContract.of(self.schema_contract))
        if self.deselected_fields not in get_args(OnDeselected):
            known = ", ".join(map(repr, get_args(OnDeselected)))
            raise SettingsError(
                f"deselected_fields is {self.deselected_fields!r}. Known are {known}.", setting="deselected_fields"
            )

    def _check_days(self) -> None:
        refuse_variables("expire_partitions_after", self.expire_partitions_after)
        days = self.expire_partitions_after
        if not isinstance(days, int | None) or isinstance(days, bool) or (days or 0) < 0:
            raise SettingsError(
                f"expire_partitions_after is {days!r}. Give a number of days, as 90, or 0 for never.",
                setting="expire_partitions_after",
            )

    @classmethod
    def of(cls, given: StreamSettings | Mapping[str, Any] | None, owner: str = "A stream") -> StreamSettings:
        """The settings that a mapping describes.

        Args:
            given: The mapping, or settings, or None for the defaults.
            owner: What the settings belong to, for errors.

        Raises:
            SettingsError: A name is unknown, or a setting is wrong.
        """
        if isinstance(given, StreamSettings):
            return given
        if not isinstance(given, Mapping | None):
            raise SettingsError(f"{owner} has settings that are not a mapping: {given!r}.", setting="streams")
        refuse_unknown(owner, given or (), STREAM_SETTINGS)
        return cls(**(given or {}))

    def of_content(self) -> dict[str, str]:
        """The settings that change what lands, as texts; without those that have their defaults."""
        default = StreamSettings(owner=self.owner, expire_partitions_after=self.expire_partitions_after)
        names = (each.name for each in fields(self))
        return {name: repr(value) for name in names if (value := getattr(self, name)) != getattr(default, name)}


STREAM_SETTINGS = tuple(each.name for each in fields(StreamSettings))
"""The names of the settings of a stream."""


def _paths(given: Any, name: str) -> Paths:
    """The paths of a setting, each once."""
    refuse_variables(name, given)
    if isinstance(given, str | FieldPath | Mapping) or not isinstance(given, Iterable):
        raise SettingsError(f'{name} is {given!r}. It must be a list of paths, as ["person.mail"].', setting=name)
    return tuple(dict.fromkeys(FieldPath.parse(each, name) for each in given))


def _overlap(one: FieldPath, other: FieldPath) -> bool:
    return one.starts_with(other) or other.starts_with(one)


def _refuse(rule: str, message: str) -> NoReturn:
    raise SettingsError(message, setting=f"fields.{rule}")


def _renames(given: Any) -> Mapping[FieldPath, str]:
    """The names of columns by their fields' paths."""
    refuse_variables("rename", given)
    if not isinstance(given, Mapping):
        raise SettingsError(f"rename is {given!r}. It must map fields to the names of columns.", setting="rename")
    names = {FieldPath.parse(path, "rename"): name for path, name in given.items()}
    for path, name in names.items():
        if problem := _problem_of_name(path, name):
            raise SettingsError(f"rename gives {path} the name {_shown(name)}. {problem}.", setting="rename")
    _refuse_common_names(names)
    return names


def _problem_of_name(path: FieldPath, name: Any) -> str:
    """Why a field cannot get this name; empty if it can."""
    if not isinstance(name, str) or not name:
        return "It must be a text"
    if CONTROL_CHARACTERS.search(name):
        return "A name has no control characters, no line breaks and no halves of surrogate pairs"
    if name != name.strip():
        return "A name neither begins nor ends with a blank, which many readers remove"
    if len(name) > LONGEST_NAME:
        return f"It has {len(name):,} characters, and catalogs such as Glue accept at most {LONGEST_NAME}"
    if name in RESERVED_NAMES or (name in ENVELOPE_NAMES and len(path.steps) == 1):
        return "Every record can have a column of this name. Choose another one"
    return ""


def _shown(name: Any) -> str:
    """The name for an error."""
    text = repr(name)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _refuse_common_names(names: Mapping[FieldPath, str]) -> None:
    """Raises SettingsError if two fields of one object get the same name."""
    seen: dict[tuple[Sequence[Any], str], FieldPath] = {}
    for path, name in names.items():
        first = seen.setdefault((path.steps[:-1], name), path)
        if first is not path:
            raise SettingsError(
                f"rename gives {join_paths([first, path])} the same name {name!r}. Choose another for one of them.",
                setting="rename",
            )
