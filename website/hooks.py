"""What the site makes of pages that are written to be read in the repository, too.

The project's own pages outside of `docs/` become pages of the site, blocks with a file name show it, and marks become
docstrings and files. Nothing here, and nothing in the built pages, may ask the network for anything.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # MkDocs loads this file by its path

from website import diagrams  # noqa: E402

BESIDE_DOCS = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("README.md")),
)

_NAMED_FENCE = re.compile(r"^(?P<fence> *```\w+) (?P<name>[\w./-]+)$", re.MULTILINE)
_DOCSTRING = re.compile(r"^<!-- docstring: (?P<name>[\w.]+) -->$", re.MULTILINE)
_FILE = re.compile(r"^<!-- file: (?P<name>[\w.]+) -->$", re.MULTILINE)
_PICTURE = re.compile(r"^<picture>.*?images/(?P<name>[\w-]+)-light\.svg.*?</picture>$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!\w+:)(?P<path>[^)#\s]+)")
_CELL = re.compile(r"<td\b.*?</td>", re.DOTALL)
_CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
_WORD_ENDS = re.compile(r"(?<=[\w}][./_])(?=[\w${])|(?<=\})(?=[{_])|(?<=[a-z])(?=[A-Z])")
_LONG = 24
_FOREIGN = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
    r"|<link\b[^>]*\bhref=[\"']?(?:https?:)?//"
    r"|\burl\([\"']?(?:https?:)?//|@import\s+[\"'](?:https?:)?//"
)


def on_startup(command: str, dirty: bool) -> None:
    if command == "build":
        sys.addaudithook(_refuse_the_network)


def _refuse_the_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise PluginError(f"Building the site asked the network: {event} {arguments[-1]}")


def on_files(files: Any, config: Any) -> Any:
    for name in BESIDE_DOCS:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    here = page.file.src_uri
    in_repository = here if here in BESIDE_DOCS else f"docs/{here}"
    folder = ROOT / posixpath.dirname(in_repository)
    markdown = _PICTURE.sub(lambda picture: diagrams.in_a_page(picture["name"]), markdown)
    markdown = _FILE.sub(lambda mark: _shown(folder / mark["name"]), markdown)
    markdown = _LINK.sub(lambda link: _on_the_site(link["path"], in_repository, here), markdown)
    markdown = _NAMED_FENCE.sub(r'\g<fence> title="\g<name>"', markdown)
    return _DOCSTRING.sub(lambda mark: _documented(mark["name"]), markdown)


def _documented(name: str) -> str:
    """The mark of mkdocstrings. Of an error, the base class is shown; how errors are made is the same for all."""
    options = "\n    options: {show_bases: true, merge_init_into_class: false}" if name.startswith("errors.") else ""
    return f"::: s3dest_dagster.{name}{options}"


def _shown(path: Path) -> str:
    return f'```python title="{path.name}"\n{path.read_text("utf-8")}```'


def _on_the_site(target: str, in_repository: str, here: str) -> str:
    """Where a link of the repository leads on the site, whose root is `docs/` and the repository's root in one."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), target)).removeprefix("docs/")
    return posixpath.relpath(path, posixpath.dirname(here))


def on_page_content(html: str, **_: Any) -> str:
    """Code in the cells of tables shows escaped pipes as GitHub does, and may wrap between words if it is long."""
    return _CELL.sub(lambda cell: _CODE.sub(lambda code: _in_a_cell(code[0]), cell[0]), html)


def _in_a_cell(code: str) -> str:
    code = code.replace("\\|", "|")
    return _WORD_ENDS.sub("<wbr>", code) if len(code) > _LONG else code


def on_post_build(config: Any) -> None:
    """Refuses a page or style that would load something of another host."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css") and (found := _FOREIGN.search(path.read_text("utf-8"))):
            raise PluginError(f"{path.relative_to(config.site_dir)} loads something of another host: {found[0]}")
