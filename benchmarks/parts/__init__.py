"""The measurements, one module each: functions from options to the text that is printed and published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """The options of a call: `records` of one run, `rounds` of each contestant, `gigabytes` (10⁹ bytes) of input."""

    records: int
    rounds: int
    gigabytes: tuple[float, ...]
    objects: int
    partitions: int
    sizes: tuple[int, ...]
    with_dlt: bool
    say: Say


@dataclass(frozen=True)
class Measured:
    """The text of a part, and the versions of the contestants that it ran."""

    text: str
    versions: Mapping[str, Mapping[str, str]]
