"""Many concurrent processes, some of which are killed or paused at random moments."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from process_pool import PROCESSES
from servers import S3Server
from storm.acts import Act, Outcome, Verb, carry_out_alone
from storm.history import Attempt, History
from storm.kinds import BY_NAME, KINDS

KILLED, PAUSED = 0.2, 0.2
"""The shares of the processes."""
LONGEST_PAUSE_S = 8.0
REPEATED = 0.15
"""The share of syncs that are retried under an earlier id."""
STUCK_S = 300
_BESIDE = (Verb.RECOVER, Verb.SWEEP, Verb.VERIFY, Verb.SET_STATE)
_OTHER_VERBS = 0.3
"""The share of processes that do not land anything."""


def drawn_acts(server: S3Server, bucket: str, processes: int, chance: random.Random, *, sweeps: bool) -> list[Act]:
    """The acts of a storm: first a sync of each stream, then all kinds in random order."""
    acts: list[Act] = []

    def add(verb: Verb, kind: str, day: str | None, number: int) -> None:
        acts.append(Act(server.connection, bucket, sweeps, verb, kind, day, number))

    for number, kind in enumerate(KINDS, 1):
        add(Verb.WRITE, kind.name, kind.days[0], number)
    while len(acts) < processes:
        kind, number = chance.choice(KINDS), len(acts) + 1
        day = chance.choice(kind.days)
        if chance.random() >= _OTHER_VERBS:
            earlier = [each.number for each in acts if (each.verb, each.kind, each.day) == (Verb.WRITE, kind.name, day)]
            again = earlier and not kind.checkpoints and chance.random() < REPEATED
            add(Verb.WRITE, kind.name, day, chance.choice(earlier) if again else number)
        elif (verb := chance.choice(_BESIDE)) is Verb.SET_STATE:
            add(verb, "append", None, number)
        else:
            add(verb, kind.name, day, number)
    return acts[:processes]


class Process:
    """A process of the storm, and the signals that it receives: `(seconds after its start, signal)`."""

    def __init__(self, act: Act, plan: Sequence[tuple[float, int]]) -> None:
        self.heard, said = PROCESSES.Pipe(duplex=False)
        self.attempt = Attempt(act, time.monotonic())
        self._process = PROCESSES.Process(target=carry_out_alone, args=(act, said))
        self._process.start()
        said.close()
        self._plan = list(plan)
        self._ready: float | None = None
        self.worked_s = 0.0

    def due(self) -> float | None:
        """The moment of the next signal."""
        return self._ready + self._plan[0][0] if self._ready is not None and self._plan else None

    def signal(self) -> int:
        """Sends the signal that is due."""
        _, number = self._plan.pop(0)
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, number)
        return number

    def read_output(self) -> bool:
        """Reads its output. Returns False when it has ended."""
        try:
            word = self.heard.recv()
        except EOFError:
            self._process.join()
            self.attempt.ended = time.monotonic()
            self.worked_s = self.attempt.ended - (self._ready or self.attempt.began)
            if self.attempt.outcome is Outcome.KILLED and self._process.exitcode != -signal.SIGKILL:
                self.attempt.outcome, self.attempt.word = Outcome.FAULT, f"ended with {self._process.exitcode}"
            return False
        if word == "ready":
            self._ready = time.monotonic()
        else:
            self.attempt.outcome, self.attempt.word = word
        return True

    def end(self) -> None:
        """Ends it, whatever it is doing."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()


class Storm:
    """Runs the acts, at most `at_once` concurrently. If only one `writer_per_scope` is promised, then acts that
    change the same scope wait for each other."""

    def __init__(self, acts: list[Act], chance: random.Random, *, at_once: int, writer_per_scope: bool) -> None:
        self._waiting = list(acts)
        self._chance = chance
        self._at_once = at_once
        self._writer_per_scope = writer_per_scope
        self._running: dict[Connection, Process] = {}
        self._usual_s = 1.0
        self.history = History()

    def run(self) -> History:
        """Returns when all processes have ended."""
        try:
            while self._waiting or self._running:
                self._start()
                self._listen()
                self._disturb()
        finally:
            for process in self._running.values():
                process.end()
        return self.history

    def _start(self) -> None:
        first = len(self.history.attempts) < len(KINDS)
        while len(self._running) < self._at_once:
            free = next((each for each in self._waiting[:50] if not self._must_wait(each)), None)
            if free is None:
                return
            self._waiting.remove(free)
            process = Process(free, [] if first else self._drawn_plan())
            self._running[process.heard] = process
            self.history.attempts.append(process.attempt)

    def _must_wait(self, act: Act) -> bool:
        if not self._writer_per_scope or act.verb is Verb.VERIFY:
            return False
        others = (each.attempt.act for each in self._running.values())
        return any(each.verb is not Verb.VERIFY and _conflict(each, act) for each in others)

    def _drawn_plan(self) -> list[tuple[float, int]]:
        fate, moment = self._chance.random(), self._chance.random() * self._usual_s
        if fate < KILLED:
            return [(moment, signal.SIGKILL)]
        if fate < KILLED + PAUSED:
            length = self._chance.random() ** 2 * LONGEST_PAUSE_S
            return [(moment, signal.SIGSTOP), (moment + length, signal.SIGCONT)]
        return []

    def _listen(self) -> None:
        soonest = min((due for each in self._running.values() if (due := each.due()) is not None), default=None)
        timeout = STUCK_S if soonest is None else max(0.0, soonest - time.monotonic())
        heard = wait(list(self._running), timeout)
        assert heard or soonest is not None, f"nothing has happened for {STUCK_S} seconds"
        for each in heard:
            process = self._running[each]
            if not process.read_output():
                del self._running[each]
                self._measure(process)

    def _measure(self, process: Process) -> None:
        """Measures how long a sync takes on this machine, so that signals arrive in the middle of one."""
        if process.attempt.outcome is Outcome.DONE and process.attempt.act.verb is Verb.WRITE:
            self._usual_s = 0.8 * self._usual_s + 0.2 * min(process.worked_s, LONGEST_PAUSE_S)

    def _disturb(self) -> None:
        now = time.monotonic()
        for process in list(self._running.values()):
            while (due := process.due()) is not None and due <= now:
                number = process.signal()
                self.history.kills += number == signal.SIGKILL
                self.history.pauses += number == signal.SIGSTOP


def _conflict(one: Act, other: Act) -> bool:
    """Whether both acts change the same scope. A sweep changes those of its whole stream."""
    if one.kind != other.kind:
        return False
    return one.day == other.day or Verb.SWEEP in (one.verb, other.verb) or len(BY_NAME[one.kind].days) == 1
