"""Writes the results of `make test-servers` as the tables of docs/servers.md."""

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
class Results:
    """What a run has shown so far."""

    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)
    """The outcome of each test, by server and test."""
    abilities: dict[str, Mapping[str, tuple[bool, str]]] = field(default_factory=dict)
    """By server and ability: whether the server has it, and the message of its AbilityReport."""

    def add(self, server: str, test: str, outcome: str) -> None:
        """Adds the outcome of a test or of a part of it. What failed once has failed."""
        tests = self.outcomes.setdefault(server, {})
        tests[test] = "failed" if "failed" in (outcome, tests.get(test)) else outcome


def format_tables(results: Results, today: date) -> str:
    """All results as tables for the page."""
    names = [name for name in KNOWN if name in results.outcomes]
    titles = tuple(KNOWN[name].title for name in names)
    versions = [(KNOWN[name].title, KNOWN[name].version(), KNOWN[name].package, today.isoformat()) for name in names]
    tests = list(dict.fromkeys(test for name in names for test in results.outcomes[name]))
    outcomes = [
        (_sentence(test), *(_SIGNS[results.outcomes[name].get(test, "skipped")] for name in names)) for test in tests
    ]
    parts = [
        written_table(("server", "version", "package", "tested on"), versions),
        written_table(("test", *titles), outcomes),
        _format_abilities(results, names, titles),
    ]
    return "\n".join(parts)


def _sentence(test: str) -> str:
    """A test's name as a sentence."""
    name, _, variant = test.partition("[")
    words = name.removeprefix("test_").replace("_", " ")
    sentence = f"{words[0].upper()}{words[1:]}"
    return f"{sentence} ({variant.rstrip(']').replace('_', ' ')})" if variant else sentence


def _format_abilities(results: Results, names: list[str], titles: tuple[str, ...]) -> str:
    """A table of the abilities by server, and a list of what the lack of each costs."""
    abilities = list(dict.fromkeys(ability for name in names for ability in results.abilities.get(name, ())))
    rows, costs = [], dict[str, str]()
    for ability in abilities:
        cells = []
        for name in names:
            has, message = results.abilities[name][ability]
            cells.append((f"✓ {message}" if message else "✓") if has else "–")
            if not has:
                costs[ability] = message
        rows.append((ability, *cells))
    lines = "".join(f"- {ability}: {message}.\n" for ability, message in costs.items())
    return f"{written_table(('the server can', *titles), rows)}\nIf a server cannot\n\n{lines}"


def publish(text: str) -> None:
    """Writes the tables into the page."""
    old = PAGE.read_text("utf-8")
    section = re.compile(r"(?P<open><!-- measured: servers -->\n).*?(?P<close><!-- /measured -->)", re.DOTALL)
    PAGE.write_text(section.sub(lambda m: f"{m['open']}\n{text}\n{m['close']}", old), "utf-8")
