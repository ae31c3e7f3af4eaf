"""A connector's config in a file that keeps what the connector changes of it, such as renewed tokens.

It must not know the connector.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from tempfile import mkstemp
from typing import Any

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.setting_types import refuse_variables


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
