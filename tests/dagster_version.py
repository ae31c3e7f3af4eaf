"""What Dagster before 1.13, which the library still supports, does in another way."""

from __future__ import annotations

import dagster as dg
import pytest

_IS_OLD = tuple(map(int, dg.__version__.split(".")[:2])) < (1, 13)


def since_1_13(reason: str) -> pytest.MarkDecorator:
    """Skips a test under an older Dagster, for this reason."""
    return pytest.mark.skipif(_IS_OLD, reason=f"Dagster before 1.13: {reason}")
