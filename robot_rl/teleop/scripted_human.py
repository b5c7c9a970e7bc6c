"""A person stood in for by a noisy expert: watches the policy, helps when nothing gets on, lets go when it does.

For simulation, where learning from interventions is to be tested and measured without a person. What it does is a
function of (seed, episode, observations).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.teleop.scripted import Expert, scripted_policy
from robot_rl.types import ActContext, ActionSpec, Array, Arrays, EpisodeEvent, Observation


class Watched(Protocol):
    """A task that knows how far it has got."""

    def progress(self, state: Arrays) -> float:
        """0 at the start to 1 at success."""
        ...


class ScriptedHuman:
    """An Intervention. Times are the robot clock's.

    Args:
        expert, action, noise_m: as for scripted_policy; what the person does, and how shakily.
        task: tells the progress that the person sees.
        patience_s: without ``gain`` of progress for so long the person has seen enough ...
        reaction_s: ... and takes over that much later, at most (drawn per take-over), unless it got on meanwhile.
        least_s: the person keeps the arm at least so long, ...
        regain: ... until progress is that much above what it was at the take-over, ...
        most_s: ... but not for longer than this.
        seed: of noise and reactions.
    """

    age_s = 0.0

    def __init__(
        self,
        expert: Expert | None,
        action: ActionSpec,
        task: Watched | None,
        *,
        noise_m: float = 0.001,
        patience_s: float = 2.0,
        gain: float = 0.05,
        reaction_s: float = 0.3,
        least_s: float = 0.5,
        regain: float = 0.4,
        most_s: float = 1.5,
        seed: int = 0,
    ) -> None:
        if task is None or expert is None or not hasattr(task, "progress"):
            raise ConfigError(
                "the scripted human needs a simulated task with an expert and a measure of progress",
                remedy="Choose another teleop= option",
            )
        if min(patience_s, gain, reaction_s, least_s, regain) < 0.0 or not least_s <= most_s < math.inf:
            raise ConfigError(f"the person helps for {least_s} s to {most_s} s", limit="numbers >= 0 in this order")
        self._policy, self._task = scripted_policy(expert, action, noise_m), task
        self._gain, self._regain = gain, regain
        # in whole ns: what is decided may not depend on how long the robot's clock has been running
        self._patience_ns, self._reaction_ns = _ns(patience_s), _ns(reaction_s)
        self._least_ns, self._most_ns = _ns(least_s), _ns(most_s)
        self._seed, self._episode = seed, 0
        self._since_ns: int | None = None  # the last gain of progress, or the last letting go
        self._best = 0.0
        self._helping: tuple[int, float] | None = None  # since when, and the progress there was
        self._react_ns = 0
        self._take_overs = 0

    def reset(self, seed: int) -> None:
        """A new episode is watched from its start."""
        self._episode, self._take_overs = seed, 0
        self._since_ns, self._helping = None, None
        self._policy.reset(np.array([0]), np.array([np.random.SeedSequence((self._seed, seed)).generate_state(1)[0]]))
        self._draw_reaction()

    def events(self) -> Sequence[EpisodeEvent]:
        """This person judges nothing."""
        return ()

    def close(self) -> None:
        """Nothing was opened."""

    def action(self, observation: Observation) -> Array | None:
        """The expert's noisy action [A] while the person helps."""
        self._watch(observation.stamp_ns, self._task.progress(observation.state))
        if self._helping is None:
            return None
        window: dict[str, Any] = {name: observation.state[name][None, None] for name in self._policy.spec.observation}
        context = ActContext.start(1)
        context.step[0] = observation.step
        return self._policy.act(window, context).actions[0, 0]

    def _watch(self, now_ns: int, progress: float) -> None:
        """Notice a stall, and when help is no longer needed."""
        if self._helping is not None:
            began_ns, before = self._helping
            helped_ns = now_ns - began_ns
            if (progress >= before + self._regain and helped_ns >= self._least_ns) or helped_ns >= self._most_ns:
                self._helping, self._since_ns, self._best = None, now_ns, progress
                self._draw_reaction()
        elif self._since_ns is None or progress >= self._best + self._gain:
            self._since_ns, self._best = now_ns, progress
        elif now_ns - self._since_ns >= self._patience_ns + self._react_ns:
            self._helping, self._take_overs = (now_ns, progress), self._take_overs + 1

    def _draw_reaction(self) -> None:
        random = np.random.default_rng((self._seed, self._episode, self._take_overs))
        self._react_ns = round(random.uniform(0.5, 1.0) * self._reaction_ns)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
