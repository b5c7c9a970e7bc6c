"""The controller of a simulated arm that follows streamed set points: lag, braking, late set points, reflex."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from controllers.cartesian_impedance import CartesianImpedanceGains
from controllers.joint_impedance import JointImpedanceGains
from controllers.law import Gains
from robot_rl.types import Array, ResetRequest
from sim.arms.panda import panda
from sim.reset import arrange
from sim.scene import TIMESTEP_S, Scene
from sim.streamed_servo import StreamedServo
from sim.world import World

W, SPREAD_S, BRAKE = 50.0, 0.02, 3.5
TICKS = 5  # of physics between set points: 100 Hz
PERIOD_S = TICKS * TIMESTEP_S


def stiff() -> CartesianImpedanceGains:
    return CartesianImpedanceGains(4000.0, 150.0, 0.03, 0.2)


def make(gains: Gains) -> World:
    arm = panda()
    limits = arm.safety_limits((0.25, -0.35, 0.005), (0.75, 0.35, 0.5), {})
    world = World(Scene(), arm, limits, gains, PERIOD_S)
    servo = StreamedServo(world.chain, limits, gains, world.home, natural_rad_s=W, spread_s=SPREAD_S, brake=BRAKE)
    world.servo = servo  # type: ignore[assignment]
    arrange(world, ResetRequest())
    return world


def along_y(world: World, speed_m_s: float) -> Callable[[float], Array]:
    """Set points at constant speed, after half a second in which the speed grows."""
    start = world.servo.arrays.reference.copy()

    def at(t: float) -> Array:
        way = 0.5 * t * t / 0.5 if t < 0.5 else t - 0.25
        return start + np.array([0.0, speed_m_s * way, 0.0, 0.0, 0.0, 0.0, 0.0])

    return at


def follow(world: World, path: Callable[[float], Array], seconds: float, since: float = 0.0) -> Array:
    """Stream; the reference's positions after each set point."""
    seen = []
    for step in range(round(seconds / PERIOD_S)):
        world.servo.follow(path(since + step * PERIOD_S))  # type: ignore[union-attr]
        world.advance(TICKS)
        seen.append(world.servo.arrays.reference[:3].copy())
    return np.array(seen)


def coast(world: World, seconds: float) -> tuple[Array, Array]:
    """Say nothing; reference's position and velocity [ticks, 3] after each tick."""
    seen = []
    for _ in range(round(seconds / TIMESTEP_S)):
        world.advance(1)
        seen.append((world.servo.arrays.reference[:3].copy(), world.servo.arrays.velocity[:3].copy()))
    positions, velocities = zip(*seen, strict=True)
    return np.array(positions), np.array(velocities)


@pytest.fixture
def world() -> World:
    return make(stiff())


def test_a_stream_at_constant_speed_is_followed_with_a_constant_lag(world: World) -> None:
    path = along_y(world, 0.2)
    seen = follow(world, path, 1.2)
    lag_m = path(1.2 - PERIOD_S)[1] - seen[-1][1]
    # The filter is 2 / w behind its input. A set point every T with a line of 2 T: half of what is left is made up for
    # in each period, so the input ends the period one period's way behind its target. A tick moves with its new speed.
    assert lag_m == pytest.approx(0.2 * (2.0 / W + PERIOD_S - TIMESTEP_S), rel=1e-3)
    speed = (seen[-1][1] - seen[-2][1]) / PERIOD_S
    assert speed == pytest.approx(0.2, rel=0.02)
    np.testing.assert_allclose(world.measure()["arm0/tcp_pose"][:3], seen[-1], atol=1e-3)


def test_silence_brakes_as_limited_and_never_turns_back(world: World) -> None:
    follow(world, along_y(world, 0.3), 1.2)
    positions, velocities = coast(world, 1.0)
    deceleration = -np.diff(velocities[:, 1]) / TIMESTEP_S
    assert deceleration.max() < 1.05 * BRAKE
    assert deceleration.max() > 0.7 * BRAKE  # it does brake, and not only trail out
    assert (np.diff(positions[:, 1]) > -1e-9).all()
    assert abs(velocities[-1, 1]) < 1e-4


