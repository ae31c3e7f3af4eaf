"""The documentation's site in a browser: nothing is wider than a phone, every text can be read on light and dark pages,
and the search, the version and the links to edit are there."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from web_interface import ROOT

pytestmark = [pytest.mark.ui, pytest.mark.timeout(600)]

REPOSITORY = "https://git.example.com/team/lake"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1440, "height": 900}
SCHEMES = ["default", "slate"]

TOO_WIDE = """
() => {
    const inside = (element) => {
        for (let above = element.parentElement; above; above = above.parentElement)
            if (['auto', 'scroll'].includes(getComputedStyle(above).overflowX)) return true;
        return false;
    };
    const reaches = (element) => element.getBoundingClientRect().right > innerWidth + 1;
    const wide = [...document.querySelectorAll('main *, header *, footer *')].filter((each) =>
        each.checkVisibility({opacityProperty: true}) && reaches(each) && !inside(each));
    const page = document.scrollingElement.scrollWidth > innerWidth ? ['the page'] : [];
    return [...page, ...wide.map((each) => `${each.tagName} ${each.textContent.trim().slice(0, 40)}`)];
}
"""
"""What reaches beyond the right edge. Code, tables and drawings may scroll in their own boxes."""

HARD_TO_READ = """
(scheme) => {
    document.body.setAttribute('data-md-color-scheme', scheme);
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const known = new Map();
    const channels = (colour) => {
        if (!known.has(colour)) {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
            known.set(colour, [red, green, blue, alpha / 255]);
        }
        return known.get(colour);
    };
    const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
    const luminance = (colour) => {
        const [red, green, blue] = colour.slice(0, 3).map((each) => each / 255)
            .map((each) => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const shapesBelow = (text) => {
        const box = text.getBoundingClientRect();
        const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
        return [...text.ownerSVGElement.querySelectorAll('rect, circle, path')].filter((shape) => {
            const area = shape.getBoundingClientRect();
            const covers = area.left <= x && x <= area.right && area.top <= y && y <= area.bottom;
            const before = shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
            return covers && before && getComputedStyle(shape).fill !== 'none';
        }).map((shape) => getComputedStyle(shape).fill);
    };
    const background = (element) => {
        const layers = element.ownerSVGElement ? shapesBelow(element).reverse() : [];
        for (let each = element; each; each = each.parentElement)
            layers.push(getComputedStyle(each).backgroundColor);
        return layers.reverse().reduce((below, layer) => over(channels(layer), below), [255, 255, 255]);
    };
    const found = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest('script, style, title, desc')) continue;
        if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
        const style = getComputedStyle(element);
        const behind = background(element);
        const text = over(channels(element.ownerSVGElement ? style.fill : style.color), behind);
        const [light, dark] = [luminance(text), luminance(behind)].sort((left, right) => right - left);
        const size = parseFloat(style.fontSize);
        const enough = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
        const ratio = (light + 0.05) / (dark + 0.05);
        if (ratio < enough) found.add(`${ratio.toFixed(2)} ${element.tagName}.${element.getAttribute('class')} ` +
            `${style.color} on ${behind.map(Math.round)}: ${walker.currentNode.data.trim().slice(0, 30)}`);
    }
    return [...found];
}
"""
"""Texts whose contrast is below that of WCAG 2, level AA. SVG text is compared with the shape on which it stands."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` does, with a repository to link to."""
    folder = tmp_path_factory.mktemp("site")
    mkdocs = ROOT / ".site-env" / "bin"
    environment = {**os.environ, "PATH": f"{mkdocs}:{os.environ['PATH']}", "S3DEST_REPOSITORY": REPOSITORY}
    command = [str(mkdocs / "mkdocs"), "build", "--strict", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**environment, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield "http://{}:{}".format(*server.server_address[:2])
        server.shutdown()


@pytest.fixture(scope="module")
def seen(site: Path, address: str, browser: Any) -> dict[str, dict[str, list[str]]]:
    """What is wrong with each page, in each colour scheme and on a phone. Of the pages of tests, a few are seen."""
    names = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    proofs = [name for name in names if name.startswith("tests/")]
    page = browser.new_page(reduced_motion="reduce")
    page.route("**/*.js", lambda route: route.abort())
    found = {}
    for name in sorted({*names} - {*proofs[3:]}):
        page.set_viewport_size(DESKTOP)
        page.goto(f"{address}/{name}", wait_until="load")
        faint = {scheme: page.evaluate(HARD_TO_READ, scheme) for scheme in SCHEMES}
        page.set_viewport_size(PHONE)
        found[name] = {**faint, "phone": page.evaluate(TOO_WIDE)}
    page.close()
    assert len(found) > 50
    return found


def test_no_page_is_wider_than_a_phone(seen: dict[str, dict[str, list[str]]]):
    assert {name: each["phone"] for name, each in seen.items() if each["phone"]} == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_can_be_read(scheme: str, seen: dict[str, dict[str, list[str]]]):
    assert {name: each[scheme] for name, each in seen.items() if each[scheme]} == {}


def test_what_is_too_wide_or_too_faint_would_be_found(address: str, browser: Any):
    page = browser.new_page(viewport=PHONE)
    page.route("**/*.js", lambda route: route.abort())
    page.goto(f"{address}/concepts.html")
    page.add_style_tag(content="h1 { width: 500px } h2 { color: #999 } .drawing .soft { fill: #777 }")
    assert any(each.startswith("H1 ") for each in page.evaluate(TOO_WIDE))
    faint = [each.split()[1].partition(".")[0] for each in page.evaluate(HARD_TO_READ, "default")]
    assert {"H2", "text"} <= {*faint}
    page.close()


def test_a_reader_searches_and_turns_the_lights_off(address: str, browser: Any):
    page = browser.new_page(viewport=DESKTOP)
    page.goto(f"{address}/index.html")
    said = subprocess.run(
        [sys.executable, "-m", "setuptools_scm"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert page.locator(".site-version").inner_text() == said.stdout.strip()
    # Key by key, as a reader does: the page searches when a key is released, not when the text changes.
    page.get_by_role("textbox", name="Search").press_sequentially("quarantine")
    page.locator(".md-search-result__link").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_title("Dark").click()
    page.locator("body[data-md-color-scheme=slate]").wait_for()
    page.goto(f"{address}/concepts.html")
    page.locator("body[data-md-color-scheme=slate]").wait_for()
    page.close()


def test_pages_link_to_their_source_to_the_proofs_and_to_themselves_as_markdown(site: Path, address: str, browser: Any):
    page = browser.new_page(viewport=DESKTOP)
    for name, source in {"concepts": "docs/concepts.md", "CHANGELOG": "CHANGELOG.md"}.items():
        page.goto(f"{address}/{name}.html")
        assert page.locator("a[rel=edit]").get_attribute("href") == f"{REPOSITORY}/edit/main/{source}"
        assert (site / name).with_suffix(".md").is_file()
    page.goto(f"{address}/index.html")
    page.get_by_role("link", name="test_a_flipped_bit_is_detected_in_every_format").first.click()
    page.get_by_role("heading", name="A flipped bit is detected in every format").wait_for()
    page.close()


def test_language_models_find_every_page(site: Path):
    listed, whole = ((site / name).read_text("utf-8") for name in ("llms.txt", "llms-full.txt"))
    sources = [path for path in site.rglob("*.md") if "tests" not in path.parts]
    assert len(sources) > 50
    for path in sources:
        name = path.relative_to(site).as_posix()
        assert f"({name}): " in listed
        assert f"<!-- {name} -->" in whole
