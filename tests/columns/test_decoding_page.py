"""The design page on decoding uses only names that exist in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/design/decoding.md").read_text(encoding="utf-8")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "s3dest_dagster").rglob("*.py"))
MODULES = {path.stem for path in (ROOT / "s3dest_dagster").rglob("*.py")}
NAMES = {
    name
    for name in re.findall(r"[A-Za-z_]\w*(?:\.\w+)+|\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b|\b[a-z]+_[a-z_]+\b", PAGE)
    if "/" not in name and not name.endswith(".md")
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_on_the_page_exists_in_the_code(name: str) -> None:
    for part in name.removesuffix(".py").split("."):
        assert part in MODULES or re.search(rf"(?:def|class) {part}\b|^ +(?:self\.)?{part}(?::| =)", CODE, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_]+/[\w/.]+)`", PAGE))))
def test_every_path_on_the_page_exists(path: str) -> None:
    assert (ROOT / "s3dest_dagster" / path).exists()
