"""Integration of deltas at the anchor and its inverse, with numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.errors import CommandRefusedError, InvalidArrayError
from robot_rl.geometry import geodesic_angle, quat_xyzw_from_rotvec, quat_xyzw_multiply
from robot_rl.runtime.action_targets import express, integrate
from robot_rl.types import ActionKind, ActionPart, ActionSpec

pytestmark = pytest.mark.robot

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
GRIPPER = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,))


def part(kind: ActionKind, limit: float, size: int) -> ActionPart:
    return ActionPart("arm0/tcp", kind, (-limit,) * size, (limit,) * size)


def test_position_deltas_accumulate_from_the_target_in_force() -> None:
    spec = ActionSpec((part(ActionKind.TCP_POSITION_DELTA, 0.1, 3), GRIPPER))
    in_force = {"arm0/tcp": np.array([0.5, 0.0, 0.2, *DOWN]), "arm0/gripper": np.array([1.0])}
    plan = np.array([[0.01, 0, 0, 1.0], [0.02, 0.03, 0, 0.0]])
    targets = integrate(spec, plan, in_force)
    np.testing.assert_allclose(targets["arm0/tcp"], [[0.51, 0, 0.2, *DOWN], [0.53, 0.03, 0.2, *DOWN]])
    np.testing.assert_allclose(targets["arm0/gripper"], [[1.0], [0.0]])


def test_actions_are_clipped_to_their_limits_before_they_are_integrated() -> None:
    spec = ActionSpec((part(ActionKind.TCP_POSITION_DELTA, 0.1, 3),))
    targets = integrate(spec, np.full((2, 3), 5.0), {"arm0/tcp": np.array([0.0, 0, 0, *DOWN])})
    np.testing.assert_allclose(targets["arm0/tcp"][:, 0], [0.1, 0.2], atol=1e-7)


def test_rotations_are_applied_in_the_base_frame_one_after_the_other() -> None:
    spec = ActionSpec((part(ActionKind.TCP_DELTA, 2.0, 6),))
    start = np.array([0.0, 0, 0, 0.0, 0, 0, 1.0])
    turn_x, turn_z = np.array([np.pi / 2, 0, 0]), np.array([0, 0, np.pi / 2])
    targets = integrate(spec, np.array([[0, 0, 0, *turn_x], [0, 0, 0, *turn_z]]), {"arm0/tcp": start})
    by_hand = quat_xyzw_multiply(quat_xyzw_from_rotvec(turn_z), quat_xyzw_from_rotvec(turn_x))
    assert geodesic_angle(targets["arm0/tcp"][1, 3:], by_hand) < 1e-6


KINDS = {
    ActionKind.TCP_DELTA: 6,
    ActionKind.TCP_POSITION_DELTA: 3,
    ActionKind.TCP_POSITION: 3,
    ActionKind.JOINT_DELTA: 7,
    ActionKind.JOINT_POSITION: 7,
}


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_express_is_the_inverse_of_one_step(kind: ActionKind, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = ActionSpec((part(kind, 1.0, KINDS[kind]), GRIPPER))
    joints = kind in (ActionKind.JOINT_DELTA, ActionKind.JOINT_POSITION)
    quat = rng.normal(size=4)
    start = rng.normal(size=7) if joints else np.concatenate((rng.normal(size=3), quat / np.linalg.norm(quat)))
    in_force = {"arm0/tcp": start, "arm0/gripper": np.array([0.5])}
    action = np.append(rng.uniform(-1, 1, KINDS[kind]), rng.uniform())
    targets = integrate(spec, action[None], in_force)
    back = express(spec, {name: value[0] for name, value in targets.items()}, in_force)
    np.testing.assert_allclose(back, action, atol=1e-5)


def test_splicing_a_plan_loses_nothing() -> None:
    """Sending what remains of an anchored plan leads to the same end as sending it whole."""
    spec = ActionSpec((part(ActionKind.TCP_POSITION_DELTA, 0.1, 3),))
    plan = np.random.default_rng(1).uniform(-0.1, 0.1, (8, 3))
    targets = integrate(spec, plan, {"arm0/tcp": np.array([0.0, 0, 0, *DOWN])})["arm0/tcp"]
    np.testing.assert_allclose(targets[-1, :3], plan.sum(axis=0), atol=1e-7)


def test_bad_plans_are_refused_by_name() -> None:
    spec = ActionSpec((part(ActionKind.TCP_POSITION_DELTA, 0.1, 3),))
    with pytest.raises(InvalidArrayError, match=r"limit: \[H, 3\]"):
        integrate(spec, np.zeros((2, 4)), {})
    with pytest.raises(InvalidArrayError, match=r"'plan' holds nan at \[0, 1\]"):
        integrate(spec, np.array([[0.0, np.nan, 0.0]]), {})
    with pytest.raises(CommandRefusedError, match="no target in force for 'arm0/tcp'"):
        integrate(spec, np.zeros((1, 3)), {})
