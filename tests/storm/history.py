"""The record of a storm: each act with its times and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field

from storm.acts import Act, Outcome, Verb


@dataclass
class Attempt:
    """An act as the storm saw it, in seconds of one clock. From `ended` on, it certainly did nothing more."""

    act: Act
    began: float
    ended: float = float("inf")
    outcome: Outcome = Outcome.KILLED
    word: str = ""


@dataclass
class History:
    """All attempts, and the signals sent to them."""

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
    """The numbers of the syncs that may have landed, because nobody was told that they did not."""
    return {each.act.number for each in attempts if each.outcome is not Outcome.SUPERSEDED}


def acknowledged(attempts: list[Attempt]) -> set[int]:
    """The numbers of the syncs that were reported as landed."""
    return {each.act.number for each in attempts if each.outcome in (Outcome.DONE, Outcome.REPEATED)}


def was_outlived(number: int, attempts: list[Attempt]) -> bool:
    """Whether another attempt began after the last attempt at this sync had ended, and landed. It certainly came
    later."""
    ended = max(each.ended for each in attempts if each.act.number == number)
    return any(each.began > ended and each.outcome is Outcome.DONE for each in attempts if each.act.number != number)
