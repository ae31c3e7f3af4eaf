"""The documentation in the repository: its pages, with their blocks, tables and links.

Code generates two kinds of text and compares them with the pages: the parts between `<!-- made: name -->` and
`<!-- /made -->`, and the answers in `console` blocks. `renew.py` rewrites both.
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
"""Pages of the site that are outside `docs/`."""
PAGES = ("README.md", *BESIDE_DOCS, *(page for page in _below("docs", "**/*.md") if page not in DESIGN))

_FENCE = re.compile(r"^```(?P<language>\w*)(?: (?P<name>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE = re.compile(r"(?P<open><!-- made: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(?P<close><!-- /made -->)", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_PICTURE = re.compile(r'(?:<source [^>]*srcset="(?P<dark>[^"]+)">\s*)?<img src="(?P<light>[^"]+)" alt="(?P<alt>[^"]*)"')
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file name after it ("" for none), its text, and the line where it begins."""

    language: str
    name: str
    text: str
    line: int


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str, *languages: str) -> list[Block]:
    """The page's blocks in these languages (in all, if none is named), in order."""
    text = read(page)
    found = (
        Block(m["language"], m["name"] or "", m["text"], text.count("\n", 0, m.start()) + 1)
        for m in _FENCE.finditer(text)
    )
    return [each for each in found if not languages or each.language in languages]


def made(page: str) -> dict[str, str]:
    """The generated parts of the page, by name."""
    return {m["name"]: m["text"] for m in _MADE.finditer(read(page))}


def with_made(text: str, make: Callable[[str], str]) -> str:
    """The page's text with every generated part made again."""
    return _MADE.sub(lambda m: m["open"] + make(m["name"]) + m["close"], text)


def links(page: str) -> Iterator[str]:
    """Targets of the page's links, outside code."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", read(page)))
    return (m["target"] for m in _LINK.finditer(text))


def linked_pages(page: str) -> set[str]:
    """Pages of the repository that the page links to."""
    targets = (target.partition("#")[0] for target in links(page) if "://" not in target)
    found = ((ROOT / page).parent / path for path in targets if path.endswith(".md"))
    return {each.resolve().relative_to(ROOT).as_posix() for each in found}


def images(page: str) -> dict[str, str]:
    """The page's images by their targets, with their alternative texts; that of a picture is for both of its files."""
    text = read(page)
    found = {m["target"]: m["alt"] for m in _IMAGE.finditer(text)}
    for m in _PICTURE.finditer(text):
        found |= {target: m["alt"] for target in (m["light"], m["dark"]) if target}
    return found


def anchors(page: str) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    titles = (title for _, title in _HEADING.findall(_FENCE.sub("", read(page))))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def prose(page: str) -> str:
    """The page without its blocks and generated parts."""
    return _FENCE.sub("", _MADE.sub("", read(page)))


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next heading of the same or a higher level."""
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
    """The text of a table cell without the code marks."""
    return cell.strip("`").replace("\\|", "|")


def written_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
