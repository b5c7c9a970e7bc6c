"""When a person takes over from a policy and when the policy gets the arm back, tick by tick.

A press takes over in its own tick. Letting go holds the arm at once and hands back after ``hand_back_s``, so that a
device that flickers at its dead-zone does not toss the arm to and fro. Control never goes back to a moving policy
silently: after a dead-man was let go, and after a device fell silent, the arm stays held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl.errors import ConfigError, SpecMismatchError
from robot_rl.interfaces import Intervention
from robot_rl.runtime.action_targets import express
from robot_rl.runtime.set_points import targets_in_force
from robot_rl.types import ActionSpec, Array, EpisodeEvent, Observation, Phase

_OUTCOMES = (
    EpisodeEvent.SUCCESS,
    EpisodeEvent.FAILURE,
    EpisodeEvent.DISCARD,
    EpisodeEvent.RERECORD,
    EpisodeEvent.STOP,
)


@dataclass(frozen=True)
class Command:
    """Who has the arm for a step: POLICY, HUMAN with ``action`` [A], or HOLD while a person has it and commands
    nothing."""

    source: Phase
    action: Array | None = None


_POLICY, _HOLD = Command(Phase.POLICY), Command(Phase.HOLD)


class Handover:
    """The person's side of the loop. Times are those of the robot's clock.

    Args:
        device: asked at every tick.
        hand_back_s: letting go for so long gives the arm back to the policy.
        dead_man: the person must keep pressing: letting go for ``hand_back_s`` holds the arm until it is pressed again
            or the key HAND_BACK gives it to the policy.
        silent_s: a device not heard of for longer, while a person has the arm, holds it until it is heard again.
        most_steps: the person commands in so many steps of all episodes and then no more; None is without end.
        keeps_arm: the person has the arm from the start and never hands it back, as when demonstrating: to press
            nothing is to command that it stay.
    """

    def __init__(
        self,
        device: Intervention,
        *,
        hand_back_s: float = 0.1,
        dead_man: bool = False,
        silent_s: float = 0.25,
        most_steps: int | None = None,
        keeps_arm: bool = False,
    ) -> None:
        if hand_back_s < 0.0 or silent_s <= 0.0:
            raise ConfigError(f"hand_back_s={hand_back_s}, silent_s={silent_s}", limit="at least 0, above 0")
        self.device, self.hand_back_s, self.dead_man, self.silent_s = device, hand_back_s, dead_man, silent_s
        self.most_steps, self.steps = most_steps, 0  # steps that a person commanded, in all episodes
        self.keeps_arm = keeps_arm
        self._pressed_ns = 0
        self._has_arm = False
        self._outcome: EpisodeEvent | None = None
        self._handed_back = False

    def reset(self, seed: int) -> None:
        """The episode of ``seed`` starts with the policy."""
        self.device.reset(seed)
        self.device.events()  # pressed between episodes: void
        self._has_arm, self._outcome, self._handed_back = self.keeps_arm, None, False

    def command(self, observation: Observation, action: ActionSpec) -> Command:
        """Who has the arm from ``observation`` on; what the person asks for is clipped to the limits of ``action``.

        Raises SpecMismatchError when the device gives another number of values.
        """
        self._listen()
        asked = None if self._exhausted else self.device.action(observation)
        if asked is not None and np.shape(asked) != (action.size,):
            raise SpecMismatchError(f"the device gives {list(np.shape(asked))} values", limit=f"[{action.size}]")
        if self.device.age_s > self.silent_s or (asked is not None and not np.isfinite(asked).all()):
            self._pressed_ns = observation.stamp_ns  # what it says counts for nothing; letting go begins afterwards
            return _HOLD if self._has_arm else _POLICY
        if self._outcome is EpisodeEvent.STOP:
            return _HOLD
        if asked is None and self.keeps_arm:
            in_force = targets_in_force(action, observation, Phase.HUMAN)
            asked = express(action, in_force, in_force)
        if asked is not None:
            self._has_arm, self._handed_back, self._pressed_ns = True, False, observation.stamp_ns
            self.steps += 1
            return Command(Phase.HUMAN, np.clip(asked, action.low, action.high))
        self._has_arm = self._has_arm and not self._released(observation.stamp_ns)
        self._handed_back = False
        return _HOLD if self._has_arm else _POLICY

    def outcome(self) -> EpisodeEvent | None:
        """What the person has said of the episode since the start; the last word counts."""
        self._listen()
        return self._outcome

    def close(self) -> None:
        """Let go of the device; idempotent."""
        self.device.close()

    @property
    def _exhausted(self) -> bool:
        return self.most_steps is not None and self.steps >= self.most_steps

    def _released(self, now_ns: int) -> bool:
        if self.dead_man:
            return self._handed_back
        return now_ns - self._pressed_ns > self.hand_back_s * 1e9

    def _listen(self) -> None:
        for event in self.device.events():
            if event in _OUTCOMES and self._outcome is not EpisodeEvent.STOP:
                self._outcome = event
            self._handed_back |= event is EpisodeEvent.HAND_BACK
