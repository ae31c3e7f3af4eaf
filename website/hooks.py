"""What the site makes of pages that are written to be read in the repository, too.

The project's own pages outside of `docs/` become pages of the site, as do the tests that prove its promises. Blocks
with a file name show it, pictures become drawings in the colours of the page, and marks become docstrings and files.
Nothing here, and nothing in the built pages, may ask the network for anything.

    S3DEST_REPOSITORY=https://github.com/you/s3dest make site     pages link to their source in this repository
    S3DEST_SITE=https://you.example/docs/ make site               llms.txt and the sitemap have whole addresses
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # MkDocs loads this file by its path

from website import diagrams, llms, proofs  # noqa: E402

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
_SCHEMAS = "s3dest_dagster/settings/schemas/"
_TEXTS: dict[str, str] = {}
"""The Markdown of the pages of this build."""
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


def on_config(config: Any) -> None:
    config.extra["described_version"] = _version()
    config.site_url = os.environ.get("S3DEST_SITE") or config.site_url
    if repository := os.environ.get("S3DEST_REPOSITORY", "").rstrip("/"):
        config.repo_url, config.repo_name = repository, posixpath.basename(repository)


def _version() -> str:
    """The version of the package, as its build would say: setuptools-scm reads it from the tag."""
    found = subprocess.run(
        [sys.executable, "-m", "setuptools_scm"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return found.stdout.split()[-1]


def on_files(files: Any, config: Any) -> Any:
    for name in BESIDE_DOCS:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for path in proofs.named(file.content_string for file in files.documentation_pages()):
        content = proofs.page(path, ROOT)
        files.append(
            File.generated(config, proofs.source_of(path), content=content, inclusion=InclusionLevel.NOT_IN_NAV)
        )
    for path in sorted((ROOT / _SCHEMAS).glob("*.json")):
        files.append(File.generated(config, f"schemas/{path.name}", abs_src_path=str(path)))
    _TEXTS.clear()
    return files


def on_nav(nav: Any, config: Any, **_: Any) -> None:
    config.extra["whole_navigation"] = nav


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    here = page.file.src_uri
    if here.startswith("tests/"):
        return markdown
    in_repository = here if here in BESIDE_DOCS else f"docs/{here}"
    if repository := config.repo_url:
        page.edit_url = f"{repository}/edit/main/{in_repository}"
    _TEXTS[here] = llms.plain(markdown)
    folder = ROOT / posixpath.dirname(in_repository)
    if here == "index.md":
        markdown = markdown.partition("<!-- begin -->")[2]  # the template says what stands before it
    markdown = _PICTURE.sub(lambda picture: diagrams.in_a_page(picture["name"]), markdown)
    markdown = _FILE.sub(lambda mark: _shown(folder / mark["name"]), markdown)
    markdown = _LINK.sub(lambda link: _on_the_site(link["path"], in_repository, here), markdown)
    markdown = proofs.with_links(markdown, "../" * here.count("/"))
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
    if path.startswith(_SCHEMAS):
        path = path.removeprefix("s3dest_dagster/settings/")
    if re.fullmatch(r"tests/[\w/]+\.py", path):
        path = proofs.source_of(path)
    return posixpath.relpath(path, posixpath.dirname(here))


def on_page_content(html: str, **_: Any) -> str:
    """Code in the cells of tables shows escaped pipes as GitHub does, and may wrap between words if it is long."""
    return _CELL.sub(lambda cell: _CODE.sub(lambda code: _in_a_cell(code[0]), cell[0]), html)


def _in_a_cell(code: str) -> str:
    code = code.replace("\\|", "|")
    return _WORD_ENDS.sub("<wbr>", code) if len(code) > _LONG else code


def on_post_build(config: Any) -> None:
    """Adds what is made of all pages, and refuses a page or style that would load something of another host."""
    site = Path(config.site_dir)
    address = (config.site_url or "").rstrip("/") + "/" if config.site_url else ""
    about = (config.site_name, config.site_description, address)
    llms.write(site, llms.written(*about, config.extra["whole_navigation"], _TEXTS))
    style = site / "assets" / "site.css"
    style.write_text(f"{style.read_text('utf-8')}\n{diagrams.style()}", "utf-8")
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css") and (found := _FOREIGN.search(path.read_text("utf-8"))):
            raise PluginError(f"{path.relative_to(config.site_dir)} loads something of another host: {found[0]}")
