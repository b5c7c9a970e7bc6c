"""RobotEnv: what it refuses, what it sends, and how it tells what was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from robot_rl.errors import (
    CommandRefusedError,
    ConfigError,
    FarPlanError,
    RobotError,
    SpecMismatchError,
    StaleObservationError,
)
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionSpec,
    CameraSpec,
    CommandReport,
    EnvSpec,
    EpisodeEnd,
    Frame,
    Observation,
    Phase,
    ResetRequest,
    TargetChunk,
)
from tests.runtime.counting import DELTA, GRIPPER, POSITION, CountingPolicy, ReachTask, Tape, counting_env


@dataclass
class Bent:
    """The fake arm with its spec or its observations changed on the way: a Robot that wraps a Robot."""

    robot: FakeRobot
    spec: Callable[[EnvSpec], EnvSpec] = lambda spec: spec
    seen: Callable[[Observation], Observation] = lambda observation: observation
    closed: int = 0

    def connect(self) -> EnvSpec:
        return self.spec(self.robot.connect())

    def read(self) -> Observation:
        return self.seen(self.robot.read())

    def reset(self, request: ResetRequest) -> Observation:
        return self.robot.reset(request)

    def close(self) -> None:
        self.closed += 1
        self.robot.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self.robot, name)


def bent_env(robot: Bent, task: ReachTask | None = None, action: ActionSpec = POSITION) -> RobotEnv:
    return RobotEnv(robot, task or ReachTask(), action, max_steps=5)  # type: ignore[arg-type]


def test_the_spec_is_the_robots_with_task_and_policy_action() -> None:
    robot = FakeRobot(objects=["cube"])
    env = RobotEnv(robot, ReachTask(), DELTA, max_steps=7, step_rate_hz=10.0)
    assert env.spec == replace(robot.connect(), task="reach_x", action=DELTA, step_rate_hz=10.0)
    assert env.spec.observation["object/cube_pose"].privileged
    assert env.max_steps == 7


def test_a_rule_that_needs_what_is_not_measured_is_refused() -> None:
    robot = Bent(FakeRobot(objects=["cube"]))
    with pytest.raises(SpecMismatchError, match=r"'object/cub_pose'.*Did you mean 'object/cube_pose'"):
        bent_env(robot, ReachTask(requires=frozenset({"object/cub_pose"})))
    assert robot.closed == 1


def test_a_rule_that_needs_simulator_state_is_refused_on_hardware_only() -> None:
    task = ReachTask(requires=frozenset({"object/cube_pose"}))
    assert bent_env(Bent(FakeRobot(objects=["cube"])), task).spec.simulated
    with pytest.raises(SpecMismatchError, match=r"only a simulator knows.*classifier=<run>"):
        bent_env(Bent(FakeRobot(objects=["cube"]), spec=lambda spec: replace(spec, simulated=False)), task)


def test_a_task_whose_rule_needs_simulator_state_runs_on_hardware_when_others_judge() -> None:
    """It is not asked, and where nobody says anything, nobody has judged."""
    robot = Bent(FakeRobot(objects=["cube"]), spec=lambda spec: replace(spec, simulated=False))
    task = ReachTask(requires=frozenset({"object/cube_pose"}), goal_x_m=-9.0)  # a success in every step
    env = RobotEnv(robot, task, POSITION, max_steps=5, rule=False)  # type: ignore[arg-type]
    end = run_episode(env, CountingPolicy(env.spec), seed=0)
    assert end == EpisodeEnd("time_limit", None, 5, 0.0, judged_by="nobody")


def test_a_policy_that_reads_simulator_state_is_refused_on_hardware() -> None:
    robot = Bent(
        FakeRobot(),
        spec=lambda spec: replace(
            spec,
            simulated=False,
            observation={name: replace(array, privileged=True) for name, array in spec.observation.items()},
        ),
    )
    env = bent_env(robot, ReachTask(requires=frozenset()))
    with pytest.raises(SpecMismatchError, match="only a simulator knows"):
        run_episode(env, CountingPolicy(env.spec), seed=0)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (replace(GRIPPER, name="arm0/griper"), "no 'arm0/griper'. Did you mean 'arm0/gripper'"),
        (ActionPart("arm0/tcp", ActionKind.JOINT_DELTA, (-1,) * 7, (1,) * 7), "joint_position targets .*tcp_pose"),
    ],
)
def test_an_action_the_robot_does_not_take_is_refused(part: ActionPart, message: str) -> None:
    with pytest.raises(SpecMismatchError, match=message):
        bent_env(Bent(FakeRobot()), action=ActionSpec((part,)))


def test_a_plan_is_integrated_onto_the_target_in_force_not_onto_the_measurement() -> None:
    env = RobotEnv(FakeRobot(lag=0.5), ReachTask(), DELTA, max_steps=9)
    first = env.reset(0)
    actions = np.tile([0.02, 0.0, 0.0, 1.0], (1, 1))
    after = env.step(env.anchor(actions, first)).observation
    assert after.state["arm0/tcp_pose"][0] == np.float32(0.01)  # lags behind
    np.testing.assert_allclose(env.anchor(actions, after).targets["arm0/tcp"][0, 0], 0.04)
    np.testing.assert_allclose(env.hold().targets["arm0/tcp"][0, 0], 0.02)


def test_what_deltas_are_added_to_stays_near_the_arm_and_can_be_seen() -> None:
    """The arm never moves: after three steps of 20 mm its set point would be 60 mm ahead."""
    env = RobotEnv(FakeRobot(lag=1.0), ReachTask(), DELTA, max_steps=9, observe_set_points=True, max_lead_m=0.03)
    observation = env.reset(0)
    assert env.spec.observation["arm0/tcp_set_point"].shape == (7,)
    start, seen = observation.state["arm0/tcp_pose"][0], []
    for _ in range(3):
        result = env.step(env.anchor(np.array([[0.02, 0.0, 0.0, 1.0]]), observation))
        observation = result.observation
        assert result.action.commanded[0] == pytest.approx(0.02)
        seen.append(observation.state["arm0/tcp_set_point"][0] - start)
    np.testing.assert_allclose(seen, [0.02, 0.03, 0.03], atol=1e-7)
    np.testing.assert_allclose(env.hold().targets["arm0/tcp"][0, 0] - start, 0.03, atol=1e-7)
    with pytest.raises(ConfigError, match="above 0"):
        RobotEnv(FakeRobot(), ReachTask(), DELTA, max_steps=9, max_lead_m=0.0)


def test_commanded_and_executed_are_told_apart() -> None:
    """A safety chain that stops at x = 0.03 m: executed sums to it, commanded stays what was asked."""

    def limited(observation: Observation) -> Observation:
        report = observation.report
        if report is None:
            return observation
        pose = report.executed["arm0/tcp"].copy()
        pose[0] = min(pose[0], 0.03)
        return replace(observation, report=replace(report, executed={**report.executed, "arm0/tcp": pose}))

    env, tape = bent_env(Bent(FakeRobot(), seen=limited), action=DELTA), Tape()
    first = env.reset(0)
    plan = env.anchor(np.tile([0.02, 0.0, 0.0, 1.0], (3, 1)), first)
    rows = [env.step(plan).action for _ in range(3)]
    np.testing.assert_allclose([row.commanded[0] for row in rows], [0.02, 0.02, 0.02], atol=1e-7)
    np.testing.assert_allclose([row.executed[0] for row in rows], [0.02, 0.01, 0.0], atol=1e-7)
    # a new plan starts where the chain stopped: the command has not wound up
    again = env.anchor(np.array([[-0.01, 0.0, 0.0, 1.0]]), env.robot.read())
    np.testing.assert_allclose(again.targets["arm0/tcp"][0, 0], 0.02)
    np.testing.assert_allclose(env.step(again).action.commanded[0], -0.01, atol=1e-7)
    assert not tape.rows


def test_a_step_without_anything_fresh_in_force_is_not_valid() -> None:
    env = counting_env()
    observation = env.reset(0)
    late = TargetChunk({"arm0/tcp": np.tile(observation.state["arm0/tcp_pose"], (2, 1))}, first_step=5, stamp_ns=0)
    result = env.step(late)
    assert not result.action.valid
    assert result.action.source is Phase.HOLD


def test_overruns_are_flagged_and_missed_steps_are_missing() -> None:
    env = counting_env(max_steps=9)
    observation = env.reset(0)
    plan = env.anchor(np.tile([0.1, 0.0, 0.0, 1.0], (8, 1)), observation)
    assert "overrun" not in env.step(plan).info
    env.clock.wait_until(env.clock.now_ns() + int(2.5 * env.spec.step_period_ns))  # thinking for 2.5 steps
    late = env.step(plan)
    assert late.info["overrun"] is True
    assert late.observation.step == 3
    assert not late.action.valid
    assert env.overruns == 1
    assert env.step(plan).observation.step == 4


def test_a_robot_that_stands_still_is_not_alive() -> None:
    env = counting_env()
    env.reset(0)
    assert isinstance(env.robot, FakeRobot)
    env.robot.drill("frozen")
    with pytest.raises(StaleObservationError, match="stamp"):
        env.step(env.hold())
    assert env.robot.mode == "stopped"


def test_a_robot_that_does_not_tell_what_it_commanded_is_refused() -> None:
    env = bent_env(Bent(FakeRobot(), seen=lambda observation: replace(observation, report=None)))
    env.reset(0)
    with pytest.raises(RobotError, match="reports no command"):
        env.step(env.hold())


def test_raw_frames_of_a_simulator_become_the_jpeg_that_policy_and_recorder_see() -> None:
    image = np.full((16, 16, 3), 90, dtype=np.uint8)

    def looking(observation: Observation) -> Observation:
        frame = Frame(image.tobytes(), observation.stamp_ns, observation.step, 16, 16, codec="raw")
        return replace(observation, frames={"front": frame})

    cameras = {"front": CameraSpec(16, 16, 20.0)}
    env, tape = bent_env(Bent(FakeRobot(), lambda spec: replace(spec, cameras=cameras), looking)), Tape()
    run_episode(env, CountingPolicy(env.spec), [tape], seed=0)
    frames = [row.observation.frames["front"] for row in tape.rows[1:]]
    assert {frame.codec for frame in frames} == {"jpeg"}
    np.testing.assert_allclose(decode(frames[0]), image, atol=2)


def test_in_real_time_the_loop_follows_the_clock_of_the_robot() -> None:
    robot = FakeRobot(step_rate_hz=100.0, clock="wall")
    env, tape = RobotEnv(robot, ReachTask(), POSITION, max_steps=15), Tape()
    end = run_episode(env, CountingPolicy(env.spec, 15, 15), [tape], seed=0)
    start = tape.rows[0].observation.stamp_ns
    for row in tape.rows[1:]:
        observation = row.observation
        assert observation.stamp_ns >= start + observation.step * 10_000_000  # never ahead of the grid
        assert observation.stamp_ns <= row.obs_ready_ns <= row.action_sent_ns
    assert end.reason == "time_limit"
    assert tape.ends[0][0].observation.step >= 15
    assert env.overruns == sum(row.overrun for row in tape.rows)
    commanded = [row.action.commanded[0] for row in tape.rows if row.action.valid]
    asked = [row.action.policy[0] for row in tape.rows if row.action.valid]
    np.testing.assert_allclose(commanded, asked, atol=1e-6)


def test_a_step_before_the_first_reset_says_what_to_do() -> None:
    with pytest.raises(RobotError, match=r"reset\(seed\)"):
        counting_env().hold()


def test_a_plan_that_is_over_is_refused() -> None:
    env = counting_env()
    plan = env.anchor(np.zeros((1, 4)), env.reset(0))
    env.step(plan)
    with pytest.raises(CommandRefusedError, match="no rows left"):
        env.step(plan)


def test_the_human_part_is_told_in_policy_units() -> None:
    env = counting_env(action=DELTA)
    observation = env.reset(0)
    assert isinstance(env.robot, FakeRobot)
    env.robot.human({"arm0/tcp": np.array([0.04, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])})
    action = env.step(env.anchor(np.zeros((1, 4)), observation)).action
    assert action.source is Phase.HUMAN
    assert action.human is not None
    np.testing.assert_allclose(action.human, [0.04, 0.0, 0.0, 1.0], atol=1e-7)
    np.testing.assert_allclose(action.commanded, action.human)
    np.testing.assert_allclose(action.policy, 0.0, atol=1e-7)


def test_reports_of_another_source_pass_through() -> None:
    def scripted(observation: Observation) -> Observation:
        report = observation.report
        return observation if report is None else replace(observation, report=_scripted(report))

    env = bent_env(Bent(FakeRobot(), seen=scripted))
    env.reset(0)
    assert env.step(env.hold()).action.source is Phase.SCRIPTED


def _scripted(report: CommandReport) -> CommandReport:
    return replace(report, source=Phase.SCRIPTED)


@pytest.mark.parametrize("error", [FarPlanError, CommandRefusedError])
def test_a_plan_too_far_for_a_held_robot_is_not_followed_and_the_episode_goes_on(
    error: type[CommandRefusedError],
) -> None:
    """Any other refusal ends it."""

    class Held(FakeRobot):
        def command(self, chunk: TargetChunk) -> None:
            if chunk.first_step in (2, 3):
                self._plan = None
                raise error("the arm is held and the plan starts 0.100 m from it")
            super().command(chunk)

    env = RobotEnv(Held(), ReachTask(), POSITION, max_steps=6)  # type: ignore[arg-type]
    tape = Tape()
    if error is CommandRefusedError:
        with pytest.raises(CommandRefusedError, match="is held"):
            run_episode(env, CountingPolicy(env.spec, 1, 1), [tape], seed=0)
        return
    run_episode(env, CountingPolicy(env.spec, 1, 1), [tape], seed=0)
    sources = [row.action.source for row in tape.rows]
    assert sources == [Phase.POLICY] * 2 + [Phase.HOLD] * 2 + [Phase.POLICY] * 2
    assert [row.action.valid for row in tape.rows] == [source is Phase.POLICY for source in sources]
