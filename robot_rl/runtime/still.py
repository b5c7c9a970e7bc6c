"""The policy that stays where it is: what acts in shadow of a person who demonstrates."""

from __future__ import annotations

import numpy as np

from robot_rl.runtime.action_targets import express
from robot_rl.runtime.set_points import measured_targets
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, EnvSpec, Observation, PolicySpec


class StillPolicy:
    """Each action leads from what is measured to what is measured: zeros where actions are deltas."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = PolicySpec(spec.observation, spec.action)

    def reset(self, rows: Array, seeds: Array) -> None:
        """Nothing is remembered."""

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """[B, 1, A]."""
        return ActionChunk(np.stack([self._stay(window, row) for row in range(len(context.step))])[:, None], 1)

    def _stay(self, window: Arrays, row: int) -> Array:
        state = {name: value[row, -1] for name, value in window.items()}
        measured = measured_targets(self.spec.action, Observation(0, 0, state))
        return express(self.spec.action, measured, measured)
