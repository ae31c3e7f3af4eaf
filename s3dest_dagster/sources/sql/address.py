"""The address of a database: its URI, the driver that reads it, and how its secrets are kept out of texts.

Must not know: SQL, drivers' libraries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

from s3dest_dagster.errors import SettingsError

Engine = Literal["auto", "adbc", "connectorx", "duckdb", "sqlite"]
"""The drivers by their names. `auto` chooses by the scheme of the URI."""
_ENGINES: Mapping[str, Engine] = {
    "postgresql": "adbc",
    "postgres": "adbc",
    "duckdb": "duckdb",
    "sqlite": "sqlite",
    "mysql": "connectorx",
    "mariadb": "connectorx",
}
"""The driver of each scheme: the one that is known to keep every value, or to refuse it."""
_SECRET = re.compile(r"(?i)pass|pwd|secret|token|key|credential")
_AUTHORITY = re.compile(r"//[^/\s]*@")
_MASK = "…"


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A database and the driver that reads it."""

    uri: str = field(repr=False)
    engine: Engine
    scheme: str

    @property
    def path(self) -> str:
        """The file of an embedded database: `sqlite:///shop.db` is relative, `sqlite:////data/shop.db` absolute."""
        return unquote(urlsplit(self.uri).path.removeprefix("/"))

    @property
    def options(self) -> dict[str, str]:
        """The options behind the question mark of the URI."""
        return dict(parse_qsl(urlsplit(self.uri).query))

    def __str__(self) -> str:
        """The address without user, password and options, for messages."""
        try:
            parts = urlsplit(self.uri)
            return f"{self.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        except ValueError:
            return f"{self.scheme}://{_MASK}"

    def mask(self, text: str) -> str:
        """The text without the URI, its user and password, and the values of its options that may be secret."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, _MASK)
        return _AUTHORITY.sub(f"//{_MASK}@", text)

    def _secrets(self) -> set[str]:
        authority = self.uri.partition("://")[2].partition("/")[0]
        user, _, password = authority.rpartition("@")[0].partition(":")
        found = {self.uri, self.uri.partition("://")[2], password, unquote(password)}
        if user and not password:
            found.add(user)  # a token, as far as anybody knows
        query = self.uri.partition("?")[2]
        for name, value in (pair.partition("=")[::2] for pair in query.split("&")):
            if _SECRET.search(name):
                found |= {value, unquote(value)}
        return {each for each in found if each}


def parse_address(uri: str, engine: Engine) -> DatabaseAddress:
    """The address of a URI such as `postgresql://user:password@host/database`.

    A driver in the scheme, as SQLAlchemy has it (`postgresql+psycopg2`), is left out. Raises SettingsError, without the
    URI, if it is none, or if the driver does not read such a database.
    """
    if engine not in get_args(Engine):
        known = ", ".join(get_args(Engine))
        raise SettingsError(f"engine is {engine!r}. Known are {known}.", setting="engine")
    full, mark, rest = uri.partition("://")
    scheme = full.partition("+")[0].lower()
    if not mark or scheme not in _ENGINES:
        raise SettingsError(
            f"The uri of a SQL source begins with one of {', '.join(f'{each}://' for each in _ENGINES)}. This one does "
            "not; it is not shown, since it may hold a password.",
            setting="uri",
        )
    selected = _ENGINES[scheme] if engine == "auto" else engine
    if selected != _ENGINES[scheme]:
        raise SettingsError(
            f"The engine {engine!r} does not read a {scheme} database: {_ENGINES[scheme]!r} does, and keeps every "
            'value exactly or refuses it. Leave engine out, or set it to "auto".',
            setting="engine",
        )
    return DatabaseAddress(f"{scheme}{mark}{rest}", selected, scheme)
