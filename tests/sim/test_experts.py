"""Experts on the tasks, as a user runs them; a hundred seeds are in the benchmark."""

from collections.abc import Iterator

import numpy as np
import pytest

from robot_rl.apps.main import compose, instantiate
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.rollout import run_episode
from robot_rl.teleop.scripted import ScriptedPolicy
from robot_rl.types import ActContext, StepResult, StepRow
from sim.experts.lift import LiftExpert
from sim.experts.peg_insert import PegInsertExpert
from sim.experts.push import PushExpert
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


def act(env, expert, observation) -> StepResult:
    """One step of the expert."""
    window = {name: observation.state[name][None, None] for name in expert.spec.observation}
    return env.step(env.anchor(expert.act(window, ActContext.start(1)).actions[0], observation))


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
    observation, done, step = env.reset(3), False, 0
    while not done:
        if step == 12:
            env.robot.physics.data.joint("cube").qpos[1] -= 0.08
        result = act(env, expert, observation)
        observation, done, step = result.observation, result.terminated or result.truncated, step + 1
    assert result.success
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


@pytest.mark.parametrize(
    ("task", "overrides"),
    [
        ("pick_place", ()),
        ("push", ()),
        ("peg_insert", ()),
        ("peg_insert", ("scene.clearance_m=0.0005",)),
        ("peg_insert", ("teleop.noise_m=0.001",)),  # touches the rim and finds the hole
        ("peg_insert", ("teleop.delay_steps=2",)),
        ("peg_insert", ("teleop.bias_m=[0.0001,0,0]",)),  # 0.4 mm beside of the 0.5 that fit
        ("peg_insert", ("action=tcp_delta", "task.hole_yaw_rad=0.3")),
        ("reach", ("robot=sim_ur5e",)),
        ("lift", ("robot=sim_ur5e",)),
        ("pick_place", ("robot=sim_ur5e",)),
        ("push", ("robot=sim_ur5e",)),
        ("peg_insert", ("robot=sim_ur5e",)),
    ],
)
def test_an_expert_solves_its_task_within_the_limits_of_the_action(task, overrides):
    env, expert = configured(task, *overrides)
    heard = Rows()
    ends = [run_episode(env, expert, [heard], seed=seed) for seed in range(3)]
    env.close()
    assert [end.success for end in ends] == [True] * 3
    actions = np.array([row.action.commanded for row in heard.rows])
    assert (actions >= env.spec.action.low - 1e-6).all()
    assert (actions <= env.spec.action.high + 1e-6).all()


@pytest.mark.parametrize("task", ["reach", "lift", "pick_place", "peg_insert", "push"])
def test_progress_rises_along_the_way_of_the_expert(task):
    """What is lost on the way (over the hover point, up and behind again) is little against what is gained, and the
    dense reward of the episode is the success and the gain."""
    env, expert = configured(task, "task.reward=dense")
    progress = instantiate(compose("record", [f"task={task}"]).task).progress
    for seed in range(2):
        heard = Rows()
        end = run_episode(env, expert, [heard], seed=seed)
        along = np.array([progress(row.observation.state) for row in heard.rows])
        assert end.success
        assert ((along >= 0.0) & (along <= 1.0)).all()
        steps = np.diff(along)
        assert -steps[steps < 0].sum() < 0.15 * steps[steps > 0].sum()
        assert sum(row.reward for row in heard.rows[:-1]) == pytest.approx(along[-1] - along[0], abs=1e-5)
    env.close()


def test_the_cube_that_is_lost_on_the_way_to_the_bin_is_fetched_again():
    env, expert = configured("pick_place")
    observation, done, step, lost = env.reset(1), False, 0, False
    while not done:
        cube = env.robot.physics.data.joint("cube").qpos
        if not lost and cube[2] > 0.08:
            cube[:3], lost = [0.55, -0.1, 0.021], True  # back on the table
        result = act(env, expert, observation)
        observation, done, step = result.observation, result.terminated or result.truncated, step + 1
    env.close()
    assert lost
    assert result.success
    assert step > 80


