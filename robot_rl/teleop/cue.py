"""What a person at the arm sees and hears: a line and the terminal's bell when something changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from robot_rl.teleop.terminal import TERMINAL
from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, Phase, StepRow

BELL = "\a"
_HAS_ARM = {Phase.HUMAN: "you have the arm", Phase.HOLD: "the arm is held"}
_OUTCOME = {True: "success", False: "failure", None: "not judged"}


class Cue:
    """Listener: one bell when an episode starts and when the arm changes hands, two when it ends."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._source: Phase | None = None
        self._episodes = 0

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self._source, self._episodes = None, self._episodes + 1
        self._show(f"{BELL}> episode {self._episodes} runs (seed {seed})\n")

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        if row.action.source is not self._source:
            self._source = row.action.source
            self._show(f"{BELL}  {_HAS_ARM.get(self._source, 'the policy has the arm')}\n")

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        self._show(f"{BELL}{BELL}= {end.reason} after {end.length} steps: {_OUTCOME[end.success]}\n")


def on_screen(path: str = TERMINAL) -> Callable[[str], None]:
    """Writes to the terminal without ever waiting for it; to standard output where there is no terminal."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return lambda text: print(text.replace(BELL, ""), end="", file=sys.stdout, flush=True)

    def write(text: str) -> None:
        try:
            os.write(descriptor, text.encode())
        except OSError:  # full or gone: nobody reads it
            return

    return write
