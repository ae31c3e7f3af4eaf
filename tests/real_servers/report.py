"""What a run of `make test-servers` has found, as the tables of docs/servers.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from docs.pages import ROOT, written_table
from real_servers.known import KNOWN

PAGE = ROOT / "docs" / "servers.md"
_SIGNS = {"passed": "✓", "skipped": "–", "failed": "✗"}


@dataclass
class Found:
    """The outcomes of the tests by server and test, and each server's version and abilities in words."""

    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)
    abilities: dict[str, Mapping[str, tuple[bool, str]]] = field(default_factory=dict)

    def note(self, server: str, test: str, outcome: str) -> None:
        """Notes how a test, or a part of it, ended; what failed once has failed."""
        tests = self.outcomes.setdefault(server, {})
        tests[test] = "failed" if "failed" in (outcome, tests.get(test)) else outcome


def tables(found: Found, today: date) -> str:
    """All of it, for the page."""
    names = [name for name in KNOWN if name in found.outcomes]
    titles = tuple(KNOWN[name].title for name in names)
    versions = [(KNOWN[name].title, KNOWN[name].version(), KNOWN[name].package, today.isoformat()) for name in names]
    tests = list(dict.fromkeys(test for name in names for test in found.outcomes[name]))
    tried = [
        (_sentence(test), *(_SIGNS[found.outcomes[name].get(test, "skipped")] for name in names)) for test in tests
    ]
    parts = [
        written_table(("server", "version", "from", "tried on"), versions),
        written_table(("what was tried", *titles), tried),
        _abilities(found, names, titles),
    ]
    return "\n".join(parts)


def _sentence(test: str) -> str:
    """A test's name as a sentence: what it is about stands in it."""
    name, _, variant = test.partition("[")
    words = name.removeprefix("test_").replace("_", " ")
    told = f"{words[0].upper()}{words[1:]}"
    return f"{told} ({variant.rstrip(']').replace('_', ' ')})" if variant else told


def _abilities(found: Found, names: list[str], titles: tuple[str, ...]) -> str:
    """Each ability with who has it, and what is lost without it."""
    abilities = list(dict.fromkeys(each for name in names for each in found.abilities.get(name, ())))
    rows, lost = [], dict[str, str]()
    for ability in abilities:
        cells = []
        for name in names:
            has, message = found.abilities[name][ability]
            cells.append((f"✓ {message}" if message else "✓") if has else "–")
            if not has:
                lost[ability] = message
        rows.append((ability, *cells))
    told = "".join(f"- {ability}: {message}.\n" for ability, message in lost.items())
    return f"{written_table(('the server can', *titles), rows)}\nWithout the ability to\n\n{told}"


def publish(text: str) -> None:
    """Writes the tables into the page."""
    old = PAGE.read_text("utf-8")
    place = re.compile(r"(?P<open><!-- measured: servers -->\n).*?(?P<close><!-- /measured -->)", re.DOTALL)
    PAGE.write_text(place.sub(lambda m: f"{m['open']}\n{text}\n{m['close']}", old), "utf-8")
