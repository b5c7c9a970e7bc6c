"""Whatever is commanded, by whomever, the simulated arm stays within what was declared: tick by tick, in physics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from controllers.workspace import sphere_room
from robot_rl.apps.main import compose, instantiate
from robot_rl.errors import CommandRefusedError
from robot_rl.geometry import geodesic_angle
from robot_rl.types import ActionKind, ActionPart, Array, Observation, Phase, ResetRequest, TargetChunk
from sim.mujoco_robot import MujocoRobot
from tests.controllers.differences import DT, differences

LAWS = (
    "operational_space", "cartesian_impedance_compliant", "cartesian_impedance_precise", "joint_impedance",
    "differential_ik",
)  # fmt: skip
CASES = [*itertools.product(("sim_panda", "sim_ur5e"), LAWS), ("sim_planar", "operational_space")]
STEPS, TICKS = 50, 25  # of commands, of physics in a step
SILENT = 24  # steps without a command: plans end after 10, braking and what was held up take less than the rest
SETTLING = 120  # more of them at most, for springs to come to rest
STANDS = 1e-3  # m/s, rad/s of the TCP
SPEED_RESERVE = 1.3  # of measured over planned joint speed: where the joint layer holds back
SOURCES = (Phase.POLICY, Phase.HUMAN, Phase.RESET, Phase.SCRIPTED, Phase.HOLD)


@dataclass
class Seen:
    """What physics and the servo did, tick by tick."""

    q: list[Array] = field(default_factory=list)
    dq: list[Array] = field(default_factory=list)
    reference: list[Array] = field(default_factory=list)


@pytest.fixture(params=CASES, ids="-".join, scope="module")
def robot(request: pytest.FixtureRequest) -> Iterator[MujocoRobot]:
    arm, law = request.param
    task = "reach_planar" if arm == "sim_planar" else "reach"
    action = ["action=joint_delta"] if law == "joint_impedance" else []
    made = instantiate(compose("view", [f"task={task}", f"robot={arm}", f"controller={law}", *action]).robot)
    with made:
        yield made


def wild_rows(rng: np.random.Generator, part: ActionPart, at: Array, rows: int) -> Array:
    """Rows [rows, k] that walk, jump once, lead far away, are strewn or flip between two places."""
    low, high = np.array(part.low), np.array(part.high)
    far = np.full(len(at), 2.0) if part.kind is ActionKind.JOINT_POSITION else np.array([0.5] * 3 + [0.0] * 4)
    style = rng.integers(5)
    if style == 0:
        plan = at + np.cumsum(rng.uniform(-0.05, 0.05, (rows, len(at))) * far, axis=0)
    elif style == 1:
        plan = np.tile(at + far * rng.choice([-1, 1], len(at)), (rows, 1))
    elif style == 2:
        plan = at + np.linspace(0, 1, rows)[:, None] * far * rng.uniform(-8, 8, len(at))
    elif style == 3:
        plan = rng.uniform(low, high, (rows, len(at)))
    else:
        plan = np.where(np.arange(rows)[:, None] % 2, low, high)
    if part.kind is ActionKind.JOINT_POSITION:
        return plan
    plan[:, :3] = np.clip(plan[:, :3], -4.9, 4.9)
    plan[:, 3:] = rng.normal(size=4) if rng.random() < 0.7 else at[3:]
    plan[:, 3:] /= np.linalg.norm(plan[:, 3:], axis=1, keepdims=True)
    return plan


def wild_plan(rng: np.random.Generator, part: ActionPart, now: Observation, source: Phase) -> tuple[TargetChunk, str]:
    """A plan of 1 to 30 rows, and why it must be refused, if so."""
    assert now.report is not None
    rows, fault = int(rng.integers(1, 31)), rng.choice(["not finite", "frame", "future", "reset", *[""] * 8])
    targets = {part.name: wild_rows(rng, part, now.report.executed[part.name], rows)}
    targets["arm0/gripper"] = rng.uniform(-1, 2, (rows, 1)) * rng.choice([1.0, 1e300])
    stamp, frame = now.stamp_ns, "base"
    if fault == "not finite":
        name = rng.choice([*targets])
        targets[name][rng.integers(rows), 0] = rng.choice([np.nan, np.inf, -np.inf])
    elif fault == "frame":
        frame = "camera"
    elif fault == "future":
        stamp += int(rng.integers(51_000_000, 10**12))
    elif fault == "reset":
        stamp = -int(rng.integers(10**12))
    first = now.step + int(rng.integers(-2, 3))
    return TargetChunk(targets, first, stamp, source, frame), str(fault)


def run(robot: MujocoRobot, seen: Seen) -> Observation:
    """One step, tick by tick."""
    for _ in range(TICKS):
        robot.clock.wait_until(robot.clock.now_ns() + round(DT * 1e9))
        seen.q.append(robot.physics.arm.q.copy())
        seen.dq.append(robot.physics.arm.dq.copy())
        seen.reference.append(robot.servo.arrays.reference.copy())
    return robot.read()


def misuse(robot: MujocoRobot, seed: int) -> Seen:
    """An episode of anything, then silence. What was changed or refused is told."""
    rng, part = np.random.default_rng(seed), robot.connect().action.parts[0]
    now, seen = robot.reset(ResetRequest()), Seen()
    seen.reference.append(robot.servo.arrays.reference.copy())
    plan, persistence, crowd = None, rng.choice([0.0, 0.7, 0.95]), rng.choice([0.05, 0.5])
    source = Phase.POLICY
    for _ in range(STEPS):
        for _ in range(rng.integers(3)):
            source = SOURCES[rng.choice(5, p=[0.4, 0.3, 0.1, 0.15, 0.05])] if rng.random() < crowd else source
            fault = ""
            if plan is None or rng.random() >= persistence:
                plan, fault = wild_plan(rng, part, now, source)
            else:  # again, from where the observation is now
                plan = TargetChunk(plan.targets, now.step, now.stamp_ns, source)
            if not fault:
                robot.command(plan)
                continue
            with pytest.raises(CommandRefusedError):
                robot.command(plan)
            plan = None
        if rng.random() < 0.05:
            robot.release_human()
        now = run(robot, seen)
        assert now.report is not None
        if now.report.valid and not now.report.interventions:
            np.testing.assert_array_equal(now.report.executed[part.name], now.report.commanded[part.name])
    for _ in range(SILENT):
        now = run(robot, seen)
    assert np.ptp(np.array(seen.reference)[-TICKS:], axis=0).max() == 0.0  # the set point stands
    for _ in range(SETTLING):
        if np.abs(robot.servo.chain.jacobian(seen.q[-1]) @ seen.dq[-1]).max() < STANDS:
            break
        now = run(robot, seen)
    else:
        pytest.fail("the arm does not come to rest")
    assert now.report is not None
    assert (now.report.source, now.report.valid, now.mode) == (Phase.HOLD, False, "tracking")
    return seen


def trailing(robot: MujocoRobot) -> tuple[float, float]:
    """How far [m] and by what speed [m/s] a law that fed nothing forward would leave a reference that accelerates as
    hard as it may: a / w^2, and a / (e w) for the critically damped w, the slowest of what its springs and the inertia
    they feel at home make."""
    servo, limits = robot.servo, robot.servo.arrays.arm.limits
    law, home = servo.arrays.law, robot.physics.arm.q
    mass, jacobian = robot.physics.arm.mass, servo.chain.jacobian(home)
    hardest = float(np.linalg.norm(limits.acceleration[:3]))
    joints = getattr(law, "tracking", law)
    if robot.connect().action.parts[0].kind is ActionKind.JOINT_POSITION:
        hardest = float(np.linalg.norm(np.abs(jacobian[:3]).sum(axis=1)) * limits.joint_motion[0])
    if len(joints.stiffness) == len(home) and hasattr(joints, "inertia_share"):
        square = min(joints.stiffness / np.diag(mass))
    elif hasattr(law, "pull"):  # a real stiffness, against the inertia felt
        square = min(law.stiffness[:3] * np.diag(jacobian @ np.linalg.solve(mass, jacobian.T))[:3])
    else:
        square = min(law.stiffness[:3])
    return hardest / square, hardest / (np.e * np.sqrt(square))


@pytest.mark.parametrize("seed", range(3))
def test_no_command_moves_the_arm_beyond_what_is_declared(robot: MujocoRobot, seed: int) -> None:
    robot.reset(ResetRequest())
    behind_m, behind_m_s = trailing(robot)
    seen, declared, limits = misuse(robot, seed), robot.connect().limits, robot.servo.arrays.arm.limits
    q, dq, chain = np.array(seen.q), np.array(seen.dq), robot.servo.chain
    assert (q >= limits.joint[0]).all()
    assert (q <= limits.joint[1]).all()
    assert (np.abs(dq) <= SPEED_RESERVE * limits.joint_speed).all()
    poses = np.array([chain.pose(row) for row in q])
    twists = np.array([chain.jacobian(row) @ rates for row, rates in zip(q, dq, strict=True)])
    assert np.linalg.norm(twists[:, :3], axis=1).max() <= declared["max_speed_m_s"] + behind_m_s
    assert (poses[:, :3] >= limits.box[0] - behind_m).all()
    assert (poses[:, :3] <= limits.box[1] + behind_m).all()
    assert min(sphere_room(limits, pose) for pose in poses) >= -behind_m
    check_reference(robot, np.array(seen.reference))


def check_reference(robot: MujocoRobot, reference: Array) -> None:
    """Set points [T, k] keep every limit; rounding of positions is 1e-16, which the third difference makes 1e-8."""
    limits, chain = robot.servo.arrays.arm.limits, robot.servo.chain
    if robot.connect().action.parts[0].kind is ActionKind.TCP_POSE:
        poses, rates = reference, differences(reference)
        most = limits.speed, limits.acceleration, limits.jerk
    else:
        at_rest = np.concatenate((np.repeat(reference[:1], 3, axis=0), reference))
        rates = [np.diff(at_rest, order, axis=0)[3 - order :] / DT**order for order in (1, 2, 3)]
        most = limits.joint_speed, limits.joint_motion[0], limits.joint_motion[1]
        poses = np.array([chain.pose(position) for position in reference])
        twists = np.array([chain.jacobian(q) @ dq for q, dq in zip(reference, rates[0], strict=True)])
        norms = np.linalg.norm(twists.reshape(-1, 2, 3), axis=2)
        assert (norms.max(axis=0) <= math.sqrt(3) * limits.speed[[0, 3]]).all()  # per axis at 1 / sqrt(3)
    for values, limit in zip(rates, most, strict=True):
        assert (np.abs(values) / limit).max() <= 1.0 + 1e-6
    assert (poses[:, :3] >= limits.box[0] - 1e-8).all()
    assert (poses[:, :3] <= limits.box[1] + 1e-8).all()
    assert geodesic_angle(poses[:, 3:], limits.upright).max() <= limits.tilt[0] + 1e-6
    assert min(sphere_room(limits, pose) for pose in poses) >= -1e-8
