"""The measurements, one module each: a name, and a function from options to what is printed and published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a call asks for: `records` of one run, `rounds` of each contestant, `gigabytes` (10⁹ bytes) of input."""

    records: int
    rounds: int
    gigabytes: tuple[float, ...]
    objects: int
    partitions: int
    with_dlt: bool
    say: Say


@dataclass(frozen=True)
class Measured:
    """What a part printed, and the versions of the sides that it ran."""

    text: str
    versions: Mapping[str, Mapping[str, str]]
