"""The drawings of the documentation, from one source each: as files in the colours of light and of dark pages, and as
part of a page of the site, whose style then gives the colours.

A source is an SVG whose shapes have classes and no colours. Nothing but the standard library is needed here.
"""

from __future__ import annotations

import re
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
IMAGES = SOURCES.parents[1] / "docs" / "images"
NAMES = tuple(sorted(path.stem for path in SOURCES.glob("*.svg")))

_LIGHT = {
    "ink": "#10272c",
    "soft": "#46616a",
    "panel": "#f3f8f8",
    "line": "#bfd2d4",
    "old": "#8aa1a8",
    "new": "#0b7a75",
    "decision": "#a84e0a",
    "on": "#ffffff",
}
_DARK = {
    "ink": "#e4efef",
    "soft": "#a6bcc1",
    "panel": "#14262b",
    "line": "#35525a",
    "old": "#7f989f",
    "new": "#2dc5b6",
    "decision": "#f5b041",
    "on": "#10272c",
}
PALETTES = {"light": _LIGHT, "dark": _DARK}
"""The colours of drawings on a light and on a dark page, by their role."""

_STYLE = """
text{font:15px system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;fill:var(--ink)}
.head{font-size:20px;font-weight:700}.strong{font-weight:700}.soft{fill:var(--soft)}
.note,.note text{font-size:14px;fill:var(--soft)}.note .strong{fill:var(--ink)}
.mid,.mid text,.number{text-anchor:middle}.end{text-anchor:end}
.number,.on{fill:var(--on);font-weight:700}
.panel rect{fill:var(--panel);stroke:var(--line)}.picked rect{fill:var(--panel);stroke:var(--new);stroke-width:2.5}
.step{fill:var(--new)}.old path,.rule{fill:none;stroke:var(--old);stroke-width:2}
.staged path{fill:none;stroke:var(--new);stroke-width:2;stroke-dasharray:5 4}
.new path{fill:var(--new);stroke:var(--new);stroke-width:2}
.gone path{fill:none;stroke:var(--old);stroke-width:1.5;stroke-dasharray:2 4}
.decision rect,.decision path,.diamond{fill:var(--decision)}
.arrow path,.chosen{fill:none;stroke:var(--soft);stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
.chosen{stroke:var(--decision);stroke-width:2.5}
.time path{stroke-width:3;stroke-linecap:round;stroke-linejoin:round}
.time .before{fill:none;stroke:var(--old)}.time .after{fill:none;stroke:var(--new)}
""".strip()


def source(name: str) -> str:
    return (SOURCES / f"{name}.svg").read_text("utf-8").strip()


def standing_alone(name: str, scheme: str) -> str:
    """The drawing as a file, in the colours of a scheme."""
    style = re.sub(r"var\(--(\w+)\)", lambda role: PALETTES[scheme][role[1]], _STYLE)
    return source(name).replace("<title ", f"<style>{style}</style>\n<title ", 1) + "\n"


def in_a_page(name: str) -> str:
    """The drawing as a part of a page. Its classes and colours are those of `style`."""
    drawing = re.sub(r"\n+", "\n", source(name))
    return f'<figure class="drawing">{drawing}</figure>'


def style() -> str:
    """The style of all drawings in pages: the colours follow the page's scheme."""
    colours = {
        scheme: "".join(f"--{role}:{colour};" for role, colour in PALETTES[scheme].items()) for scheme in PALETTES
    }
    selectors = {"light": ":root", "dark": '[data-md-color-scheme="slate"]'}
    rules = "".join(f"{selectors[scheme]} .drawing{{{colours[scheme]}}}\n" for scheme in PALETTES)
    return rules + re.sub(r"(^|[},\n])(\.|text)", r"\1.drawing \2", _STYLE) + "\n"


def files() -> dict[Path, str]:
    """Every file that is made of the sources, with its content."""
    return {IMAGES / f"{name}-{scheme}.svg": standing_alone(name, scheme) for name in NAMES for scheme in PALETTES}