def test_an_expert_keeps_its_pace_whatever_the_step_rate():
    """As the options of the task have it: the same way in the same time."""
    took_s = []
    for rate_hz in (20.0, 50.0):
        env, expert = configured("reach", f"robot.step_rate_hz={rate_hz}", "env.max_steps=200")
        heard = Rows()
        end = run_episode(env, expert, [heard], seed=1)
        env.close()
        assert end.success
        took_s.append(end.length / rate_hz)
        speeds = [np.linalg.norm(row.observation.state["arm0/tcp_velocity"][:3]) for row in heard.rows]
        assert 0.25 < max(speeds) < 1.2 * Stride().max_speed_m_s  # the arm overshoots what it is told a little
    assert took_s[1] == pytest.approx(took_s[0], rel=0.15)


def test_a_stride_is_bounded_in_speed_and_gain_of_speed():
    stride = Stride(step_rate_hz=20.0, gain_1_s=5.0, max_speed_m_s=0.4, max_acceleration_m_s2=2.0)
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


def peg_state(beside: float, depth: float) -> dict[str, np.ndarray]:
    """The tip of a 6 cm peg, held 5 cm below the TCP, ``beside`` the axis and ``depth`` below the rim at 4 cm."""
    tip = np.array([0.5 + beside, 0.0, 0.04 - depth])
    return {
        "arm0/tcp_pose": np.array([*tip[:2], tip[2] + 0.05, *DOWN]),
        "arm0/tcp_velocity": np.zeros(6),
        "object/peg_pose": np.array([*tip[:2], tip[2] + 0.03, 0, 0, 0, 1.0]),
        "object/hole_pose": np.array([0.5, 0, 0.04, 0, 0, 0, 1.0]),
    }


def peg_step(beside: float, depth: float) -> np.ndarray:
    state = peg_state(beside, depth)
    return PegInsertExpert().set_point(state)["arm0/tcp"][:3] - state["arm0/tcp_pose"][:3]


def test_phases_of_the_insertion_are_regions_of_the_state():
    assert peg_step(0.05, 0.0)[2] > 0.0  # beside and low: up the funnel
    assert peg_step(0.0, -0.02)[2] == pytest.approx(-0.05 * 0.05)  # aligned: down, at first with 1 m/s^2
    np.testing.assert_allclose(peg_step(0.0006, 0.0)[2], -0.05 * 0.06 * 1 / 6, rtol=0.01)  # nearly: it touches gently
    np.testing.assert_allclose(peg_step(0.00064, 0.0)[2], -0.05 * 0.06 * 0.05, rtol=0.01)
    assert peg_step(0.0008, 0.0)[2] > 0.0  # on the rim beside the hole: off again
    assert peg_step(0.002, 0.01)[2] < 0.0  # inside, whatever the walls do
    assert peg_step(0.002, 0.01)[0] < 0.0


def push_state(tcp: list[float], puck=(0.5, 0.0, 0.015), goal=(0.6, 0.0, 0.001)) -> dict[str, np.ndarray]:
    return {
        "arm0/tcp_pose": np.array([*tcp, *DOWN]),
        "arm0/tcp_velocity": np.zeros(6),
        "object/puck_pose": np.array([*puck, 0, 0, 0, 1.0]),
        "object/goal_position": np.array(goal),
    }


def test_phases_of_the_push_are_regions_of_the_state():
    expert = PushExpert()

    def way(tcp, **changes) -> np.ndarray:
        state = push_state(tcp, **changes)
        return expert.set_point(state)["arm0/tcp"][:3] - state["arm0/tcp_pose"][:3]

    assert way([0.55, 0.0, 0.024])[2] > 0.0  # before the puck: up
    assert way([0.445, 0.0, 0.1])[2] < 0.0  # above the place behind it: down
    ahead = way([0.455, 0.0, 0.024])
    assert ahead[0] > 0.002
    np.testing.assert_allclose(ahead[1:], 0.0, atol=1e-9)
    assert way([0.455, 0.01, 0.024])[1] < 0.0  # back to the line, beyond it
    np.testing.assert_array_equal(way([0.555, 0.0, 0.024], puck=(0.596, 0.0, 0.015)), 0.0)  # there
    across = expert._touch(np.array([0.5, 0.0, 0.015]), np.array([0.6, 0.8]))
    np.testing.assert_allclose(across, [0.5 - 0.03 * 0.6 - 0.01, -0.03 * 0.8 - 0.012, 0.024])


def test_experts_declare_what_they_read():
    assert set(PegInsertExpert().observation) == set(peg_state(0.0, 0.0))
    assert set(PushExpert().observation) == set(push_state([0, 0, 0]))
    assert set(LiftExpert().observation) == set(lift_state([0, 0, 0], 1.0))
    assert ReachExpert("goal").observation["object/goal_position"].privileged
