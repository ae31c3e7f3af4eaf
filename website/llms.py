"""The documentation for language models: `llms.txt` lists the pages, `llms-full.txt` holds all of their text, and each
page is also there as Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_NOT_PROSE = ("#", "|", "<", "!", "-", "    ", ":::")
_LONGEST = 160


def written(name: str, about: str, address: str, nav: Any, texts: dict[str, str]) -> dict[str, str]:
    """The files to write, by their paths in the site: both lists, and the Markdown of each page.

    Args:
        name: The name of the project.
        about: One sentence about it.
        address: Where the site is, ending in a slash, or "" for links relative to `llms.txt`.
        nav: The navigation.
        texts: The Markdown of each page, by its path among the sources.
    """
    listed, whole = [f"# {name}\n\n> {about}\n"], [f"# {name}\n\n> {about}\n"]
    for title, pages in _sections(nav):
        listed.append(f"\n## {title}\n")
        for page in pages:
            text = texts[page.file.src_uri]
            listed.append(f"- [{page.title}]({address}{page.file.src_uri}): {_first_sentence(text)}")
            whole.append(f"\n<!-- {page.file.src_uri} -->\n\n{text.strip()}\n")
    return {"llms.txt": "\n".join(listed) + "\n", "llms-full.txt": "\n".join(whole), **texts}


def plain(markdown: str) -> str:
    """The Markdown of a page without what is meant for the site's templates."""
    return _FRONT_MATTER.sub("", markdown)


def _sections(nav: Any) -> Iterator[tuple[str, list[Any]]]:
    """The sections of the navigation with all pages below them. Pages at its top come first."""
    top = [item for item in nav.items if item.is_page]
    if top:
        yield "Overview", top
    for item in nav.items:
        if item.is_section:
            yield item.title, list(_pages(item))


def _pages(section: Any) -> Iterator[Any]:
    for item in section.children:
        if item.is_page:
            yield item
        elif item.is_section:
            yield from _pages(item)


def _first_sentence(text: str) -> str:
    """What the page is about: the first sentence of the first paragraph that has a whole one."""
    paragraphs = [each for each in _FENCED.sub("", text).split("\n\n") if not each.lstrip("\n").startswith(_NOT_PROSE)]
    joined = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(each.split())) for each in paragraphs)
    sentence = re.split(r"(?<=\.)\s", next((each for each in joined if "." in each), ""))[0]
    return sentence if len(sentence) <= _LONGEST else sentence[:_LONGEST].rsplit(" ", 1)[0] + "…"


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
