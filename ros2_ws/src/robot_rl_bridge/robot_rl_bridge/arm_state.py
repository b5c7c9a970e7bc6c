"""What an arm measures, what it is sent, and what follows from joints: the TCP's pose and velocity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controllers.kinematics import SerialChain
from robot_rl.errors import CommandRefusedError
from robot_rl.geometry import pose_step, quat_xyzw_near
from robot_rl.types import Array
from robot_rl_bridge.arm_description import TCP, ArmDescription

_STILL = (0.02, 0.05)  # m/s, rad/s of the TCP of an arm at rest
_OUTSIDE = (0.02, 0.1)  # [m, rad] beyond its workspace an arm is not activated


@dataclass(frozen=True)
class Measured:
    """The newest of what the arm measures."""

    position: Array  # [n] rad
    velocity: Array  # [n] rad/s
    opening: float
    stamp_ns: int
    external: Array | None = None  # [n] N m


@dataclass(frozen=True)
class SetPoint:
    """What is sent to the arm in one tick."""

    pose: Array  # [7] TCP in the base frame
    joints: Array  # [n] rad
    opening: float


def observed_state(
    chain: SerialChain, upright: Array, position: Array, velocity: Array, opening: float
) -> dict[str, Array]:
    """The arm's observations by name, float32; the quaternion is the one near ``upright`` [4], so that streams of it
    have no jumps."""
    pose = chain.pose(position)
    pose[3:] = quat_xyzw_near(pose[3:], upright)
    state = {
        "arm0/joint_position": position,
        "arm0/joint_velocity": velocity,
        "arm0/tcp_pose": pose,
        "arm0/tcp_velocity": chain.jacobian(position) @ velocity,
        "arm0/gripper_opening": np.array([opening]),
    }
    return {name: value.astype(np.float32) for name, value in state.items()}


def distance(part: str, target: Array, measured: Array) -> tuple[float, float]:
    """How far ``target`` is from ``measured``: m and rad of two poses [7], or 0 and rad of two joint positions [n]."""
    if part == TCP:
        step = pose_step(measured, target)
        return float(np.linalg.norm(step[:3])), float(np.linalg.norm(step[3:]))
    return 0.0, float(np.abs(target - measured).max())


def still(chain: SerialChain, measured: Measured) -> bool:
    """Whether the arm is measured at rest."""
    speed = np.abs(chain.jacobian(measured.position) @ measured.velocity)
    return bool(speed[:3].max() < _STILL[0] and speed[3:].max() < _STILL[1])


def check_place(arm: ArmDescription, inside: Callable[[Array], Array], measured: Measured) -> None:
    """Raise CommandRefusedError when the TCP is outside of the workspace, of which ``inside`` gives the nearest pose,
    or a joint beyond its limits: held there, the arm would creep inside by itself."""
    chain, pose = arm.chain, arm.chain.pose(measured.position)
    far = distance(TCP, inside(pose), pose)
    if far[0] > _OUTSIDE[0] or far[1] > _OUTSIDE[1]:
        raise CommandRefusedError(
            f"the TCP is {far[0]:.3f} m, {far[1]:.2f} rad outside of its workspace",
            limit=f"{_OUTSIDE[0]} m, {_OUTSIDE[1]} rad",
            remedy="Guide the arm inside by hand, or check box, chain and TCP of its description",
        )
    beyond = (measured.position < chain.lower) | (measured.position > chain.upper)
    if beyond.any():
        names = [name for name, is_beyond in zip(chain.names, beyond, strict=True) if is_beyond]
        raise CommandRefusedError(f"beyond their limits: {', '.join(names)}", remedy="Guide the arm back by hand")
