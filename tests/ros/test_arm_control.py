"""Who commands the arm and when it brakes, tick by tick: steps of 50 ms from step 0 on, ticks of 10 ms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError, FarPlanError
from robot_rl.types import Phase, TargetChunk
from robot_rl_bridge.arm_description import GRIPPER, JOINTS, TCP, CommandTopic
from robot_rl_bridge.modes import Mode
from tests.ros.driven_arm import MS, TICK, Loop, speeds

pytestmark = pytest.mark.robot


@pytest.fixture
def loop() -> Loop:
    loop = Loop()
    loop.begin()
    return loop


def x(loop: Loop) -> float:
    return float(loop.control.servo.pose[0])


def test_idle_sends_nothing_and_an_activated_arm_is_held_where_it_is() -> None:
    loop = Loop()
    loop.tick(3)
    assert loop.sent == []
    loop.joints = loop.joints + 0.02
    loop.control.activate(loop.measured, loop.now)
    here = loop.arm.chain.pose(loop.joints)
    loop.tick(20)
    np.testing.assert_allclose([point.pose for point in loop.sent], np.tile(here, (20, 1)), atol=1e-6)
    assert loop.control.modes.text == "stopped: activated"
    with pytest.raises(CommandRefusedError, match="stopped: activated"):
        loop.submit(loop.plan([0.01]))


def test_an_arm_outside_of_its_workspace_is_not_activated() -> None:
    loop = Loop()
    loop.joints = np.array([1.5, 0.0, 0.0, -2.4, 0.0, 2.4, 0.8])  # turned to the side, y = 0.48 m
    with pytest.raises(CommandRefusedError, match="outside of its workspace"):
        loop.control.activate(loop.measured, loop.now)
    loop.joints = loop.arm.home + np.eye(7)[3] * 3.0
    with pytest.raises(CommandRefusedError):
        loop.control.activate(loop.measured, loop.now)


def test_rows_are_reached_at_the_ends_of_their_steps(loop: Loop) -> None:
    start = x(loop)
    loop.submit(loop.plan([0.002, 0.006, 0.010, 0.012, 0.012]))
    for row in (0.002, 0.006, 0.010, 0.012):
        loop.tick(5)
        assert x(loop) - start == pytest.approx(row, abs=5e-5)
    assert loop.control.modes.text == "tracking"


def test_a_plan_in_the_first_half_of_a_step_is_reached_at_its_end_all_the_same(loop: Loop) -> None:
    start = x(loop)
    loop.tick(2)  # 20 ms into step 0
    loop.submit(loop.plan([0.001, 0.002]))
    loop.tick(3)
    assert x(loop) - start == pytest.approx(0.001, abs=2e-4)


def test_a_plan_in_the_second_half_of_a_step_heads_for_the_next_row(loop: Loop) -> None:
    start = x(loop)
    loop.tick(4)  # 40 ms into step 0: row 0 is due in 10 ms
    loop.submit(loop.plan([0.001, 0.002, 0.002]))
    loop.tick(6)
    assert x(loop) - start == pytest.approx(0.002, abs=2e-4)
    assert speeds(loop.sent).max() < 0.06  # not 0.1, which catching up with row 0 would take


def test_rows_that_are_past_are_dropped_and_counted(loop: Loop) -> None:
    start, plan = x(loop), loop.plan([0.01, 0.01, 0.002, 0.004])
    loop.tick(10)
    loop.submit(plan)  # in step 2
    loop.tick(10)
    assert loop.control.counts["late rows"] == 2
    assert x(loop) - start == pytest.approx(0.004, abs=2e-4)
    assert max(point.pose[0] for point in loop.sent) < start + 0.0045


def test_a_plan_whose_rows_are_all_past_moves_nothing(loop: Loop) -> None:
    start, plan = x(loop), loop.plan([0.01, 0.01])
    loop.tick(15)
    loop.submit(plan)
    loop.tick(10)
    assert x(loop) == pytest.approx(start, abs=1e-9)


def test_latency_of_the_arm_is_compensated_by_sending_earlier() -> None:
    command = CommandTopic("tcp_pose", "target_pose", 0.1, latency_s=0.05)
    loop = Loop(command=command)
    loop.begin()
    start = x(loop)
    loop.submit(loop.plan([0.5, 0.001, 0.003, 0.004, 0.004]))  # row 0 can no longer be reached in time
    for row in (0.001, 0.003, 0.004):
        loop.tick(5)
        assert x(loop) - start == pytest.approx(row, abs=1e-4)


def test_the_report_tells_of_the_step_that_ended(loop: Loop) -> None:
    first = loop.control.report(-1)
    assert first is not None and first.source is Phase.RESET
    loop.submit(loop.plan([0.002, 0.004]))
    loop.tick(6)
    report = loop.control.report(0)
    assert report is not None
    assert (report.step, report.source, report.valid) == (0, Phase.POLICY, True)
    np.testing.assert_allclose(report.commanded[TCP][0], loop.arm.chain.pose(loop.arm.home)[0] + 0.002, atol=1e-6)
    np.testing.assert_allclose(report.executed[TCP], report.commanded[TCP], atol=1e-4)


def test_where_nothing_came_the_report_is_not_valid(loop: Loop) -> None:
    loop.tick(6)
    report = loop.control.report(0)
    assert report is not None
    assert (report.source, report.valid) == (Phase.HOLD, False)


def test_single_rows_streamed_with_a_delay_leave_no_gaps(loop: Loop) -> None:
    start = x(loop)
    for step in range(30):
        loop.tick(1)  # 10 ms after the step began
        loop.submit(replace(loop.plan([0.0]), targets=row(start + 0.005 * (step + 1), loop)))
        loop.tick(4)
    steady = speeds(loop.sent)[50:]
    assert steady.min() > 0.08 and steady.max() < 0.12  # 5 mm per 50 ms
    assert x(loop) - start == pytest.approx(0.15, abs=1e-3)


def row(at: float, loop: Loop) -> dict[str, np.ndarray]:
    pose = loop.control.servo.pose
    pose[0] = at
    return {TCP: pose[None], GRIPPER: np.ones((1, 1))}


# --- limits ---------------------------------------------------------------------------------------------------------


def far(loop: Loop, rows: int = 40) -> TargetChunk:
    """A plan that goes on at 0.1 m/s."""
    return loop.plan([0.005 * (i + 1) for i in range(rows)])


def test_a_client_that_falls_silent_is_followed_for_a_quarter_of_a_second(loop: Loop) -> None:
    loop.submit(far(loop))
    loop.tick(10)
    loop.alive = False  # heard last at 90 ms
    loop.tick(25)
    assert loop.control.modes.mode is Mode.TRACKING  # at 340 ms
    loop.tick(2)
    assert loop.control.modes.text == "holding: client silent"
    reached, braked = loop.control.halted_ns
    assert reached - (loop.now - 37 * TICK) == 340 * MS
    assert 0 <= braked - reached <= 20 * MS
    loop.tick(30)
    assert loop.control.at_rest


def test_a_plan_runs_half_a_second_past_its_arrival(loop: Loop) -> None:
    loop.submit(far(loop))
    loop.tick(50)
    speed = speeds(loop.sent)
    loop.tick(20)
    assert speed[-1] > 0.09  # until 500 ms
    assert loop.control.modes.text == "holding: nothing in force"
    assert loop.control.at_rest


def test_a_plan_that_ends_comes_to_rest_at_its_last_row_within_a_tenth_of_a_second(loop: Loop) -> None:
    start = x(loop)
    loop.submit(loop.plan([0.003, 0.006, 0.009]))
    loop.tick(15)
    assert loop.control.modes.mode is Mode.TRACKING
    loop.tick(11)
    assert loop.control.modes.text == "holding: nothing in force"
    assert x(loop) - start == pytest.approx(0.009, abs=2e-3)


def test_a_silent_stream_brakes_at_once_and_blocks_a_person_too(loop: Loop) -> None:
    loop.submit(far(loop))
    loop.tick(10)
    loop.silent = "joint_states"
    loop.control.human.hear(np.array([0.1, 0, 0, 0, 0, 0]), "base", loop.now)
    loop.tick(2)
    assert loop.control.modes.text == "holding: joint_states silent"
    loop.tick(15)
    assert loop.control.at_rest


def test_after_a_hold_only_a_plan_that_starts_near_the_arm_goes_on(loop: Loop) -> None:
    loop.submit(far(loop))
    loop.tick(10)
    loop.control.hold("front silent", loop.now)
    loop.tick(30)
    with pytest.raises(CommandRefusedError, match=r"plan starts 0\.100 m"):
        loop.submit(loop.plan([0.1, 0.1]))
    assert loop.control.counts["far plans"] == 1
    loop.submit(loop.plan([0.002, 0.004]))
    loop.tick(5)
    assert loop.control.modes.text == "tracking"


def test_a_standstill_of_control_is_a_hold_at_the_place_that_is_measured_then(loop: Loop) -> None:
    loop.submit(far(loop))
    loop.tick(10)
    old = loop.measured
    loop.now += 2_000 * MS
    sent = len(loop.sent)
    assert loop.control.tick(loop.now, old) is None  # nothing is sent on what was measured before
    loop.joints = loop.joints + 0.01
    loop.now += TICK
    loop.tick(5)
    assert loop.control.modes.text == "holding: control stood still"
    here = loop.arm.chain.pose(loop.joints)
    np.testing.assert_allclose([p.pose for p in loop.sent[sent:]], np.tile(here, (5, 1)), atol=1e-4)


@pytest.mark.parametrize("mode", ["idle", "stopped", "holding", "tracking", "teleop", "resetting", "fault"])
def test_stop_works_in_every_mode(mode: str) -> None:
    loop = Loop()
    if mode != "idle":
        loop.begin()
    if mode == "stopped":
        loop.control.stop()
    elif mode == "holding":
        loop.control.enable(loop.measured, loop.now)
    elif mode == "tracking":
        loop.submit(far(loop))
        loop.tick(5)
    elif mode == "teleop":
        loop.control.human.hear(np.array([0.1, 0, 0, 0, 0, 0]), "base", loop.now)
        loop.tick(5)
    elif mode == "resetting":
        loop.control.begin_reset(loop.measured, loop.now, "")
    elif mode == "fault":
        loop.control.fail("reflex")
    assert loop.control.modes.mode == mode
    loop.control.stop()
    assert loop.control.modes.mode in (Mode.STOPPED, Mode.IDLE, Mode.FAULT)
    loop.tick(20)
    assert loop.control.at_rest
    with pytest.raises(CommandRefusedError):
        loop.submit(loop.plan([0.001]))


def test_a_fault_stays_until_it_is_cleared(loop: Loop) -> None:
    loop.control.fail("reflex")
    for act in (
        lambda: loop.control.enable(loop.measured, loop.now),
        lambda: loop.control.begin_reset(loop.measured, loop.now, ""),
        lambda: loop.submit(loop.plan([0.001])),
    ):
        with pytest.raises(CommandRefusedError, match="fault: reflex"):
            act()
    loop.control.hold("x", loop.now)
    loop.control.stop()
    loop.tick(3)
    assert loop.control.modes.text == "fault: reflex"
    loop.control.clear_fault(loop.measured, loop.now)
    assert loop.control.modes.text == "stopped: fault cleared"
    assert loop.heard[-2:] == ["fault: reflex", "stopped: fault cleared"]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda plan: replace(plan, targets={TCP: plan.targets[TCP] * np.nan}), "finite"),
        (lambda plan: replace(plan, frame="camera"), "frame 'camera'"),
        (lambda plan: replace(plan, targets={"arm0/joints": np.zeros((1, 7))}), "takes no 'arm0/joints'"),
        (lambda plan: replace(plan, stamp_ns=plan.stamp_ns - 1_001 * MS), "1.00 s ago|before|reset at"),
        (lambda plan: replace(plan, stamp_ns=plan.stamp_ns + 60 * MS), "now"),
        (lambda plan: replace(plan, targets={TCP: plan.targets[TCP] * 2.0}), "quaternion"),
    ],
)
def test_a_plan_that_is_none_is_refused_and_the_one_in_force_runs_on(loop: Loop, spoil: object, why: str) -> None:
    loop.tick(2)
    loop.submit(loop.plan([0.002, 0.004]))
    with pytest.raises(CommandRefusedError, match=why):
        loop.submit(spoil(loop.plan([0.001, 0.001])))  # type: ignore[operator]
    loop.tick(8)
    assert loop.control.modes.text == "tracking"


def test_a_jump_of_30_cm_stays_within_the_limits(loop: Loop) -> None:
    start = loop.control.servo.pose
    for _ in range(20):
        rows = np.tile(start, (4, 1))
        rows[:, 1] += 0.3
        loop.submit(TargetChunk({TCP: rows, GRIPPER: np.ones((4, 1))}, loop.step(), loop.now))
        loop.tick(5)
    limits, speed = loop.arm.safety_limits, speeds(loop.sent)
    assert speed[:30].max() < 0.3  # who takes over is ramped until near
    assert speed.max() < limits.max_speed_m_s
    assert np.abs(np.diff(speed)).max() / 0.01 < limits.max_acceleration_m_s2
    assert loop.control.counts["jump"] > 0


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_person_takes_over_within_a_tick_and_the_policy_gets_the_arm_back_smoothly(loop: Loop) -> None:
    loop.submit(far(loop))
    loop.tick(12)
    for _ in range(4):
        loop.control.human.hear(np.array([0.0, 0.1, 0, 0, 0, 0]), "base", loop.now)
        loop.submit(far(loop, 4))
        loop.tick(5)
        assert loop.control.modes.text == "teleop"
    assert loop.control.servo.pose[1] > 0.01
    report = loop.control.report(loop.step() - 1)
    assert report is not None and report.source is Phase.HUMAN and report.human is not None
    loop.control.hand_back()
    for _ in range(12):
        loop.submit(loop.plan([0.0, 0.0]))
        loop.tick(5)
    assert loop.control.modes.text == "tracking"
    assert np.abs(np.diff(speeds(loop.sent))).max() / 0.01 < loop.arm.safety_limits.max_acceleration_m_s2


def test_a_person_whose_stream_ends_is_obeyed_for_a_quarter_of_a_second(loop: Loop) -> None:
    loop.control.human.hear(np.array([0.1, 0, 0, 0, 0, 0]), "base", loop.now)
    start = x(loop)
    loop.tick(25)
    assert x(loop) - start > 0.012
    loop.tick(25)
    assert loop.control.at_rest
    assert loop.control.modes.mode is Mode.HOLDING


def test_a_person_who_commands_nothing_holds_the_arm_against_the_policy(loop: Loop) -> None:
    loop.submit(far(loop))
    loop.tick(12)
    for _ in range(6):
        loop.control.human.hear(np.zeros(6), "base", loop.now)
        loop.submit(far(loop, 4))
        loop.tick(5)
    assert loop.control.modes.text == "teleop"
    assert loop.control.at_rest


def test_velocities_in_the_tool_frame_are_turned(loop: Loop) -> None:
    start = loop.control.servo.pose  # the tool points down: its z is -z of the base
    for _ in range(4):
        loop.control.human.hear(np.array([0, 0, 0.05, 0, 0, 0]), "tool", loop.now)
        loop.tick(5)
    assert loop.control.servo.pose[2] < start[2] - 0.005


def test_a_person_moves_nothing_while_commands_are_refused(loop: Loop) -> None:
    loop.control.stop()
    loop.control.human.hear(np.array([0.1, 0, 0, 0, 0, 0]), "base", loop.now)
    start = x(loop)
    loop.tick(20)
    assert x(loop) == pytest.approx(start, abs=1e-9)


@pytest.mark.parametrize(
    ("twist", "frame"), [([np.nan] * 6, "base"), ([0.0] * 5, "base"), ([0.0] * 6, "camera"), ([99.0] * 6, "base")]
)
def test_what_is_no_velocity_is_refused(loop: Loop, twist: list[float], frame: str) -> None:
    with pytest.raises(CommandRefusedError):
        loop.control.human.hear(np.array(twist), frame, loop.now)


# --- joints -----------------------------------------------------------------------------------------------------------


def test_an_arm_commanded_by_joints_follows_them() -> None:
    loop = Loop(JOINTS, "sim_ur5e")
    loop.begin()
    rows = loop.arm.home + np.outer([0.002, 0.004, 0.005], np.ones(6))
    loop.submit(TargetChunk({JOINTS: rows, GRIPPER: np.zeros((3, 1))}, 0, loop.now))
    loop.tick(15)
    np.testing.assert_allclose(loop.joints, rows[-1], atol=1e-4)
    assert loop.opening < 0.7  # closing at 4 /s once the debounce is over


def test_an_arm_that_takes_joints_can_be_commanded_by_poses() -> None:
    loop = Loop(TCP, "sim_ur5e")
    loop.begin()
    start = x(loop)
    loop.submit(loop.plan([0.002, 0.004, 0.005, 0.005]))
    loop.tick(25)
    assert loop.arm.chain.pose(loop.joints)[0] - start == pytest.approx(0.005, abs=2e-4)


# --- the gate after a hold ------------------------------------------------------------------------------------------


def test_a_plan_that_is_refused_opens_no_gate(loop: Loop) -> None:
    loop.submit(far(loop))
    loop.tick(10)
    loop.control.hold("front silent", loop.now)
    loop.tick(30)
    with pytest.raises(CommandRefusedError, match="limit: now"):
        loop.submit(replace(loop.plan([0.0]), stamp_ns=loop.now + 200 * MS))
    with pytest.raises(CommandRefusedError, match="plan starts"):
        loop.submit(loop.plan([0.3, 0.3]))


def left_by_a_person(loop: Loop) -> None:
    """Moved along y for 0.2 s by a person whose stream then ends without another word; the policy plans on."""
    for _ in range(4):
        loop.submit(loop.plan([0.2] * 10))
        loop.control.human.hear(np.array([0.0, 0.1, 0, 0, 0, 0]), "base", loop.now)
        loop.tick(5)
    for _ in range(16):
        loop.submit(loop.plan([0.001] * 10))
        loop.tick(5)


def test_an_arm_that_a_person_left_is_held_whatever_the_policy_plans(loop: Loop) -> None:
    left_by_a_person(loop)
    start = loop.control.servo.pose
    for offset_m in (0.001, 0.2):  # a plan far off is not even refused: nobody follows it
        for _ in range(20):
            loop.submit(loop.plan([offset_m] * 10))
            loop.tick(5)
        assert loop.control.modes.text == "holding: the person commands no more and has not handed back"
        np.testing.assert_allclose(loop.control.servo.pose, start, atol=1e-6)
        report = loop.control.report(loop.step() - 1)
        assert report is not None and (report.source, report.valid) == (Phase.HOLD, False)


def test_what_was_planned_before_the_arm_is_handed_back_is_not_followed(loop: Loop) -> None:
    left_by_a_person(loop)
    start = x(loop)
    loop.submit(loop.plan([0.2] * 10))
    loop.control.hand_back()
    loop.tick(10)
    assert loop.control.modes.text == "holding: handed back"
    assert x(loop) == pytest.approx(start, abs=1e-6)
    with pytest.raises(FarPlanError, match="plan starts"):
        loop.submit(loop.plan([0.2] * 10))
    assert loop.control.counts["far plans"] == 1
    loop.submit(loop.plan([0.002, 0.004]))
    loop.tick(5)
    assert loop.control.modes.text == "tracking"


def paused_and_resumed(loop: Loop) -> None:
    loop.control.stop("paused", keep=True)
    loop.tick(40)
    loop.control.enable(loop.measured, loop.now, "resumed", keep=True)


@pytest.mark.parametrize("before", ["tracking", "stopped", "enabled"])
def test_an_arm_that_is_enabled_goes_on_with_a_plan_that_starts_near_it(loop: Loop, before: str) -> None:
    loop.submit(far(loop))
    loop.tick(10)
    if before == "tracking":
        paused_and_resumed(loop)
        assert loop.control.modes.text == "holding: resumed"
    else:
        if before == "stopped":
            loop.control.stop()
            loop.tick(40)
        loop.control.enable(loop.measured, loop.now)
        loop.tick(40)
    start = x(loop)
    with pytest.raises(FarPlanError, match=r"plan starts 0\.200 m"):
        loop.submit(loop.plan([0.2] * 10))
    loop.tick(10)
    assert x(loop) == pytest.approx(start, abs=1e-6)
    loop.submit(loop.plan([0.002, 0.004]))
    loop.tick(5)
    assert loop.control.modes.text == "tracking"


@pytest.mark.parametrize("heard", [False, True])
def test_a_pause_hands_nothing_back(loop: Loop, heard: bool) -> None:
    left_by_a_person(loop)
    if heard:  # when it is paused
        loop.control.human.hear(np.array([0.0, 0.1, 0, 0, 0, 0]), "base", loop.now)
        loop.tick(5)
        assert loop.control.modes.text == "teleop"
    paused_and_resumed(loop)
    start = loop.control.servo.pose
    for offset_m in (0.001, 0.2):
        for _ in range(10):
            loop.submit(loop.plan([offset_m] * 10))
            loop.tick(5)
        assert loop.control.modes.text == "holding: the person commands no more and has not handed back"
        np.testing.assert_allclose(loop.control.servo.pose, start, atol=1e-6)
    loop.control.hand_back()
    with pytest.raises(FarPlanError, match="plan starts"):
        loop.submit(loop.plan([0.2] * 10))
    loop.submit(loop.plan([0.002, 0.004]))
    loop.tick(5)
    assert loop.control.modes.text == "tracking"


def test_who_hands_back_while_still_heard_commands_no_more(loop: Loop) -> None:
    for _ in range(4):
        loop.control.human.hear(np.array([0.0, 0.1, 0, 0, 0, 0]), "base", loop.now)
        loop.tick(5)
    loop.control.hand_back()
    loop.tick(1)
    assert loop.control.modes.text == "holding: handed back"
    loop.control.hand_back()  # once is enough
    loop.tick(20)
    assert loop.control.at_rest


@pytest.mark.parametrize("by", ["person", "reset", "enable"])
def test_an_arm_that_a_person_left_is_taken_over_by_an_act_of_somebody(loop: Loop, by: str) -> None:
    left_by_a_person(loop)
    loop.tick(20)
    if by == "person":
        loop.control.human.hear(np.array([0.0, 0.1, 0, 0, 0, 0]), "base", loop.now)
        loop.tick(5)
        assert loop.control.modes.text == "teleop"
        return
    if by == "reset":
        loop.control.begin_reset(loop.measured, loop.now, "")
        loop.control.end_reset(loop.measured, loop.now, loop.now)
    else:
        loop.control.enable(loop.measured, loop.now)
    loop.submit(loop.plan([0.002, 0.004]))
    loop.tick(5)
    assert loop.control.modes.text == "tracking"
