"""How a measurement is shown: Markdown tables, the machine, and its section in docs/.

It must not know how anything is measured.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.messages import ROOT

PAGE = ROOT / "docs" / "performance.md"
_OTHER_PAGES = {"large-lake": ROOT / "docs" / "scale.md"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def micros(value: float) -> str:
    """Microseconds, with a sensible number of digits."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def times(ratio: float) -> str:
    """A ratio as "3.4×"."""
    return f"{ratio:.0f}×" if ratio >= 20 else f"{ratio:.1f}×" if ratio >= 3 else f"{ratio:.2f}×"


def at_least(ratio: float, target: float | None) -> str:
    """A ratio and the target that it should reach."""
    return times(ratio) if target is None else f"{times(ratio)} (target ≥ {target:g}×)"


def at_most(ratio: float, target: float | None) -> str:
    """A ratio and the target that it should not exceed."""
    return times(ratio) if target is None else f"{times(ratio)} (target ≤ {target:g}×)"


def megabytes(value: float) -> str:
    return f"{value:.0f} MB"


def setting(command: str, versions: Mapping[str, Mapping[str, str]], load: float) -> str:
    """When, where and with what something was measured, and how to repeat it. `load` is the load average before it."""
    now = datetime.now(UTC)
    lines = [
        f"Measured on {now:%Y-%m-%d at %H:%M} UTC on {_cpu()}, {os.cpu_count()} CPUs, {_memory()}, "
        f"{platform.system()} {platform.release()}; load average before {load:.1f}.",
        *(
            f"{side}: {', '.join(f'{name} {each}' for name, each in found.items())}."
            for side, found in versions.items()
        ),
        f"To repeat it: `{command}`.",
    ]
    return "\n".join(lines) + "\n"


def load_average() -> float:
    """The load average of the last minute; 0 if the system does not report it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.machine()


def _memory() -> str:
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{pages * page_bytes / (1 << 30):.0f} GB"


def page_of(name: str) -> Path:
    """The page that has the section of a measurement."""
    return _OTHER_PAGES.get(name, PAGE)


def publish(name: str, text: str, page: Path = PAGE) -> None:
    """Writes a measurement into its section of the page. Raises KeyError if the page has no such section."""
    old = page.read_text("utf-8")
    section = re.compile(
        rf"(?P<open><!-- measured: {re.escape(name)} -->\n).*?(?P<close><!-- /measured -->)", re.DOTALL
    )
    new, replaced = section.subn(lambda m: f"{m['open']}\n{text}\n{m['close']}", old)
    if not replaced:
        raise KeyError(f"{page.name} has no section for the measurement {name!r}")
    page.write_text(new, "utf-8")
