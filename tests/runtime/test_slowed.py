"""A policy at half its speed, by hand-computed numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.runtime.slowed import Slowed
from robot_rl.types import (
    ActContext,
    ActionChunk,
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    Arrays,
    ArraySpec,
    PolicySpec,
)

GRIPPER = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,))
WINDOW = {
    "arm0/tcp_pose": np.array([[[0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0]]]),
    "arm0/joint_position": np.array([[[0.0, 1.0]]]),
    "arm0/gripper_opening": np.array([[[1.0]]]),
}


class Planned:
    """Always the same plan."""

    def __init__(self, part: ActionPart, plan: list[list[float]]) -> None:
        observation = {name: ArraySpec(value.shape[2:]) for name, value in WINDOW.items()}
        self.spec = PolicySpec(observation, ActionSpec((part, GRIPPER)), horizon=len(plan), execute=2)
        self._plan = np.array(plan, dtype=np.float32)[None]

    def reset(self, rows: Array, seeds: Array) -> None: ...

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        return ActionChunk(self._plan, 2)


def slowed(part: ActionPart, plan: list[list[float]], speed: float = 0.5) -> Array:
    return Slowed(Planned(part, plan), speed).act(WINDOW, ActContext.start(1)).actions[0]


def test_deltas_are_scaled_and_the_gripper_is_not() -> None:
    part = ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.1,) * 3, (0.1,) * 3)
    made = slowed(part, [[0.02, 0.0, -0.04, 1.0], [0.02, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(made, [[0.01, 0.0, -0.02, 1.0], [0.01, 0.0, 0.0, 0.0]], atol=1e-7)


def test_positions_are_gone_through_later_from_where_the_arm_is() -> None:
    """From 0 and 1 rad over (0.2, 1.0) and (0.4, 1.0): half the speed reaches row 0 at row 1."""
    part = ActionPart("arm0/joints", ActionKind.JOINT_POSITION, (-3.0,) * 2, (3.0,) * 2)
    made = slowed(part, [[0.2, 1.0, 0.0], [0.4, 1.0, 0.0]])
    np.testing.assert_allclose(made, [[0.1, 1.0, 0.0], [0.2, 1.0, 0.0]], atol=1e-7)


def test_poses_turn_on_the_shortest_way() -> None:
    part = ActionPart("arm0/tcp", ActionKind.TCP_POSE, (-2.0,) * 7, (2.0,) * 7)
    quarter = np.sqrt(0.5)
    made = slowed(part, [[0.4, 0.1, 0.3, quarter, quarter, 0.0, 0.0, 1.0]] * 2)
    np.testing.assert_allclose(made[0, :3], [0.4, 0.05, 0.3], atol=1e-6)
    np.testing.assert_allclose(made[0, 3:7], [np.cos(np.pi / 8), np.sin(np.pi / 8), 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(made[1, :7], [0.4, 0.1, 0.3, quarter, quarter, 0.0, 0.0], atol=1e-6)


def test_full_speed_is_the_policy_itself_bit_for_bit() -> None:
    part = ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.1,) * 3, (0.1,) * 3)
    plan = [[0.02, 0.013, -0.04, 1.0]]
    np.testing.assert_array_equal(slowed(part, plan, 1.0), np.array(plan, dtype=np.float32))


def test_what_cannot_be_slowed_is_refused() -> None:
    raw = ActionPart("action", ActionKind.RAW, (-1.0,) * 3, (1.0,) * 3)
    with pytest.raises(ConfigError, match="speed=1"):
        slowed(raw, [[0.0, 0.0, 0.0, 0.0]])
    part = replace(raw, kind=ActionKind.TCP_POSITION_DELTA)
    for speed in (0.0, 1.5):
        with pytest.raises(ConfigError, match="speed="):
            slowed(part, [[0.0, 0.0, 0.0, 0.0]], speed)
