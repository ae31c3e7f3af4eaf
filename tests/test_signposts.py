"""CONTRIBUTING's signposts are correct: each file that it names exists and defines the name next to it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from docs import pages

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "s3dest_dagster"


def table_rows() -> list[tuple[str, str]]:
    """The files and names of the table "To change something, open"."""
    section = pages.section("CONTRIBUTING.md", "To change something, open")
    return re.findall(r"\| `([\w/.]+)` \| `([\w.]+)` \|", section)


def named_functions() -> list[tuple[str, str]]:
    """The functions in the other two sections, with the files in the parentheses after them."""
    found, where = [], {}
    for title in ("How a record travels", "What happens on SIGTERM"):
        text = " ".join(pages.section("CONTRIBUTING.md", title).split())
        for name, file in re.findall(r"`([A-Za-z_.]+)` \((?:`[a-z]+`, )?`([a-z_/]+\.py)`\)", text):
            where[name.partition(".")[0]] = file
            found.append((file, name))
        found += re.findall(r"\(`(?P<name>[A-Za-z_.]+)`, `(?P<file>[a-z_/]+\.py)`\)", text) and [
            (file, name) for name, file in re.findall(r"\(`([A-Za-z_.]+)`, `([a-z_/]+\.py)`\)", text)
        ]
        # A name that follows its class's file later in the section.
        found += [
            (where[owner], f"{owner}.{member}")
            for owner, member in re.findall(r"`([A-Z]\w+)\.(\w+)`", text)
            if owner in where
        ]
    return sorted(set(found))


@cache
def defined(path: Path) -> frozenset[str]:
    """The names that a module defines at its top level, and `Class.member` for those of its classes."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        names |= set(_names(node))
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{member}" for each in node.body for member in _names(each)}
    return frozenset(names)


def _names(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


@pytest.mark.parametrize(("file", "name"), table_rows())
def test_the_files_and_names_of_the_table_exist(file, name):
    assert name in defined(ROOT / file)


def test_the_table_has_a_row_for_every_room():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == {file.split("/")[1] for file, _ in table_rows()}


@pytest.mark.parametrize(("file", "name"), named_functions())
def test_the_functions_that_handle_a_record_and_a_signal_exist(file, name):
    assert name in defined(PACKAGE / file)


def test_both_sections_are_read():
    assert len(named_functions()) > 20