def test_a_hold_ends_where_it_is_said_to(world: World) -> None:
    follow(world, along_y(world, 0.3), 1.2)
    world.servo.hold()  # type: ignore[union-attr]
    place, speed = world.servo.arrays.reference[1], world.servo.arrays.velocity[1]
    positions, _ = coast(world, 1.5)
    w = math.e * BRAKE / speed  # peak deceleration v w / e
    assert positions[-1, 1] == pytest.approx(place + 2.0 * speed / w, abs=5e-4)


def test_a_set_point_that_comes_late_is_not_caught_up_with_at_once(world: World) -> None:
    path = along_y(world, 0.2)
    follow(world, path, 1.0)
    world.advance(30)  # 60 ms of silence
    velocities = np.diff(follow(world, path, 0.8, since=1.06)[:, 1]) / PERIOD_S
    assert velocities.max() < 0.3
    assert velocities[-1] == pytest.approx(0.2, rel=0.05)


def test_going_on_after_braking_does_not_jump(world: World) -> None:
    path = along_y(world, 0.2)
    follow(world, path, 1.0)
    _, before = coast(world, 0.08)
    here = world.servo.arrays.reference.copy()
    world.servo.follow(here)  # type: ignore[union-attr]
    _, after = coast(world, 0.02)
    velocities = np.concatenate((before[-1:], after))[:, 1]
    assert np.abs(np.diff(velocities) / TIMESTEP_S).max() < 2.0 * BRAKE


def test_a_stream_that_begins_elsewhere_is_joined_with_a_bounded_speed(world: World) -> None:
    start = world.servo.arrays.reference.copy()
    elsewhere = start + np.array([0.0, 0.04, 0.0, 0.0, 0.0, 0.0, 0.0])
    seen = follow(world, lambda t: elsewhere, 0.6)
    velocities = np.diff(seen[:, 1]) / PERIOD_S
    assert velocities.max() < 0.35
    assert np.abs(np.diff(velocities)).max() / PERIOD_S < 8.0
    np.testing.assert_allclose(seen[-1], elsewhere[:3], atol=1e-3)


def test_a_turn_is_followed(world: World) -> None:
    start = world.servo.arrays.reference.copy()

    def path(t: float) -> Array:
        half = 0.5 * 0.3 * min(t, 1.0)
        x, y, z, w = start[3:]
        s, c = math.sin(half), math.cos(half)  # exp(0.3 t e_z) start
        return np.concatenate((start[:3], [c * x - s * y, c * y + s * x, c * z + s * w, c * w - s * z]))

    follow(world, path, 1.5)
    quat = world.measure()["arm0/tcp_pose"][3:].astype(np.float64)
    assert abs(quat @ path(1.5)[3:]) == pytest.approx(math.cos(0.0), abs=1e-5)


def test_pressing_on_the_table_is_a_reflex_that_lets_go(world: World) -> None:
    start = world.servo.arrays.reference.copy()
    follow(world, lambda t: start - np.array([0.0, 0.0, 0.15 * t, 0.0, 0.0, 0.0, 0.0]), 2.5)
    assert "contact" in world.servo.fault
    coast(world, 0.5)
    pressed = float(np.abs(world.physics.data.qfrc_constraint[:7]).max())
    assert pressed < 20.0


def test_joints_are_followed_and_braked_alike() -> None:
    world = make(JointImpedanceGains())
    start = world.servo.arrays.reference.copy()
    turn = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for step in range(120):
        t = step * PERIOD_S
        world.servo.follow(start + 0.5 * (t * t if t < 0.5 else t - 0.25) * turn)  # type: ignore[union-attr]
        world.advance(TICKS)
    assert world.servo.arrays.velocity[0] == pytest.approx(0.5, rel=0.02)
    speeds = []
    for _ in range(400):
        world.advance(1)
        speeds.append(float(world.servo.arrays.velocity[0]))
    assert -np.diff(speeds).min() / TIMESTEP_S < 1.05 * BRAKE
    assert abs(speeds[-1]) < 1e-3
    np.testing.assert_allclose(world.physics.arm.q, world.servo.arrays.reference, atol=2e-3)
