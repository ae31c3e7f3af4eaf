"""A connector's config in a file that keeps what the connector changes of it, such as renewed tokens.

It must not know the connector.
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
from urllib.parse import quote, quote_plus

from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.printable import printable
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources.templating import Values, render_config


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A JSON file with a connector's config, to be given as `AirbyteSource(config=ConfigFile("shop.json"))`.

    Every call of the connector reads it anew, and what the connector changes is written back at once: the file is
    replaced as a whole or not at all, and only its owner may read it then. A link stays a link. Raises SettingsError,
    without what stands in the file, when it cannot be read; OSError when it cannot be written.
    """

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        refuse_variables("path", self.path)

    def __call__(self) -> dict[str, Any]:
        """The config as it stands in the file."""
        try:
            with open(self.path, encoding="utf-8") as file:
                config = json.load(file)
        except OSError as error:
            raise self._unreadable(f"{error.strerror}") from None
        except UnicodeDecodeError as error:
            raise self._unreadable(f"byte {error.start} is no UTF-8") from None
        except RecursionError:
            raise self._unreadable("it nests too deeply") from None
        except ValueError as error:
            raise self._unreadable(f"it is no JSON, see line {getattr(error, 'lineno', '?')}") from None
        if not isinstance(config, dict):
            raise self._unreadable("it is JSON, but no object")
        return config

    def keep(self, config: Mapping[str, Any]) -> None:
        """Writes the config in place of what stands there."""
        path = os.path.realpath(self.path)
        descriptor, beside = mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(config, file, indent=2, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise

    def _unreadable(self, reason: str) -> SettingsError:
        return SettingsError(f"The config {os.fspath(self.path)} cannot be read: {reason}.", setting="config")


OnConfig = Callable[[dict[str, Any]], None]
"""Keeps a config that the connector has changed, all of it."""

_CURE = "Give the source a ConfigFile as its config, or on_config, so that changes are kept."


class CurrentConfig:
    """The config as the connector knows it now. `template` is it as it is set, `rendered` with the partition's values.

    `secrets` are more texts that logs must not show. `keep` gets what the connector changes, with the placeholders of
    the template where it changed nothing; where it is None, a warning tells how to have it. `cure` ends that warning.
    """

    def __init__(
        self,
        template: Mapping[str, Any],
        values: Values | None = None,
        *,
        secrets: Iterable[str] = (),
        keep: OnConfig | None = None,
        cure: str = _CURE,
    ) -> None:
        self._template = template
        self._keep = keep
        self._cure = cure
        self.rendered: dict[str, Any] = render_config(template, values)
        self._secrets = {*secret_texts(template), *secret_texts(self.rendered), *secrets}
        self._masking = Masking(self._secrets)

    @property
    def secrets(self) -> frozenset[str]:
        """The texts that logs must not show."""
        return frozenset(self._secrets)

    def masked(self, text: str) -> str:
        """The text without secrets, those of every config since the call began."""
        return self._masking(text)

    def change(self, new: Mapping[str, Any], log: Callable[[str, str], None]) -> None:
        """Takes the config that the connector has sent. SourceError where it cannot be kept.

        Its secrets are masked from now on. Nothing is done where it is as before.
        """
        self._secrets.update(secret_texts(new))
        self._masking = Masking(self._secrets)
        names = ", ".join(changed_names(self.rendered, new))
        if not names:
            return
        whole = put_back(self._template, self.rendered, new)
        self.rendered = dict(new)
        if self._keep is None:
            log(
                "WARN",
                f"The source has changed its configuration ({names}), and nothing keeps that: the next sync starts "
                f"with the configuration as it is set, which may not be valid any more. {self._cure}",
            )
            return
        self._kept(whole, names)
        log("INFO", f"The source has changed its configuration ({names}); the change is kept.")

    def _kept(self, whole: dict[str, Any], names: str) -> None:
        assert self._keep is not None
        try:
            self._keep(whole)
        except Exception as error:
            raise SourceError(
                f"The source has changed its configuration ({names}), and keeping the change failed: "
                f"{self.masked(f'{type(error).__name__}: {error}')}. Mend that before the source runs again; its "
                "credentials may have to be given anew, since the old ones may not be valid any more.",
                setting="on_config",
            ) from None


def changed_names(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names whose values differ, nested ones as dotted paths; never a value."""
    return list(_changed(before, now, ""))


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in sorted({*before, *now}, key=str):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changed(old, new, f"{path}{name}.")
        elif name not in before or name not in now or old != new:
            yield f"{path}{name}"


def put_back(template: Mapping[str, Any], rendered: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new config with the template's own texts, placeholders and all, where it is as it was rendered."""
    return {
        name: _put_back(template[name], rendered[name], value) if name in rendered else value
        for name, value in new.items()
    }


def _put_back(template: Any, rendered: Any, new: Any) -> Any:
    if new == rendered:
        return template
    if isinstance(template, Mapping) and isinstance(rendered, Mapping) and isinstance(new, Mapping):
        return put_back(template, rendered, new)
    return new


MASK = "****"

_SECRET_KEY = re.compile(
    r"pass|pwd|secret|token|credential|auth|private|(api|access|account|encryption|signing|service|sas).?key|^key$"
    r"|signature|session|cookie|connection.?string|conn.?str|dsn|jdbc|webhook|bearer",
    re.IGNORECASE,
)
_CHOICE_KEY = re.compile(r"(^|_)(type|method|mode|title)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_SHORTEST = 4


class Masking:
    """Strikes secret texts out, also where they are quoted, escaped, percent-encoded or cut into lines.

    A text of less than four characters is no secret: it would be struck out of ordinary words.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelling for text in secrets if len(text) >= _SHORTEST for spelling in _spellings(text)}
        # The longest first, so that no secret is left half shown because another is a part of it.
        ordered = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def secret_texts(config: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a config, or of an environment, that count as secret."""
    return _secrets(config, False)


def _secrets(value: Any, within: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets(inner, _hides(str(key), inner, within))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner, within)
    elif isinstance(value, str):
        yield from [value] if within else _URL_PASSWORD.findall(value)


def _hides(key: str, value: Any, within: bool) -> bool:
    if isinstance(value, str) and _CHOICE_KEY.search(key):
        return False
    return within or bool(_SECRET_KEY.search(key))


def _spellings(text: str) -> Iterator[str]:
    """How a program may print the text: as it is, as JSON, in a URL, or cut into its lines."""
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield printable(text)
    yield quote(text, safe="", errors="replace")
    yield quote_plus(text, errors="replace")
    yield from (line.strip() for line in text.splitlines() if len(line.strip()) >= 2 * _SHORTEST)
