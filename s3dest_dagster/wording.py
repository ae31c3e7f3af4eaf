"""Numbers as people read them: the one place that chooses a plural or a unit for messages, logs and tables."""

from __future__ import annotations


def amount(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun: "1 row", "2,000 rows"; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or f'{noun}s'}"


def size(number: float) -> str:
    """Bytes in the unit that people read: "812 bytes", "3.4 MB" (10⁶)."""
    if number < 1000:
        return amount(int(number), "byte")
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 1000:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:,.1f} TB"
