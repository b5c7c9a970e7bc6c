"""The Controller contract, for every option of the group controller/ behind its safety chain, on a seven-joint arm;
and that every law holds, moves and keeps the limits on the simulated one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from controllers.drive import build_drive
from controllers.gripper import Gripper
from controllers.law import Gains
from robot_rl.apps.main import compose, instantiate
from robot_rl.interfaces import Controller
from robot_rl.types import ActionKind, Array, Arrays, Phase, ResetRequest, TargetChunk
from tests.contracts.options import options
from tests.controllers.panda import HOME_RAD, panda_chain, panda_limits

DT, TICKS, HOME = 0.002, 100, np.array(HOME_RAD)
LIMITS = panda_limits()
LAWS = options("controller")


def gains(law: str) -> Gains:
    return instantiate(compose("view", ["task=reach", "robot=sim_panda", f"controller={law}"]).robot.gains)


def states(seed: int, count: int) -> list[Arrays]:
    """What an arm near home may report, tick by tick."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(7, 7)) * 0.2
    mass = root @ root.T + np.diag([3.0, 3.0, 2.0, 2.0, 1.0, 0.5, 0.5])
    wander = np.cumsum(rng.normal(scale=1e-4, size=(count, 7)), axis=0)
    return [
        {"joint_position": HOME + w, "joint_velocity": rng.normal(scale=0.05, size=7), "mass_matrix": mass,
         "bias_force": rng.normal(scale=5.0, size=7)}
        for w in wander
    ]  # fmt: skip


