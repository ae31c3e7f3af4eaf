"""The documentation as it lies in the repository: its pages, their blocks, tables and links.

Two kinds of text in it are made by code and compared with it: what stands between `<!-- made: name -->` and
`<!-- /made -->`, and the answers in `console` blocks. `renew.py` writes both anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _below(folder: str, pattern: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob(pattern))


DESIGN = tuple(_below("docs/design", "*.md"))
BESIDE_DOCS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", *_below("examples", "**/README.md"))
"""Pages of the site that lie beside `docs/`."""
PAGES = ("README.md", *BESIDE_DOCS, *(page for page in _below("docs", "**/*.md") if page not in DESIGN))

_FENCE = re.compile(r"^```(?P<language>\w*)(?: (?P<name>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE = re.compile(r"(?P<open><!-- made: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(?P<close><!-- /made -->)", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file name behind it ("" for none), its text, and the line it begins in."""

    language: str
    name: str
    text: str
    line: int


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str, *languages: str) -> list[Block]:
    """The page's blocks of these languages (of all, when none is named), in order."""
    text = read(page)
    found = (
        Block(m["language"], m["name"] or "", m["text"], text.count("\n", 0, m.start()) + 1)
        for m in _FENCE.finditer(text)
    )
    return [each for each in found if not languages or each.language in languages]


def made(page: str) -> dict[str, str]:
    """What the page says to be made by code, by name."""
    return {m["name"]: m["text"] for m in _MADE.finditer(read(page))}


def with_made(text: str, make: Callable[[str], str]) -> str:
    """The page's text with every made part made anew."""
    return _MADE.sub(lambda m: m["open"] + make(m["name"]) + m["close"], text)


def links(page: str) -> Iterator[str]:
    """Targets of the page's links, outside of code."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", read(page)))
    return (m["target"] for m in _LINK.finditer(text))


def linked_pages(page: str) -> set[str]:
    """Pages of the repository to which the page's links lead."""
    targets = (target.partition("#")[0] for target in links(page) if "://" not in target)
    found = ((ROOT / page).parent / path for path in targets if path.endswith(".md"))
    return {each.resolve().relative_to(ROOT).as_posix() for each in found}


def images(page: str) -> dict[str, str]:
    """The page's images, by their targets, with the text that stands for each where it is not seen."""
    return {m["target"]: m["alt"] for m in _IMAGE.finditer(read(page))}


def anchors(page: str) -> set[str]:
    """The names under which the page's headings can be linked, as GitHub makes them."""
    titles = (title for _, title in _HEADING.findall(_FENCE.sub("", read(page))))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def prose(page: str) -> str:
    """The page without its blocks and made parts."""
    return _FENCE.sub("", _MADE.sub("", read(page)))


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next heading that is not below it."""
    text = read(page)
    marks = [(m.start(), m.end(), len(m[1]), m[2]) for m in _HEADING.finditer(text)]
    index = next(number for number, mark in enumerate(marks) if mark[3] == title)
    end = next((m[0] for m in marks[index + 1 :] if m[2] <= marks[index][2]), len(text))
    return text[marks[index][1] : end]


def table(text: str) -> list[dict[str, str]]:
    """The rows of all tables in a text, by the names of their columns."""
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not header:
            header = cells
        elif not set("".join(cells)) <= set("-: "):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def code(cell: str) -> str:
    """The text of a table's cell without the marks of code."""
    return cell.strip("`").replace("\\|", "|")


def written_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
