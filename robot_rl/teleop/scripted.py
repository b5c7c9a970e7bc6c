"""A scripted expert as a Policy: its absolute set points are expressed in the policy's kind of action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.interfaces import Policy
from robot_rl.runtime.action_targets import express
from robot_rl.teleop.degraded import degraded
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
    """One action per step, clipped to the limits of ``action``."""

    def __init__(self, expert: Expert | None, action: ActionSpec) -> None:
        if expert is None:
            raise ConfigError("the task names no scripted expert", remedy="Choose another teleop= option")
        self._expert, self._action = expert, action
        names = dict(expert.observation)
        for part in action.parts:
            if part.kind in (ActionKind.TCP_DELTA, ActionKind.TCP_POSITION_DELTA, ActionKind.JOINT_DELTA):
                name = _measured_name(part.name, part.kind)
                if name not in names:
                    raise ConfigError(f"the expert does not read '{name}', which '{part.name}' is relative to")
        self._spec = PolicySpec(names, action, history=1, horizon=1, execute=1)

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def reset(self, rows: Array, seeds: Array) -> None:
        """Nothing is remembered."""

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """[B, 1, A] from the newest observation of each row."""
        actions = np.stack([self._act_row(window, row) for row in range(len(context.step))])
        return ActionChunk(actions[:, None], execute=1)

    def _act_row(self, window: Arrays, row: int) -> Array:
        state = {name: window[name][row, -1] for name in self._spec.observation}
        in_force = {
            part.name: state[name]
            for part in self._action.parts
            if (name := _measured_name(part.name, part.kind)) in state
        }
        action = express(self._action, self._expert.set_point(state), in_force)
        return np.clip(action, self._action.low, self._action.high).astype(np.float32)


def scripted_policy(
    expert: Expert | None,
    action: ActionSpec,
    noise_m: float = 0.0,
    delay_steps: int = 0,
    bias_m: Sequence[float] = (0.0, 0.0, 0.0),
) -> Policy:
    """The expert of a task, its demonstrations diverse (noise) or worse (delay, bias) where asked for. Raises
    ConfigError when the task has no expert."""
    return degraded(ScriptedPolicy(expert, action), noise_m, delay_steps, bias_m)


def _measured_name(part: str, kind: ActionKind) -> str:
    """The observation that tells where a part is, e.g. arm0/tcp -> arm0/tcp_pose."""
    return f"{part.split('/')[0]}/{_MEASURED.get(kind, 'tcp_pose')}"
