"""A policy at a share of its speed: the same path, later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.geometry import pose_interpolate
from robot_rl.interfaces import Policy
from robot_rl.runtime.set_points import measured_targets
from robot_rl.types import ActContext, ActionChunk, ActionKind, Array, Arrays, Observation, PolicySpec, target_kind

_DELTAS = (ActionKind.TCP_DELTA, ActionKind.TCP_POSITION_DELTA, ActionKind.JOINT_DELTA)
_POSES = (ActionKind.TCP_POSE,)
_AS_THEY_ARE = (ActionKind.GRIPPER, ActionKind.RAW)


class Slowed:
    """Deltas are scaled by ``speed``; absolute targets are gone through at ``speed``, from the measured state on.

    The policy goes on deciding as often as before. Grippers are not slowed: half an opening holds nothing. Raises
    ConfigError for a speed that is none, or for actions without geometric meaning, which nobody can slow.
    """

    def __init__(self, policy: Policy, speed: float) -> None:
        if not 0.0 < speed <= 1.0:
            raise ConfigError(f"speed={speed}", limit="above 0, up to 1")
        raw = [part.name for part in policy.spec.action.parts if part.kind is ActionKind.RAW]
        if raw and speed < 1.0:
            raise ConfigError(f"'{raw[0]}' has no meaning that could be slowed", remedy="Deploy with speed=1")
        self._policy, self._speed = policy, speed

    @property
    def spec(self) -> PolicySpec:
        return self._policy.spec

    def reset(self, rows: Array, seeds: Array) -> None:
        """Reset the policy."""
        self._policy.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """The policy's chunk [B, H, A], slowed."""
        chunk = self._policy.act(window, context)
        if self._speed == 1.0:
            return chunk
        actions = np.array(chunk.actions, dtype=np.float64)
        for row, planned in enumerate(actions):
            state = {name: value[row, -1] for name, value in window.items() if not name.startswith("images/")}
            self._slow(planned, state)
        return replace(chunk, actions=actions.astype(np.float32))

    def _slow(self, planned: Array, state: Arrays) -> None:
        """One plan [H, A], in place."""
        action = self.spec.action
        measured = measured_targets(action, Observation(0, 0, state))
        for part in action.parts:
            where = action.slices[part.name]
            if part.kind in _DELTAS:
                planned[:, where] *= self._speed
            elif part.kind not in _AS_THEY_ARE:
                start = measured.get(part.name, planned[0, where])[: part.size]
                planned[:, where] = _stretched(planned[:, where], start, self._speed, target_kind(part.kind), part.kind)


def _stretched(path: Array, start: Array, speed: float, target: ActionKind, kind: ActionKind) -> Array:
    """``path`` [H, k] from ``start`` [k] on, gone through at ``speed``: row i is what row (i + 1) * speed - 1 was."""
    points = np.concatenate([np.asarray(start, dtype=np.float64)[None], path])
    times = speed * np.arange(1, len(path) + 1)
    before = np.floor(times).astype(int)
    share = times - before
    after = np.minimum(before + 1, len(points) - 1)
    if kind in _POSES:
        return np.stack(
            [pose_interpolate(points[i], points[j], s) for i, j, s in zip(before, after, share, strict=True)]
        )
    return points[before] + share[:, None] * (points[after] - points[before])