def targets(kind: ActionKind, seed: int) -> list[Arrays]:
    """A target for every tick, new every 25 of them."""
    rng, chain, made = np.random.default_rng(seed), panda_chain(), []
    for _ in range(TICKS // 25):
        q = HOME + rng.normal(scale=0.03, size=7)
        made += [{"joint_position": q} if kind is ActionKind.JOINT_POSITION else {"tcp_pose": chain.pose(q)}] * 25
    return made


@pytest.fixture(params=LAWS, scope="module")
def law(request: pytest.FixtureRequest) -> tuple[Controller, ActionKind]:
    chosen = gains(request.param)
    _, servo = build_drive(panda_chain(), LIMITS, chosen, HOME, 0.05)
    return servo, chosen.takes


def run(controller: Controller, kind: ActionKind, seed: int) -> Array:
    """Commands [TICKS, n] from a reset."""
    told = states(seed, TICKS + 1)
    controller.reset(told[0])
    return np.array([controller.compute(s, t, DT) for s, t in zip(told[1:], targets(kind, seed), strict=True)])


def test_same_states_targets_and_dt_give_the_same_commands(law: tuple[Controller, ActionKind]) -> None:
    once, other, again = run(*law, 0), run(*law, 1), run(*law, 0)
    np.testing.assert_array_equal(once, again)  # and what came in between is forgotten by the reset
    assert not np.array_equal(once, other)


def test_two_of_a_kind_share_nothing(law: tuple[Controller, ActionKind], request: pytest.FixtureRequest) -> None:
    controller, kind = law
    name = request.node.callspec.params["law"]
    _, twin = build_drive(panda_chain(), LIMITS, gains(name), HOME, 0.05)
    told = states(2, TICKS + 1)
    controller.reset(told[0])
    twin.reset(states(3, 1)[0])
    mixed = []
    for state, target, foreign in zip(told[1:], targets(kind, 2), targets(kind, 3), strict=True):
        mixed.append(controller.compute(state, target, DT))
        twin.compute(state, foreign, DT)
    np.testing.assert_array_equal(mixed, run(controller, kind, 2))


def test_state_and_target_are_left_as_they_are(law: tuple[Controller, ActionKind]) -> None:
    controller, kind = law
    state, target = states(4, 1)[0], targets(kind, 4)[0]
    before = {name: np.array(value) for name, value in {**state, **target}.items()}
    controller.reset(state)
    first = controller.compute(state, target, DT)
    kept = first.copy()
    controller.compute(states(5, 1)[0], target, DT)
    np.testing.assert_array_equal(first, kept)  # a command is the caller's
    for name, value in {**state, **target}.items():
        np.testing.assert_array_equal(value, before[name])


def test_commands_are_finite_and_within_the_torque_limits(law: tuple[Controller, ActionKind]) -> None:
    controller, kind = law
    far = (
        {"joint_position": HOME + 9.0} if kind is ActionKind.JOINT_POSITION else {"tcp_pose": np.array([9.0] * 6 + [1])}
    )
    told = states(6, TICKS)
    controller.reset(told[0])
    for state in told:
        torque = controller.compute(state, far, DT)
        assert np.isfinite(torque).all()
        assert (np.abs(torque) <= LIMITS.torque_n_m).all()


def test_a_broken_measurement_gives_a_finite_command(law: tuple[Controller, ActionKind]) -> None:
    controller, kind = law
    state = states(7, 1)[0]
    controller.reset(state)
    broken = {**state, "joint_velocity": np.full(7, np.nan)}
    assert np.isfinite(controller.compute(broken, targets(kind, 7)[0], DT)).all()


def test_the_gripper_is_one_too() -> None:
    gripper = Gripper()
    said = []
    for _ in range(2):
        gripper.reset({"gripper_opening": np.array([1.0])})
        said.append([gripper.compute({}, {"gripper_opening": np.array([0.2])}, 0.05)[0] for _ in range(6)])
    assert said[0] == said[1]
    assert said[0][-1] == pytest.approx(0.2)


# --- on the simulated arm -------------------------------------------------------------------------------------------


@pytest.fixture(params=LAWS, scope="module")
def robot(request: pytest.FixtureRequest) -> Iterator[Any]:
    with instantiate(compose("view", ["task=reach", "robot=sim_panda", f"controller={request.param}"]).robot) as robot:
        yield robot


def step(robot: Any, target: Array | None) -> Any:
    """One control step towards a target of whatever part the arm takes."""
    before, part = robot.read(), robot.connect().action.parts[0].name
    if target is not None:
        robot.command(TargetChunk({part: target[None]}, before.step, before.stamp_ns))
    robot.clock.wait_until(before.stamp_ns + robot.connect().step_period_ns)
    return robot.read()


def test_it_holds_against_gravity(robot: Any) -> None:
    start = seen = robot.reset(ResetRequest())
    for _ in range(20):
        seen = step(robot, None)
    np.testing.assert_allclose(seen.state["arm0/tcp_pose"][:3], start.state["arm0/tcp_pose"][:3], atol=1e-4)
    assert seen.report.source is Phase.HOLD


def test_it_reaches_a_target_and_reports_what_was_executed(robot: Any) -> None:
    part = robot.connect().action.parts[0]
    seen = robot.reset(ResetRequest())
    target = seen.report.executed[part.name].copy()
    target[0] += 0.05
    for _ in range(30):
        seen = step(robot, target)
    measured = "arm0/joint_position" if part.kind is ActionKind.JOINT_POSITION else "arm0/tcp_pose"
    np.testing.assert_allclose(seen.state[measured][:3], target[:3], atol=2e-3)
    np.testing.assert_allclose(seen.report.executed[part.name], target, atol=1e-3)


def test_a_plan_that_holds_a_far_target_gets_there(robot: Any) -> None:
    """Set points on the way are cut short by ramp and jump; the row after them is still the far one."""
    part = robot.connect().action.parts[0]
    seen = robot.reset(ResetRequest())
    target = seen.report.executed[part.name].copy()
    target[:3] += [0.06, 0.07, 0.04] if part.kind is ActionKind.TCP_POSE else [0.1, 0.05, -0.1]
    for _ in range(40):
        rows = np.repeat(target[None], 8, axis=0)
        robot.command(TargetChunk({part.name: rows}, seen.step, seen.stamp_ns))
        seen = step(robot, None)
    measured = "arm0/joint_position" if part.kind is ActionKind.JOINT_POSITION else "arm0/tcp_pose"
    np.testing.assert_allclose(seen.state[measured][:3], target[:3], atol=5e-3)


def test_greedy_targets_leave_neither_workspace_nor_joint_limits(robot: Any) -> None:
    part, rng = robot.connect().action.parts[0], np.random.default_rng(0)
    arm = robot.physics.built.arm
    low, high = np.array(part.low), np.array(part.high)
    robot.reset(ResetRequest())
    for _ in range(6):
        goal = rng.uniform(low - 0.3, high + 0.3)
        if part.kind is ActionKind.TCP_POSE:
            goal[3:] = [1.0, 0.0, 0.0, 0.0]
        for _ in range(8):
            seen = step(robot, goal)
            q, place = seen.state["arm0/joint_position"], seen.state["arm0/tcp_pose"][:3]
            assert ((q > arm.joint_lower_rad) & (q < arm.joint_upper_rad)).all()
            assert (np.abs(robot.physics.arm.ctrl) <= arm.torque_n_m).all()
            assert (place >= np.array([0.25, -0.35, 0.005]) - 0.03).all()
            assert (place <= np.array([0.75, 0.35, 0.5]) + 0.03).all()
