"""A connector's config: reads it from a file, stores the connector's changes, and masks its secrets in logs.

The secrets of a config are all texts below a key that looks secret, at any depth (everything in `credentials: {…}` is
secret), except the choice of a method (`auth_type`), and the passwords in URLs. The connector's specification also
marks secrets. It is not used, because reading it requires an extra run of the connector before every run.
Must not know: the connector that uses the config.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from tempfile import mkstemp
from typing import Any

from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.printable import Masking, printable
from s3dest_dagster.settings.connector_config import read_json_object
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources import ConfigChange, OnConfigChange
from s3dest_dagster.sources.templating import Values, render_config


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A JSON file with a connector's config: `AirbyteSource("source-shop", config=ConfigFile("shop.json"))`.

    Each run of the connector reads the file again. The connector's changes are written back immediately: the file is
    replaced atomically, and only its owner can read the new file. A symbolic link stays a link.

    Raises:
        SettingsError: when the file cannot be read. The message never quotes the file.
        OSError: when the file cannot be written.
    """

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        refuse_variables("path", self.path)

    def __call__(self) -> dict[str, Any]:
        """Reads the config from the file."""
        return read_json_object(self.path, "config", setting="config")

    def keep(self, config: Mapping[str, Any]) -> None:
        """Replaces the file's content with this config."""
        path = os.path.realpath(self.path)
        descriptor, temporary = mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(config, file, indent=2, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


OnConfig = Callable[[dict[str, Any]], None]
"""Stores the whole config after the connector has changed it."""

_ADVICE = "Give the source a ConfigFile as its config, or on_config, so that changes are kept."

_MAX_NAMES = 50
"""How many of the changed settings are named."""
_MAX_NAME = 120


class CurrentConfig:
    """The connector's current config, and the secrets of every version of it since the call began.

    Args:
        template: The config as it is set, with its placeholders.
        values: The values of the placeholders.
        secrets: Further texts that logs must not show.
        keep: Receives the changed config, with the template's placeholders where the connector changed nothing. None: a
            warning says how to keep changes.
        advice: The last sentence of that warning.
        on_change: Receives what has changed, once it is kept or the warning is logged.
        start_date: Replaces the config's `start_date` for this call, and is never kept.

    Raises:
        SettingsError: There is a `start_date`, and the config has none to replace.
    """

    def __init__(
        self,
        template: Mapping[str, Any],
        values: Values | None = None,
        *,
        secrets: Iterable[str] = (),
        keep: OnConfig | None = None,
        advice: str = _ADVICE,
        on_change: OnConfigChange | None = None,
        start_date: str | None = None,
    ) -> None:
        self._template = template
        self._keep = keep
        self._advice = advice
        self._on_change = on_change
        self.rendered: dict[str, Any] = render_config(template, values)
        """The config that the connector receives, or the newest one that it has sent."""
        if start_date is not None:
            _set_start_date(self.rendered, start_date)
        self._secrets = {*find_secrets(template), *find_secrets(self.rendered), *secrets}
        self.mask = Masking(self._secrets)
        """Replaces secrets in a text."""

    @property
    def secrets(self) -> frozenset[str]:
        """The texts that logs must not show."""
        return frozenset(self._secrets)

    def change(self, new: Mapping[str, Any], log: Callable[[str, str], None]) -> None:
        """Masks the secrets of the config that the connector has sent, and keeps the config if it differs.

        Raises SourceError when it cannot be kept.
        """
        self._secrets.update(find_secrets(new))
        self.mask = Masking(self._secrets)
        names = list(changed_names(self.rendered, new))
        if not names:
            return
        shown = [printable(self.mask(name))[:_MAX_NAME] for name in names[:_MAX_NAMES]]
        change = ConfigChange(shown, len(names) - len(shown), is_kept=self._keep is not None)
        config = restore_placeholders(self._template, self.rendered, new)
        self.rendered = dict(new)
        if self._keep is None:
            log(
                "WARN",
                f"The source has changed its configuration ({change}), and nothing keeps that: the next sync starts "
                f"with the configuration as it is set, which may not be valid any more. {self._advice}",
            )
        else:
            self._keep_change(config, change)
            log("INFO", f"The source has changed its configuration ({change}); the change is kept.")
        if self._on_change is not None:
            self._on_change(change)

    def _keep_change(self, config: dict[str, Any], change: ConfigChange) -> None:
        assert self._keep is not None, "there is something that keeps the config"
        try:
            self._keep(config)
        except Exception as error:
            raise SourceError(
                f"The source has changed its configuration ({change}), and keeping the change failed: "
                f"{self.mask(f'{type(error).__name__}: {error}')}. Fix that before the source runs again; its "
                "credentials may have to be entered again, since the old ones may not be valid any more.",
                setting="on_config",
            ) from None


def _set_start_date(config: dict[str, Any], date: str) -> None:
    if "start_date" not in config:
        names = ", ".join(sorted(config)) or "nothing"
        raise SettingsError(
            f"The run reads from {date} on, and the source's config has no start_date to replace. It has: {names}. Set "
            "start_date in the config, or go on from a state instead.",
            setting="start_date",
        )
    config["start_date"] = date


def changed_names(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yields the names whose values differ, nested names as dotted paths below `path`. Never yields a value."""
    for name in sorted({*before, *after}, key=str):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changed_names(old, new, f"{path}{name}.")
        elif name not in before or name not in after or old != new:
            yield f"{path}{name}"


def restore_placeholders(template: Any, rendered: Any, new: Any) -> Any:
    """The new value, with the template's text wherever the rendered value did not change."""
    if new == rendered:
        return template
    if not all(isinstance(value, Mapping) for value in (template, rendered, new)):
        return new
    return {
        name: restore_placeholders(template[name], rendered[name], value) if name in rendered else value
        for name, value in new.items()
    }


# ---------------------------------------------------------------------- secrets

_SECRET_KEY = re.compile(
    r"pass|pwd|secret|token|credential|auth|private|(api|access|account|encryption|signing|service|sas).?key|^key$"
    r"|signature|session|cookie|connection.?string|conn.?str|dsn|jdbc|webhook|bearer",
    re.IGNORECASE,
)
_CHOICE_KEY = re.compile(r"(^|_)(type|method|mode|title)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")


def find_secrets(config: Any, is_secret: bool = False) -> Iterator[str]:
    """Yields the secret texts of a config or an environment. If `is_secret`, all of its texts are secret."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from find_secrets(value, _hides(str(key), value, is_secret))
    elif isinstance(config, list | tuple):
        for value in config:
            yield from find_secrets(value, is_secret)
    elif isinstance(config, str):
        yield from [config] if is_secret else _URL_PASSWORD.findall(config)


def _hides(key: str, value: Any, is_secret: bool) -> bool:
    """Whether the value under this key is secret. `is_secret`: the object that holds the key is secret."""
    if isinstance(value, str) and _CHOICE_KEY.search(key):
        return False
    return is_secret or bool(_SECRET_KEY.search(key))
