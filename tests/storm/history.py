"""What a storm has seen: each act with its moments and its end."""

from __future__ import annotations

from dataclasses import dataclass, field

from storm.acts import Act, Outcome, Verb


@dataclass
class Attempt:
    """An act as the storm saw it, in seconds of one clock; `ended` is when it surely did nothing any more."""

    act: Act
    began: float
    ended: float = float("inf")
    outcome: Outcome = Outcome.KILLED
    word: str = ""


@dataclass
class History:
    """All attempts, and what was done to them."""

    attempts: list[Attempt] = field(default_factory=list)
    kills: int = 0
    pauses: int = 0

    def of(self, kind: str, day: str | None, *verbs: Verb) -> list[Attempt]:
        """The attempts at one scope, by these verbs."""
        return [
            each for each in self.attempts if (each.act.kind, each.act.day) == (kind, day) and each.act.verb in verbs
        ]

    def count(self, outcome: Outcome, verb: Verb | None = None) -> int:
        return sum(each.outcome is outcome and verb in (None, each.act.verb) for each in self.attempts)


def may_have_landed(attempts: list[Attempt]) -> set[int]:
    """The numbers of those of which nobody was told that nothing landed."""
    return {each.act.number for each in attempts if each.outcome is not Outcome.SUPERSEDED}


def acknowledged(attempts: list[Attempt]) -> set[int]:
    """The numbers of those that were told to be landed."""
    return {each.act.number for each in attempts if each.outcome in (Outcome.DONE, Outcome.REPEATED)}


def was_outlived(number: int, attempts: list[Attempt]) -> bool:
    """Whether another one began after the last attempt at this had ended, and landed: it came after it for sure."""
    ended = max(each.ended for each in attempts if each.act.number == number)
    return any(each.began > ended and each.outcome is Outcome.DONE for each in attempts if each.act.number != number)
