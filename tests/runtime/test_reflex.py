"""The gripper outside the policy: when it closes, and how an env adds it to a plan of the arm alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot_rl.errors import ConfigError, SpecMismatchError
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.reflex import GraspReflex
from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    EnvSpec,
    Judgement,
    Observation,
    ResetRequest,
)

pytestmark = pytest.mark.robot

ARM = ActionSpec((ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.05,) * 3, (0.05,) * 3, "m", "base"),))
CUBE = "object/cube_pose"


def seen(tcp: tuple[float, float, float], cube: tuple[float, float, float]) -> Observation:
    pose = np.array([*tcp, 1, 0, 0, 0], np.float32)
    return Observation(0, 0, {"arm0/tcp_pose": pose, CUBE: np.array([*cube, 0, 0, 0, 1], np.float32)})


def test_it_closes_within_reach_and_stays_closed_until_the_reset() -> None:
    reflex = GraspReflex(CUBE, close_within_m=0.012)
    openings = [
        float(reflex.targets(seen((0.5, 0.0, z), (0.5, 0.003, 0.02)))["arm0/gripper"][0])
        for z in (0.1, 0.032, 0.031, 0.2)  # 0.0804, 0.0124, 0.0114 and 0.18 m away
    ]
    assert openings == [1.0, 1.0, 0.0, 0.0]
    reflex.reset()
    assert reflex.targets(seen((0.5, 0.0, 0.2), (0.5, 0.0, 0.02)))["arm0/gripper"][0] == 1.0


def test_distances_without_meaning_are_refused() -> None:
    with pytest.raises(ConfigError, match="limit: above 0"):
        GraspReflex(CUBE, close_within_m=0.0)
    with pytest.raises(ConfigError, match="0 up to 1"):
        GraspReflex(CUBE, closed_opening=1.0)


class AtCube:
    """The arm starts 0.03 m above an object; nothing is judged."""

    name = "touch"
    requires: frozenset[str] = frozenset()

    def reset_request(self, seed: int) -> ResetRequest:
        tcp, cube = np.array([0.5, 0, 0.13, 1, 0, 0, 0.0]), np.array([0.5, 0, 0.1, 0, 0, 0, 1.0])
        return ResetRequest(tcp_pose=tcp, simulator_state={CUBE: cube}, seed=seed)

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        return Judgement(0.0)


def test_an_env_commands_the_gripper_that_the_policy_leaves_alone() -> None:
    """Down by 10 mm a step in one plan of four: at 30, 20 and 10 mm the reflex sees 10 mm at the third step."""
    env = RobotEnv(FakeRobot(objects=["cube"]), AtCube(), ARM, 20, reflex=GraspReflex(CUBE), name="touch_arm_only")
    assert (env.spec.task, env.spec.action.size) == ("touch_arm_only", 3)
    for _ in range(2):  # the second episode starts open again
        observation = env.reset(0)
        plan = env.anchor(np.array([[0.0, 0.0, -0.01]] * 4), observation)
        results = [env.step(plan) for _ in range(4)]
        reports = [result.observation.report for result in results]
        assert [float(report.commanded["arm0/gripper"][0]) for report in reports if report] == [1.0, 1.0, 0.0, 0.0]
        for result in results:
            np.testing.assert_allclose(result.action.commanded, [0.0, 0.0, -0.01], atol=1e-6)
    env.close()


class Hardware(FakeRobot):
    """Says that it is real: what only a simulator knows may not be gone by."""

    def connect(self) -> EnvSpec:
        return replace(super().connect(), simulated=False)


def test_a_reflex_may_not_go_by_what_is_not_measured() -> None:
    with pytest.raises(SpecMismatchError, match=r"the reflex goes by 'object/cube_pose'.* does not measure"):
        RobotEnv(FakeRobot(), AtCube(), ARM, 20, reflex=GraspReflex(CUBE))
    with pytest.raises(SpecMismatchError, match="the reflex goes by 'object/cube_pose', which only a simulator knows"):
        RobotEnv(Hardware(objects=["cube"]), AtCube(), ARM, 20, reflex=GraspReflex(CUBE))
