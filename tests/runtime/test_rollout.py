"""The one loop: order and content of rows, ends, failures, hand-overs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.errors import (
    CommandRefusedError,
    RobotConnectionError,
    RobotError,
    SpecMismatchError,
    StaleObservationError,
)
from robot_rl.interfaces import Clock
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import (
    ActContext,
    ActionChunk,
    ActionSpec,
    Arrays,
    ArraySpec,
    EnvSpec,
    EpisodeEnd,
    Observation,
    Phase,
    ResetRequest,
    StepRow,
)
from tests.runtime.counting import DELTA, POSITION, UNIT_M, CountingPolicy, ReachTask, Tape, counting_env


def fake_of(env: RobotEnv) -> FakeRobot:
    assert isinstance(env.robot, FakeRobot)
    return env.robot


def drill(env: RobotEnv, at_step: int, fault: str) -> Tape:
    """A tape that commands a fault after the row of ``at_step``."""

    class Drill(Tape):
        def on_step(self, row: StepRow) -> None:
            super().on_step(row)
            if row.observation.step == at_step:
                fake_of(env).drill(fault)

    return Drill()


@settings(max_examples=40, deadline=None)
@given(horizon=st.integers(1, 9), execute=st.integers(1, 12), steps=st.integers(1, 30))
def test_no_step_of_a_chunk_is_skipped_or_repeated(horizon: int, execute: int, steps: int) -> None:
    env, tape = counting_env(steps), Tape()
    end = run_episode(env, CountingPolicy(env.spec, horizon, execute), [tape], seed=0)
    asked = np.array([row.action.policy for row in tape.rows])
    np.testing.assert_array_equal(asked[:, 0], np.arange(steps) * UNIT_M)
    every = min(horizon, execute)
    np.testing.assert_array_equal(asked[:, 1], np.arange(steps) // every * UNIT_M)
    np.testing.assert_array_equal([row.decision for row in tape.rows], np.arange(steps) // every)
    np.testing.assert_array_equal([decision.step for decision in tape.decisions], np.arange(0, steps, every))
    np.testing.assert_array_equal([row.action.commanded for row in tape.rows], asked)
    assert (end.reason, end.length, end.success) == ("time_limit", steps, False)


@settings(max_examples=25, deadline=None)
@given(horizon=st.integers(1, 8), execute=st.integers(1, 8))
def test_deltas_add_up_whatever_the_chunks(horizon: int, execute: int) -> None:
    env, tape = counting_env(10, DELTA), Tape()
    run_episode(env, CountingPolicy(env.spec, horizon, execute), [tape], seed=0)
    asked = np.array([row.action.policy for row in tape.rows], dtype=np.float64)
    x_m = tape.ends[0][0].observation.state["arm0/tcp_pose"][0]
    np.testing.assert_allclose(x_m, asked[:, 0].sum(), atol=1e-6)
    np.testing.assert_allclose([row.action.commanded[0] for row in tape.rows], asked[:, 0], atol=1e-8)


def test_rows_hold_the_observation_before_the_action_and_the_end_the_last_one() -> None:
    env, tape = counting_env(5), Tape()
    run_episode(env, CountingPolicy(env.spec, 4, 4), [tape], seed=0)
    x = [float(row.observation.state["arm0/tcp_pose"][0]) for row in tape.rows]
    assert x == [0.0, 0.0, UNIT_M, 2 * UNIT_M, 3 * UNIT_M]  # row t shows what step t - 1 commanded
    ((final, _),) = tape.ends
    assert final.observation.step == 5
    assert final.observation.state["arm0/tcp_pose"][0] == 4 * UNIT_M
    assert not final.action.valid
    assert not final.action.commanded.any()
    assert [row.truncated for row in tape.rows] == [False] * 4 + [True]
    stamps = [row.observation.stamp_ns for row in tape.rows]
    assert stamps == [0, 50_000_000, 100_000_000, 150_000_000, 200_000_000]
    assert [row.action_sent_ns for row in tape.rows] == [row.obs_ready_ns for row in tape.rows] == stamps


def test_success_terminates_and_is_no_truncation() -> None:
    env, tape = counting_env(50, goal_x_m=6 * UNIT_M), Tape()
    end = run_episode(env, CountingPolicy(env.spec), [tape], seed=0)
    assert end == EpisodeEnd("success", True, 7, 1.0)
    assert tape.rows[-1].terminated
    assert not tape.rows[-1].truncated


def test_decisions_are_announced_with_noise_and_their_version() -> None:
    env, tape = counting_env(6), Tape()
    run_episode(env, CountingPolicy(env.spec, 4, 3), [tape], seed=0)
    assert [decision.index for decision in tape.decisions] == [0, 1]
    np.testing.assert_array_equal(tape.decisions[1].extras["noise"], [2.0, 2.0, 2.0])
    assert tape.decisions[1].planned.shape == (4, 4)
    assert [row.policy_version for row in tape.rows] == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(("steps", "from_a_new_plan"), [(4, False), (6, True)])
def test_extras_reach_every_row_and_the_final_one_without_a_decision_of_its_own(
    steps: int, from_a_new_plan: bool
) -> None:
    env, tape = counting_env(steps), Tape()
    policy = CountingPolicy(env.spec, 5, 3, records=True)
    run_episode(env, policy, [tape], seed=0)
    for row in tape.rows:
        np.testing.assert_array_equal(row.extras["base_action"], row.action.policy + np.float32(1))
    final = tape.ends[0][0]
    assert final.extras["base_action"][0] == np.float32(steps * UNIT_M + 1)
    assert len(policy.contexts) == 2 + from_a_new_plan
    assert len(tape.decisions) == 2
    assert final.decision == -1


def test_decisions_are_told_how_many_steps_late_the_last_ones_were() -> None:
    """Thinking takes 7.5, 2.5, 0.9 and 1 steps of the robot's clock, then none. The first is not counted: nothing was
    in force yet. Ten decisions later 2.5 is forgotten, two more and 1 is."""
    env, thinking = counting_env(60), [7.5, 2.5, 0.9, 1.0]

    class Slow(CountingPolicy):
        def act(self, window: Arrays, context: ActContext) -> ActionChunk:
            steps = dict(enumerate(thinking)).get(len(self.contexts), 0.0)
            env.clock.wait_until(env.clock.now_ns() + round(steps * env.spec.step_period_ns))
            return super().act(window, context)

    policy = Slow(env.spec, 12, 1)
    run_episode(env, policy, seed=0)
    delays = [int(context.delay_steps[0]) for context in policy.contexts]
    assert delays[:20] == [0, 0, *[2] * 10, 1, 1, *[0] * 6]


def test_a_window_repeats_the_first_observation() -> None:
    env = counting_env(3)
    policy = CountingPolicy(env.spec, 1, 1, history=3)
    run_episode(env, policy, seed=0)
    seen = [window["arm0/tcp_pose"][0, :, 0].tolist() for window in policy.windows]
    assert seen == [[0, 0, 0], [0, 0, 0], [0, 0, UNIT_M]]


def test_both_edges_of_an_intervention_void_the_plan() -> None:
    env, person = counting_env(14), np.array([0.5, 0.5, 0.5, 1.0, 0.0, 0.0, 0.0])

    class Intervention(Tape):
        def on_step(self, row: StepRow) -> None:
            super().on_step(row)
            if row.observation.step == 2:
                fake_of(env).human({"arm0/tcp": person})
            if row.observation.step == 7:
                fake_of(env).human(None)

    tape, policy = Intervention(), CountingPolicy(env.spec, 10, 10)
    run_episode(env, policy, [tape], seed=0)
    sources = [row.action.source for row in tape.rows]
    held = Phase.HOLD  # the step in which the person let go: nothing stale was in force
    assert sources == [Phase.POLICY] * 3 + [Phase.HUMAN] * 5 + [held] + [Phase.POLICY] * 5
    assert [decision.step for decision in tape.decisions] == [0, 4, 9]
    assert [bool(context.takeover[0]) for context in policy.contexts] == [False, False, True]
    np.testing.assert_allclose(tape.rows[8].action.commanded[:3], [0.5, 0.5, 0.5])
    np.testing.assert_allclose([row.action.commanded[0] for row in tape.rows[3:8]], 0.5)
    np.testing.assert_array_equal(tape.rows[5].action.human, [0.5, 0.5, 0.5, 0.0])
    np.testing.assert_array_equal([row.action.policy[0] for row in tape.rows], np.arange(14) * UNIT_M)


def test_after_a_take_over_deltas_start_at_the_measured_pose() -> None:
    env = counting_env(8, DELTA)

    class Intervention(Tape):
        def on_step(self, row: StepRow) -> None:
            super().on_step(row)
            moved = np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
            fake_of(env).human({"arm0/tcp": moved} if row.observation.step < 3 else None)

    tape = Intervention()
    run_episode(env, CountingPolicy(env.spec, 8, 8), [tape], seed=0)
    x_m = [float(row.observation.state["arm0/tcp_pose"][0]) for row in tape.rows[4:]]
    np.testing.assert_allclose(np.diff(x_m)[1:], np.array([5, 6]) * UNIT_M, atol=1e-6)
    assert x_m[0] == 0.5


def test_what_is_left_of_a_plan_at_the_end_of_an_episode_moves_nothing_any_more() -> None:
    env = counting_env(3, DELTA)
    run_episode(env, CountingPolicy(env.spec, 8, 8), [], seed=0)
    assert fake_of(env).mode == "stopped"
    at_end = fake_of(env).read().state["arm0/tcp_pose"]
    env.clock.wait_until(env.clock.now_ns() + 5 * env.spec.step_period_ns)
    np.testing.assert_array_equal(fake_of(env).read().state["arm0/tcp_pose"], at_end)


@pytest.mark.parametrize("fault", ["silent", "frozen", "nan"])
def test_a_stream_that_fails_stops_the_robot_and_ends_at_the_last_good_observation(fault: str) -> None:
    env = counting_env(20)
    tape = drill(env, at_step=4, fault=fault)
    with pytest.raises(StaleObservationError if fault != "nan" else RobotError):
        run_episode(env, CountingPolicy(env.spec), [tape], seed=0)
    ((final, end),) = tape.ends
    assert (end.success, end.length) == (None, 5)
    assert end.reason.startswith("fault: ")
    assert final.observation.step == 5
    assert final.truncated
    assert fake_of(env).mode == "stopped"


def test_a_fault_the_arm_reports_truncates_and_returns() -> None:
    env, tape = counting_env(20), Tape()

    class Drill(Tape):
        def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
            fake_of(env).drill("protective_stop", after_steps=5)

    end = run_episode(env, CountingPolicy(env.spec), [Drill(), tape], seed=0)
    assert end == EpisodeEnd("fault: protective stop (drill)", False, 5)
    assert tape.rows[-1].truncated
    assert not any(row.terminated for row in tape.rows)
    assert len(tape.ends) == 1


def test_a_refused_command_ends_the_episode_where_it_stood() -> None:
    env = counting_env(20)
    tape = drill(env, at_step=4, fault="protective_stop")
    with pytest.raises(CommandRefusedError, match="protective stop"):
        run_episode(env, CountingPolicy(env.spec), [tape], seed=0)
    assert tape.ends[0][1].length == 5


@pytest.mark.parametrize("where", ["step", "reset", "end"])
def test_a_listener_that_raises_stops_the_robot_and_every_started_one_hears_the_end_once(where: str) -> None:
    env, before, after = counting_env(6), Tape(), Tape()
    broken = Tape(fail_at=3 if where == "step" else None, fail_at_reset=where == "reset", fail_at_end=where == "end")
    with pytest.raises(OSError, match=f"on_{where} failed"):
        run_episode(env, CountingPolicy(env.spec), [before, broken, after], seed=0)
    assert fake_of(env).mode == "stopped"
    assert len(before.ends) == 1
    assert len(broken.ends) == len(after.ends) == (0 if where == "reset" else 1)
    assert len(before.rows) == {"step": 4, "reset": 0, "end": 6}[where]
    assert before.ends[0][0].observation.step == {"step": 4, "reset": 0, "end": 6}[where]


def test_an_interrupt_stops_first_and_is_the_operators_end() -> None:
    env = counting_env(20)

    class CtrlC(Tape):
        def on_step(self, row: StepRow) -> None:
            super().on_step(row)
            if row.observation.step == 2:
                raise KeyboardInterrupt

    tape = CtrlC()
    with pytest.raises(KeyboardInterrupt):
        run_episode(env, CountingPolicy(env.spec, records=True), [tape], seed=0)
    final, end = tape.ends[0]
    assert end.reason == "operator"
    assert not final.extras["base_action"].any()
    assert fake_of(env).mode == "stopped"


def test_a_reset_that_fails_starts_no_episode() -> None:
    class Unreachable(ReachTask):
        def reset_request(self, seed: int) -> ResetRequest:
            raise RobotError("no such start")

    env, tape = RobotEnv(FakeRobot(), Unreachable(), DELTA, 5), Tape()
    with pytest.raises(RobotError, match="no such start"):
        run_episode(env, CountingPolicy(env.spec), [tape], seed=0)
    assert not tape.ends
    assert fake_of(env).mode == "stopped"


def test_a_robot_that_is_gone_keeps_nobody_from_hearing_the_end() -> None:
    """Neither its clock nor its stop answers any more; the first error is the one that is raised."""

    class Gone(FakeRobot):
        dead = False

        @property
        def clock(self) -> Clock:
            if self.dead:
                raise RobotConnectionError("the line is dead")
            return super().clock

        def read(self) -> Observation:
            self.dead = super().read().step == 3
            return super().read()

        def stop(self) -> None:
            if self.dead:
                raise RobotConnectionError("no answer to stop")

    tape = Tape()
    env = RobotEnv(Gone(), ReachTask(), POSITION, 20)
    with pytest.raises(RobotConnectionError, match="the line is dead") as raised:
        run_episode(env, CountingPolicy(env.spec), [tape], seed=0)
    assert any("no answer to stop" in note for note in raised.value.__notes__)
    assert [end.length for _, end in tape.ends] == [2]


def test_the_next_reset_resumes_after_a_failure() -> None:
    env = counting_env(6)
    with pytest.raises(OSError, match="on_step"):
        run_episode(env, CountingPolicy(env.spec), [Tape(fail_at=1)], seed=0)
    assert run_episode(env, CountingPolicy(env.spec), seed=0).length == 6


def test_a_scripted_source_is_told_to_the_robot_and_stored() -> None:
    env, tape = counting_env(3), Tape()
    run_episode(env, CountingPolicy(env.spec), [tape], seed=0, source=Phase.SCRIPTED)
    assert [row.action.source for row in tape.rows] == [Phase.SCRIPTED] * 3


def test_a_policy_for_other_actions_or_observations_is_refused_before_anything_moves() -> None:
    env = counting_env(3)
    with pytest.raises(SpecMismatchError, match="tcp_position_delta"):
        run_episode(env, CountingPolicy(counting_env(3, DELTA).spec), seed=0)
    wider = replace(env.spec, observation={"arm0/tcp_pose": ArraySpec((9,))})
    with pytest.raises(SpecMismatchError, match="tcp_pose"):
        run_episode(env, CountingPolicy(wider), seed=0)
    assert fake_of(env).mode == "stopped"


def test_two_listeners_hear_the_same_rows() -> None:
    env, first, second = counting_env(4), Tape(), Tape()
    run_episode(env, CountingPolicy(env.spec), [first, second], seed=0)
    assert all(one is other for one, other in zip(first.rows, second.rows, strict=True))


def test_an_action_spec_given_as_a_list_is_the_same_spec() -> None:
    listed = RobotEnv(FakeRobot(), ReachTask(), ActionSpec(list(DELTA.parts)), 3)  # type: ignore[arg-type]
    assert listed.spec.action == DELTA
