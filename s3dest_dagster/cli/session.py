"""What one run of the command carries to its verb. Plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.signals import Interruption


@dataclass(frozen=True, slots=True)
class Session:
    """What every verb gets beside its options. `limits` are those of reading standard input, by name."""

    output: Output
    interruption: Interruption
    limits: dict[str, Any] = field(default_factory=dict)
