"""What one run of the command carries to its verb. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from s3dest_dagster.cli.interruption import Interruption
from s3dest_dagster.cli.output import Output


@dataclass(frozen=True, slots=True)
class Session:
    """What every verb gets beside its options."""

    output: Output
    interruption: Interruption
