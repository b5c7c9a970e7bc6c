"""The Robot contract, the safety chain around it and the physics under it."""

from collections.abc import Iterator

import numpy as np
import pytest

from robot_rl.errors import (
    CommandRefusedError,
    ConfigError,
    ResetError,
    RobotConnectionError,
    SimulationDivergedError,
)
from robot_rl.types import Observation, Phase, ResetRequest, TargetChunk
from sim.arms.panda import panda
from sim.mujoco_robot import MujocoRobot
from sim.objects import SceneObject
from sim.scene import Scene

STEP_NS = 50_000_000
SCENE = Scene([SceneObject("cube", "box", (0.02, 0.02, 0.02), position_m=(0.5, 0.2, 0.02))])
HOME = np.array(panda().home_rad)
CUBE = np.array([0.5, 0.1, 0.02, 0.0, 0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def shared() -> Iterator[MujocoRobot]:
    with MujocoRobot(SCENE) as robot:
        yield robot


@pytest.fixture
def robot(shared: MujocoRobot) -> MujocoRobot:
    shared.reset(ResetRequest())
    return shared


def plan(observation: Observation, offsets: np.ndarray, opening: float = 1.0, **changes) -> TargetChunk:
    """Poses at the set point in force plus ``offsets`` [H, 3]."""
    assert observation.report is not None
    pose = np.repeat(observation.report.executed["arm0/tcp"][None], len(offsets), axis=0)
    pose[:, :3] += offsets
    targets = {"arm0/tcp": pose, "arm0/gripper": np.full((len(offsets), 1), opening)}
    return TargetChunk(targets, **{"first_step": observation.step, "stamp_ns": observation.stamp_ns, **changes})


def step(robot: MujocoRobot, chunk: TargetChunk | None = None) -> Observation:
    before = robot.read()
    if chunk is not None:
        robot.command(chunk)
    robot.clock.wait_until(before.stamp_ns + STEP_NS)
    return robot.read()


def test_reset_latches_the_measured_pose(robot):
    observation = robot.reset(ResetRequest(simulator_state={"object/cube_pose": CUBE}, gripper_opening=0.5))
    report = observation.report
    assert (observation.step, observation.mode, report.source) == (0, "tracking", Phase.RESET)
    np.testing.assert_allclose(report.executed["arm0/tcp"], observation.state["arm0/tcp_pose"], atol=1e-6)
    np.testing.assert_allclose(report.executed["arm0/gripper"], 0.5)
    np.testing.assert_allclose(observation.state["arm0/gripper_opening"], 0.5, atol=0.02)
    np.testing.assert_allclose(observation.state["object/cube_pose"], CUBE, atol=1e-3)
    np.testing.assert_allclose(observation.state["arm0/joint_velocity"], 0.0, atol=1e-3)


def test_observations_are_as_declared(robot):
    spec = robot.connect()
    observation = step(robot, plan(robot.read(), np.zeros((1, 3))))
    assert set(observation.state) == set(spec.observation)
    for name, declared in spec.observation.items():
        declared.check(name, observation.state[name])
    assert spec.observation["object/cube_pose"].privileged
    assert [part.kind.value for part in spec.action.parts] == ["tcp_pose", "gripper"]
    assert spec.limits["max_speed_m_s"] > 0


def test_a_plan_runs_row_by_row_and_ends_at_rest(robot):
    first = robot.read()
    offsets = np.array([[0.0, 0.003, 0.0], [0.0, 0.008, 0.0], [0.0, 0.01, 0.0]])
    chunk = plan(first, offsets)
    robot.command(chunk)
    for row in range(3):
        observation = step(robot)
        report = observation.report
        assert (report.step, report.valid, report.source) == (row, True, Phase.POLICY)
        np.testing.assert_allclose(report.executed["arm0/tcp"], chunk.targets["arm0/tcp"][row], atol=1e-9)
        assert report.interventions == {}
    for _ in range(8):
        observation = step(robot)
        assert not observation.report.valid
        assert observation.report.source is Phase.HOLD
    error = observation.state["arm0/tcp_pose"] - chunk.targets["arm0/tcp"][-1]
    np.testing.assert_allclose(error, 0.0, atol=1e-3)
    np.testing.assert_allclose(observation.state["arm0/tcp_velocity"], 0.0, atol=5e-3)


def test_it_settles_within_five_millimetres_without_oscillation(robot):
    """A jump of 2 cm, the worst single step of the default action."""
    observation = step(robot, plan(robot.read(), np.array([[0.0, 0.0, 0.02]])))
    target = observation.report.commanded["arm0/tcp"]
    heights = []
    for _ in range(12):
        observation = step(robot, TargetChunk({"arm0/tcp": target[None]}, observation.step, observation.stamp_ns))
        heights.append(float(observation.state["arm0/tcp_pose"][2]))
    target = target[2]
    assert abs(heights[-1] - target) < 0.001
    assert max(abs(height - target) for height in heights[5:]) < 0.005
    assert max(heights) < target + 0.005


def test_nothing_runs_past_the_open_loop_limit(robot):
    robot.command(plan(robot.read(), np.linspace(0, 0.02, 16)[:, None] * [0, 1, 0]))
    valid = [step(robot).report.valid for _ in range(12)]
    assert valid == [True] * 10 + [False] * 2


def test_the_executed_set_point_is_the_limited_one(robot):
    first = robot.read()
    observation = step(robot, plan(first, np.array([[0.0, 0.0, -0.5]])))
    report = observation.report
    assert report.commanded["arm0/tcp"][2] == pytest.approx(first.report.executed["arm0/tcp"][2] - 0.5)
    assert report.executed["arm0/tcp"][2] > 0.1
    assert {"workspace", "jump", "motion"} <= set(report.interventions)


def test_the_table_and_the_joint_limits_hold_against_a_greedy_plan(robot):
    spec, rng = robot.connect(), np.random.default_rng(0)
    lower, upper = spec.action.parts[0].low[:3], spec.action.parts[0].high[:3]
    joints = np.array([[-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973],
                       [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]])  # fmt: skip
    observation = robot.read()
    for _ in range(12):
        goal = np.concatenate((rng.uniform(-0.9, 0.9, size=3), rng.normal(size=4)))
        goal[3:] /= np.linalg.norm(goal[3:])
        for _ in range(10):
            chunk = TargetChunk({"arm0/tcp": goal[None]}, observation.step, observation.stamp_ns)
            observation = step(robot, chunk)
            reached = observation.report.executed["arm0/tcp"][:3]
            assert (reached >= np.array(lower) - 1e-9).all()
            assert (reached <= np.array(upper) + 1e-9).all()
            q = observation.state["arm0/joint_position"]
            assert (q > joints[0]).all()
            assert (q < joints[1]).all()
            assert np.abs(robot.physics.arm.ctrl).max() <= 80.0


def test_refused_commands_leave_the_plan_in_force(robot):
    first = robot.read()
    robot.command(plan(first, np.array([[0, 0.01, 0], [0, 0.02, 0]])))
    bad = plan(first, np.full((1, 3), np.nan))
    with pytest.raises(CommandRefusedError, match="not finite"):
        robot.command(bad)
    observation = step(robot)
    assert observation.report.valid
    assert observation.report.commanded["arm0/tcp"][1] == pytest.approx(first.report.executed["arm0/tcp"][1] + 0.01)


def test_stop_brakes_and_refuses_until_the_next_reset(robot):
    for _ in range(3):
        observation = step(robot, plan(robot.read(), np.array([[0.0, 0.015, 0.0]])))
    robot.stop()
    robot.stop()
    with pytest.raises(CommandRefusedError, match="Reset"):
        robot.command(plan(observation, np.zeros((1, 3))))
    assert robot.read().mode == "stopped"
    for _ in range(10):
        observation = step(robot)
    assert observation.mode == "stopped"
    np.testing.assert_allclose(observation.state["arm0/tcp_velocity"], 0.0, atol=5e-3)
    assert robot.reset(ResetRequest()).mode == "tracking"
    robot.command(plan(robot.read(), np.zeros((1, 3))))


def test_a_person_takes_over_and_gives_back(robot):
    first = robot.read()
    robot.command(plan(first, np.linspace(0, 0.02, 8)[:, None] * [0, 1, 0]))
    robot.command(plan(first, np.linspace(0, 0.02, 3)[:, None] * [0, -1, 0], source=Phase.HUMAN))
    sources = [step(robot).report.source for _ in range(2)]
    assert sources == [Phase.HUMAN, Phase.HUMAN]
    assert robot.read().report.human is not None
    robot.release_human()
    assert step(robot).report.source is Phase.POLICY


def test_time_passes_only_by_waiting_and_in_parts_of_a_step(robot):
    start = robot.clock.now_ns()
    assert robot.clock.wait_until(start - 1) == start
    assert robot.clock.wait_until(start + 3_000_000) == start + 4_000_000  # whole steps of physics
    assert robot.read().step == 0
    robot.clock.wait_until(start + STEP_NS)
    assert (robot.read().step, robot.read().stamp_ns) == (1, start + STEP_NS)


def test_same_seed_and_actions_give_equal_bits(robot):
    def run(arm: MujocoRobot) -> list[bytes]:
        observation = arm.reset(ResetRequest(simulator_state={"object/cube_pose": CUBE}))
        rng, bits = np.random.default_rng(3), []
        for _ in range(15):
            observation = step(arm, plan(observation, rng.uniform(-0.02, 0.02, size=(1, 3)), rng.uniform()))
            bits.append(arm.physics.data.qpos.tobytes() + arm.physics.data.qvel.tobytes())
        return bits

    once = run(robot)
    with MujocoRobot(SCENE) as other:
        assert run(other) == once
    assert run(robot) == once


def test_quaternions_do_not_flip(robot):
    start = robot.read().report.executed["arm0/tcp"]
    observation = robot.reset(ResetRequest(tcp_pose=start))
    for tick in range(20):
        tilt = 0.1 * np.sin(tick)
        quat = np.array([np.cos(tilt), 0.0, 0.0, np.sin(tilt)])
        pose = np.concatenate((start[:3], -quat))[None]
        chunk = TargetChunk({"arm0/tcp": pose}, observation.step, observation.stamp_ns)
        observation = step(robot, chunk)
        assert observation.state["arm0/tcp_pose"][3] > 0.9


def test_starts_that_cannot_be_are_refused_and_the_robot_stays_stopped(robot):
    for request, message in (
        (ResetRequest(joint_position=np.full(7, 9.0)), "joint position"),
        (ResetRequest(tcp_pose=np.array([3.0, 0, 0, 1, 0, 0, 0])), "cannot reach"),
        (ResetRequest(simulator_state={"object/cup_pose": CUBE}), "Did you mean 'object/cube_pose'"),
        (ResetRequest(simulator_state={"object/cube_pose": CUBE[:3]}), "7 finite numbers"),
        (ResetRequest(simulator_state={"object/cube_pose": CUBE + np.eye(7)[2] * 0.3}), "came to rest"),
        (ResetRequest(simulator_state={"object/cube_pose": CUBE * [1, 1, 1, 0, 0, 0, 0]}), "direction"),
        (ResetRequest(simulator_state={"object/cube_pose": "here"}), "7 finite numbers"),
        (ResetRequest(tcp_pose=np.array([0.5, 0.0, 0.2, 1.0, 0.0, 0.0])), "7 finite numbers"),
        (ResetRequest(tcp_pose=np.array([0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0])), "direction"),
        (ResetRequest(tcp_pose=np.array([0.4, 0.5, 0.2, 1.0, 0.0, 0.0, 0.0])), "outside of the workspace"),
        (ResetRequest(tcp_pose=np.array([0.4, 0.0, 0.65, 1.0, 0.0, 0.0, 0.0])), "outside of the workspace"),
        (ResetRequest(joint_position=HOME + np.eye(7)[6] * 2.1), "joint position"),  # within the margin of its limit
        (ResetRequest(gripper_opening=float("nan")), "gripper"),
    ):
        with pytest.raises(ResetError, match=message):
            robot.reset(request)
        with pytest.raises(CommandRefusedError):
            robot.command(TargetChunk({"arm0/gripper": np.ones((1, 1))}, 0, 0))


@pytest.mark.parametrize("cube", [[0.48, 0.0, 0.2], [0.5, 0.2, 0.02]])
def test_after_a_refused_start_the_arm_rests(robot, cube):
    """The first has the cube in the air between the fingers, the second names something that is not there."""
    robot.reset(ResetRequest(tcp_pose=np.array([0.6, 0.2, 0.3, 1.0, 0.0, 0.0, 0.0])))
    with pytest.raises(ResetError):
        robot.reset(ResetRequest(simulator_state={"object/cube_pose": np.array([*cube, 0, 0, 0, 1])} | (
            {} if cube[2] > 0.1 else {"object/cup_pose": CUBE})))  # fmt: skip
    first = robot.read()
    assert (first.step, first.mode, first.report) == (0, "stopped", None)
    for _ in range(6):
        observation = step(robot)
        np.testing.assert_allclose(observation.state["arm0/tcp_pose"], first.state["arm0/tcp_pose"], atol=1e-3)


def test_a_start_pose_is_reached(robot):
    wanted = np.array([0.55, -0.1, 0.25, 1.0, 0.0, 0.0, 0.0])
    observation = robot.reset(ResetRequest(tcp_pose=wanted))
    np.testing.assert_allclose(observation.state["arm0/tcp_pose"], wanted, atol=1e-4)


def test_diverging_physics_is_told_once_with_the_last_states(tmp_path):
    with MujocoRobot(SCENE, dump_folder=str(tmp_path)) as robot:
        robot.reset(ResetRequest())
        for _ in range(3):
            step(robot, plan(robot.read(), np.zeros((1, 3))))
        robot.physics.data.qvel[0] = np.nan
        with pytest.raises(SimulationDivergedError, match="reset"):
            step(robot)
        assert robot.clock.wait_until(robot.clock.now_ns() + STEP_NS) > 0
        with pytest.raises(CommandRefusedError, match="diverged"):
            robot.command(TargetChunk({"arm0/gripper": np.ones((1, 1))}, 0, 0))
        (dump,) = tmp_path.iterdir()
        with np.load(dump, allow_pickle=False) as states:
            assert states["qpos"].shape == (4, 16)
            assert not np.isfinite(states["qvel_now"]).all()
        assert np.isfinite(robot.reset(ResetRequest()).state["arm0/joint_position"]).all()
        assert step(robot, plan(robot.read(), np.zeros((1, 3)))).report.valid


def test_before_connect_and_after_close_it_says_so():
    robot = MujocoRobot(SCENE)
    with pytest.raises(RobotConnectionError, match="connect"):
        robot.read()
    robot.connect()
    assert robot.read().mode == "stopped"
    robot.close()
    robot.close()
    with pytest.raises(RobotConnectionError):
        robot.reset(ResetRequest())


def test_wrong_settings_are_refused():
    for settings, message in (
        ({"step_rate_hz": 30.0}, "physics step"),
        ({"step_rate_hz": -20.0}, "> 0"),
        ({"step_rate_hz": float("nan")}, "> 0"),
        ({"max_open_loop_s": 5.0}, r"0\.05 s to 0\.5 s"),
        ({"max_open_loop_s": 0.01}, r"0\.05 s to 0\.5 s"),
        ({"limits": {"max_speed_m_s": 99.0}}, "tighter"),
        ({"limits": {"box_lower_m": (0.2, -0.35, 0.0)}}, "tighter"),
        ({"limits": {"max_speed_m_s": "fast"}}, "numbers"),
        ({"box_lower_m": (0.0, 0.0)}, "3 numbers"),
        ({"box_lower_m": (0.25, -0.35, -0.1)}, "tighter"),
        ({"box_upper_m": (9.0, 9.0, 9.0)}, "tighter"),
    ):
        with pytest.raises(ConfigError, match=message):
            MujocoRobot(SCENE, **settings)


def test_a_workspace_without_the_home_pose_is_told_at_connect():
    robot = MujocoRobot(SCENE, box_lower_m=(0.25, -0.35, 0.3))
    for _ in range(2):
        with pytest.raises(ResetError, match="outside of the workspace"):
            robot.connect()


def test_a_stop_while_a_plan_is_being_sent_is_not_lost(robot):
    class StopsMidway(dict):
        def items(self):
            robot.stop()
            return super().items()

    first = robot.read()
    chunk = plan(first, np.full((8, 3), 0.03))
    with pytest.raises(CommandRefusedError, match="stopped"):
        robot.command(TargetChunk(StopsMidway(chunk.targets), 0, 0))
    for _ in range(4):
        observation = step(robot)
    assert observation.report.source is Phase.HOLD
    np.testing.assert_allclose(observation.state["arm0/tcp_pose"], first.state["arm0/tcp_pose"], atol=1e-4)


@pytest.mark.parametrize("source", [Phase.POLICY, Phase.HUMAN])
def test_whoever_takes_over_far_from_the_arm_is_ramped(robot, source):
    observation = robot.read()
    for _ in range(3):
        observation = step(robot, plan(observation, np.array([[0.0, 0.01, 0.0]])))
    far = observation.report.executed["arm0/tcp"] + [0.0, 0.2, 0.0, 0, 0, 0, 0]
    if source is Phase.POLICY:  # back from a person, to a plan that did not know of it
        observation = step(robot, plan(observation, np.zeros((1, 3)), source=Phase.HUMAN))
        robot.release_human()
    speeds, before = [], observation.state["arm0/tcp_pose"][:3]
    for _ in range(5):
        observation = step(robot, TargetChunk({"arm0/tcp": far[None]}, observation.step, observation.stamp_ns, source))
        assert observation.report.source is source
        speeds.append(np.linalg.norm(observation.state["arm0/tcp_velocity"][:3]))
    assert max(speeds) < 0.4
    assert 0.03 < np.linalg.norm(observation.state["arm0/tcp_pose"][:3] - before) < 0.08
    assert observation.report.interventions["jump"] == 1


def test_a_stop_during_the_reset_is_not_lost(robot):
    class StopsMidway(dict):
        def items(self):
            robot.stop()
            return super().items()

    with pytest.raises(ResetError, match="stopped during the reset"):
        robot.reset(ResetRequest(simulator_state=StopsMidway()))
    assert robot.read().mode == "stopped"
    assert robot.reset(ResetRequest()).mode == "tracking"
