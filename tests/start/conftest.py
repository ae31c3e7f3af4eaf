"""First steps of a newcomer, typed into a shell, opt-in: `make test-start`. Each command of Dagster takes seconds."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "start: types pages into a shell; runs only with -m start")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "start" in config.option.markexpr:
        return
    chosen = [item for item in items if item.get_closest_marker("start") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
