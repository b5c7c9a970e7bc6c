"""Experts on the tasks, as a user runs them; a hundred seeds are in the benchmark."""

from collections.abc import Iterator

import numpy as np
import pytest

from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.rollout import run_episode
from robot_rl.teleop.scripted import ScriptedPolicy
from robot_rl.types import StepRow
from sim.experts.lift import LiftExpert
from sim.experts.reach import ReachExpert
from sim.experts.stride import Stride
from tests.sim.lift_env import configured

DOWN = [1.0, 0.0, 0.0, 0.0]


class Rows:
    """Collects the rows of the episodes it hears."""

    def __init__(self) -> None:
        self.rows: list[StepRow] = []

    def on_reset(self, observation, spec, seed) -> None: ...

    def on_decision(self, decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        self.rows.append(row)

    def on_end(self, final, end) -> None: ...


@pytest.fixture(scope="module")
def lift() -> Iterator[tuple[RobotEnv, ScriptedPolicy]]:
    env, expert = configured("lift")
    yield env, expert
    env.close()


def test_the_lift_expert_succeeds_within_the_limits_of_the_action(lift):
    env, expert = lift
    heard = Rows()
    ends = [run_episode(env, expert, [heard], seed=seed) for seed in range(5)]
    assert [end.success for end in ends] == [True] * 5
    assert max(end.length for end in ends) < 60
    actions = np.array([row.action.commanded for row in heard.rows])
    assert (actions >= env.spec.action.low - 1e-6).all()
    assert (actions <= env.spec.action.high + 1e-6).all()
    assert np.abs(np.diff(actions[:20, :3], axis=0)).max() < 0.012  # smooth within an episode
    executed = np.array([row.action.executed for row in heard.rows])
    np.testing.assert_allclose(executed[:, :3], actions[:, :3], atol=2e-3)
    assert sum("workspace" in row.observation.report.interventions for row in heard.rows) == 0


def test_the_lift_expert_recovers_when_the_cube_is_pushed_away(lift):
    env, expert = lift
    robot = env.robot
    policy_seed = np.array([0])
    expert.reset(np.array([0]), policy_seed)
    observation = env.reset(3)
    from robot_rl.types import ActContext

    success = False
    for step in range(90):
        if step == 12:
            robot.physics.data.joint("cube").qpos[1] -= 0.08
        window = {name: observation.state[name][None, None] for name in expert.spec.observation}
        chunk = expert.act(window, ActContext.start(1))
        result = env.step(env.anchor(chunk.actions[0], observation))
        observation, success = result.observation, result.success
        if result.terminated:
            break
    assert success
    assert step > 20


def test_noise_of_the_action_is_of_the_seed_and_does_not_break_the_expert():
    env, expert = configured("lift", "teleop.noise_m=0.0025")
    actions = []
    for _ in range(2):
        heard = Rows()
        assert run_episode(env, expert, [heard], seed=2).success
        actions.append([row.action.policy for row in heard.rows])
    np.testing.assert_array_equal(actions[0], actions[1])
    env.close()


@pytest.mark.parametrize("action", ["tcp_position_delta", "tcp_delta"])
def test_the_reach_expert_succeeds_with_either_action(action):
    env, expert = configured("reach", f"action={action}")
    ends = [run_episode(env, expert, seed=seed) for seed in range(5)]
    assert [end.success for end in ends] == [True] * 5
    env.close()


def test_a_stride_is_bounded_in_speed_and_gain_of_speed():
    stride = Stride(period_s=0.05, gain_1_s=5.0, max_speed_m_s=0.4, max_acceleration_m_s2=2.0)
    far, here = np.array([1.0, 0.0, 0.0]), np.zeros(3)
    np.testing.assert_allclose(stride.towards(far, here, np.zeros(3)), [0.1 * 0.05, 0, 0])
    np.testing.assert_allclose(stride.towards(far, here, np.array([0.39, 0, 0])), [0.4 * 0.05, 0, 0])
    np.testing.assert_allclose(stride.towards(np.array([0.01, 0, 0]), here, np.zeros(3)), [0.05 * 0.05, 0, 0])
    np.testing.assert_allclose(stride.towards(far, here, np.array([0.0, 0.3, 0.0])), [0.1 * 0.05, 0, 0])
    np.testing.assert_array_equal(stride.towards(here, here, np.array([0.0, 0.3, 0.0])), here)


def lift_state(tcp: list[float], opening: float, cube=(0.5, 0.0, 0.02)) -> dict[str, np.ndarray]:
    return {
        "arm0/tcp_pose": np.array([*tcp, *DOWN]),
        "arm0/tcp_velocity": np.zeros(6),
        "arm0/gripper_opening": np.array([opening]),
        "object/cube_pose": np.array([*cube, 0, 0, 0, 1.0]),
    }


def test_phases_of_the_lift_are_regions_of_the_state():
    expert = LiftExpert()
    beside = expert.set_point(lift_state([0.4, 0.0, 0.05], 1.0))
    assert beside["arm0/tcp"][2] > 0.05  # up and over: the fingers do not sweep the cube away
    assert beside["arm0/gripper"] == 1.0
    above = expert.set_point(lift_state([0.5, 0.0, 0.1], 1.0))
    assert above["arm0/tcp"][2] < 0.1
    around = expert.set_point(lift_state([0.5, 0.0, 0.02], 1.0))
    assert around["arm0/gripper"] == 0.0
    np.testing.assert_allclose(around["arm0/tcp"][:3], [0.5, 0.0, 0.02])
    gripped = expert.set_point(lift_state([0.5, 0.0, 0.02], 0.5))
    assert gripped["arm0/tcp"][2] > 0.02
    assert gripped["arm0/gripper"] == 0.0
    empty = expert.set_point(lift_state([0.5, 0.0, 0.02], 0.1))
    assert empty["arm0/gripper"] == 1.0


def test_experts_declare_what_they_read():
    assert set(LiftExpert().observation) == set(lift_state([0, 0, 0], 1.0))
    assert ReachExpert("goal").observation["object/goal_position"].privileged
