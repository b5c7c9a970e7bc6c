"""A scripted expert as a Policy: its absolute set points are expressed in the policy's kind of action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.runtime.action_targets import express
from robot_rl.types import ActContext, ActionChunk, ActionKind, ActionSpec, Array, Arrays, ArraySpec, PolicySpec

_MEASURED = {ActionKind.JOINT_POSITION: "joint_position", ActionKind.JOINT_DELTA: "joint_position"}


class Expert(Protocol):
    """Knows what to do next from what is measured, without memory."""

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        ...

    def set_point(self, state: Arrays) -> Arrays:
        """Absolute targets {part: [k]} of the next step, from one observation."""
        ...


class ScriptedPolicy:
    """One action per step, clipped to the limits of ``action``. ``action_noise`` is the standard deviation of added
    normal noise as a share of each limit's half range (the gripper stays clean), drawn by (seed, step)."""

    def __init__(self, expert: Expert | None, action: ActionSpec, action_noise: float = 0.0) -> None:
        if not 0.0 <= action_noise <= 1.0:
            raise ConfigError(f"action noise is {action_noise}", limit="0 to 1")
        if expert is None:
            raise ConfigError("the task names no scripted expert", remedy="Choose another teleop= option")
        self._expert, self._action, self._noise = expert, action, action_noise
        names = dict(expert.observation)
        for part in action.parts:
            if part.kind in (ActionKind.TCP_DELTA, ActionKind.TCP_POSITION_DELTA, ActionKind.JOINT_DELTA):
                name = _measured_name(part.name, part.kind)
                if name not in names:
                    raise ConfigError(f"the expert does not read '{name}', which '{part.name}' is relative to")
        self._spec = PolicySpec(names, action, history=1, horizon=1, execute=1)
        self._half_range = 0.5 * (action.high - action.low)
        for part in action.parts:
            if part.kind is ActionKind.GRIPPER:
                self._half_range[action.slices[part.name]] = 0.0
        self._seeds: dict[int, int] = {}

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def reset(self, rows: Array, seeds: Array) -> None:
        """Reseed the noise of batch rows ``rows``."""
        self._seeds.update({int(row): int(seed) for row, seed in zip(rows, seeds, strict=True)})

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """[B, 1, A] from the newest observation of each row."""
        batch = len(context.step)
        actions = np.stack([self._act_row(window, context, row) for row in range(batch)])
        return ActionChunk(actions[:, None], execute=1)

    def _act_row(self, window: Arrays, context: ActContext, row: int) -> Array:
        state = {name: window[name][row, -1] for name in self._spec.observation}
        in_force = {
            part.name: state[name]
            for part in self._action.parts
            if (name := _measured_name(part.name, part.kind)) in state
        }
        action = express(self._action, self._expert.set_point(state), in_force)
        if self._noise:
            rng = np.random.default_rng([self._seeds.get(row, 0), int(context.step[row])])
            action = action + self._noise * self._half_range * rng.standard_normal(len(action), dtype=np.float32)
        return np.clip(action, self._action.low, self._action.high).astype(np.float32)


def _measured_name(part: str, kind: ActionKind) -> str:
    """The observation that tells where a part is, e.g. arm0/tcp -> arm0/tcp_pose."""
    return f"{part.split('/')[0]}/{_MEASURED.get(kind, 'tcp_pose')}"
