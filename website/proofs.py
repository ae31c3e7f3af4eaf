"""The tests that the documentation names, as pages of the site: whoever reads a promise can read its proof.

A page of the repository names a test as `tests/commit/test_crashes.py` or `tests/commit/test_crashes.py::test_name`, in
code marks, or links to the file. On the site, both lead to a page with the file's code, where each test has a heading.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

_NAMED = re.compile(r"(?<!\[)`(?P<path>tests/[\w/]+\.py)(?:::(?P<test>\w+))?`(?!\])")
_LINKED = re.compile(r"\]\((?:\.\./)*(?P<path>tests/[\w/]+\.py)\)")
_FENCES = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def named(texts: Iterable[str]) -> list[str]:
    """The files of tests that these pages name or link to."""
    return sorted({found["path"] for text in texts for mark in (_NAMED, _LINKED) for found in mark.finditer(text)})


def source_of(path: str) -> str:
    """The page of a file of tests, among the sources of the site."""
    return path.removesuffix(".py") + ".md"


def with_links(markdown: str, to_root: str) -> str:
    """The page with every named test as a link. `to_root` leads from the page to the site's root: "../", or nothing."""

    def link(found: re.Match[str]) -> str:
        anchor = f"#{found['test']}" if found["test"] else ""
        return f"[{found[0]}]({to_root}{source_of(found['path'])}{anchor})"

    parts = _FENCES.split(markdown)
    parts[::2] = [_NAMED.sub(link, prose) for prose in parts[::2]]
    return "".join(parts)


def page(path: str, root: Path) -> str:
    """The page of a file of tests: what it shows, then its code, with a heading for each test."""
    text = (root / path).read_text("utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    parts = [f"---\ntitle: {path}\nsearch:\n  exclude: true\n---\n\n# {path}\n\n{ast.get_docstring(tree) or ''}\n"]
    begin = _first_statement(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
            parts.append(_code(lines[begin:first]))
            title = node.name.removeprefix("test_").replace("_", " ").capitalize()
            parts.append(f"## {title} {{ #{node.name} }}\n")
            parts.append(_code(lines[first : node.end_lineno]))
            begin = node.end_lineno or first
    parts.append(_code(lines[begin:]))
    return "\n".join(part for part in parts if part)


def _first_statement(tree: ast.Module) -> int:
    """The number of lines before the code: those of the docstring."""
    return tree.body[0].end_lineno or 0 if ast.get_docstring(tree) else 0


def _code(lines: list[str]) -> str:
    text = "\n".join(lines).strip("\n")
    return f"````python\n{text}\n````\n" if text.strip() else ""
