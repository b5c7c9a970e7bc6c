"""A scripted policy on the base dependencies: the expert is a stand-in with two observations."""

from collections.abc import Mapping

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.interfaces import Policy
from robot_rl.teleop.scripted import ScriptedPolicy, scripted_policy
from robot_rl.types import ActContext, ActionKind, ActionPart, ActionSpec, ArraySpec

pytestmark = pytest.mark.robot
DELTA = ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.02,) * 3, (0.02,) * 3, "m", "base")
POSE = ActionPart("arm0/tcp", ActionKind.TCP_POSE, (-1,) * 7, (1,) * 7, "m, quat_xyzw", "base")
GRIPPER = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0,), (1,), "opening")
HERE = np.array([0.5, 0.0, 0.2, 1, 0, 0, 0], dtype=np.float32)


class GoTo:
    """Wants the TCP at ``goal`` and the gripper half open."""

    def __init__(self, goal: tuple[float, float, float], reads: str = "arm0/tcp_pose") -> None:
        self._goal, self._reads = goal, reads

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        return {self._reads: ArraySpec((7,))}

    def set_point(self, state) -> dict[str, np.ndarray]:
        return {"arm0/tcp": np.array([*self._goal, 1.0, 0.0, 0.0, 0.0]), "arm0/gripper": np.array([0.5])}


def act(policy: Policy, batch: int = 1, step: int = 0) -> np.ndarray:
    window = {"arm0/tcp_pose": np.repeat(HERE[None, None], batch, axis=0)}
    zero = np.zeros(batch, dtype=np.int64)
    return policy.act(window, ActContext(zero + step, zero, zero, zero.astype(bool))).actions


def test_a_set_point_becomes_a_delta_within_the_limits():
    policy = ScriptedPolicy(GoTo((0.51, 0.0, 0.0)), ActionSpec((DELTA, GRIPPER)))
    actions = act(policy, batch=3)
    assert actions.shape == (3, 1, 4)
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions[2, 0], [0.01, 0.0, -0.02, 0.5], atol=1e-7)
    assert (policy.spec.history, policy.spec.horizon) == (1, 1)


def test_an_absolute_action_is_the_set_point_itself():
    policy = ScriptedPolicy(GoTo((0.51, 0.0, 0.1)), ActionSpec((POSE, GRIPPER)))
    np.testing.assert_allclose(act(policy)[0, 0], [0.51, 0.0, 0.1, 1, 0, 0, 0, 0.5], atol=1e-7)


def test_options_wrap_the_expert():
    """Delay nearest to the expert, then bias, then noise; without any it is the expert alone."""
    action = ActionSpec((DELTA, GRIPPER))
    plain = scripted_policy(GoTo((0.51, 0.0, 0.2)), action)
    assert isinstance(plain, ScriptedPolicy)
    biased = scripted_policy(GoTo((0.51, 0.0, 0.2)), action, delay_steps=1, bias_m=(0.0, 0.001, -0.002))
    np.testing.assert_allclose(act(biased)[0, 0], act(plain)[0, 0] + [0.0, 0.001, -0.002, 0.0], atol=1e-7)


def test_what_cannot_work_is_refused():
    action = ActionSpec((DELTA, GRIPPER))
    with pytest.raises(ConfigError, match="no scripted expert"):
        ScriptedPolicy(None, action)
    with pytest.raises(ConfigError, match="does not read 'arm0/tcp_pose'"):
        ScriptedPolicy(GoTo((0, 0, 0), reads="arm0/other"), action)
