"""What a control law is: gains that a configuration names, and named tuples of arrays that carry a compiled ``torque``.

A law is one file: a frozen dataclass of gains (a ``Gains``), whose ``arrays`` makes a named tuple with the law's
constants and memory; the kernel is its attribute ``torque``. The compiled loop finds the kernel by the type of the
tuple, when it is compiled: each law gets a loop of its own, without a branch and without Python, and a new law needs no
change anywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from controllers.compiled import kernel_of
from controllers.kinematics import SerialChain, solve_chain
from controllers.safety_limits import LimitArrays, SafetyLimits
from robot_rl.errors import ConfigError
from robot_rl.types import ActionKind, Array, Arrays

# Writes the torque [n] N m of a law for the next ``dt`` seconds: f(law, arm, reference, dt, out).
law_torque = kernel_of("torque")


class ArmState(NamedTuple):
    """What a law is told of the arm."""

    q: Array  # [n] rad
    dq: Array  # [n] rad/s
    mass: Array  # [n, n] kg m^2, symmetric positive definite
    bias: Array  # [n] N m, gravity and Coriolis
    pose: Array  # [7] TCP in the base frame
    jacobian: Array  # [6, n] of the TCP in the base frame


class Reference(NamedTuple):
    """Where the TCP shall be after this tick, within every limit, and how it moves there; in the base frame."""

    pose: Array  # [7]
    twist: Array  # [6] m/s, rad/s
    acceleration: Array  # [6] m/s^2, rad/s^2


class JointReference(NamedTuple):
    """The same for the joints."""

    position: Array  # [n] rad
    velocity: Array  # [n] rad/s
    acceleration: Array  # [n] rad/s^2


class LawArrays(Protocol):
    """Constants and memory of one law; a NamedTuple whose kernel is ``torque``."""

    def latch(self, q: Array, posture: Array) -> None:
        """Forget: the arm rests at ``q`` [n] rad; its spare joints shall stay near ``posture`` [n] rad."""
        ...

    @property
    def torque(self) -> Any:
        """Kernel f(law, arm, reference, dt, out) that writes the torque [n] N m for the next ``dt`` seconds."""
        ...


class Gains(Protocol):
    """A law and its gains, as an option of the group controller/ names them."""

    @property
    def takes(self) -> ActionKind:
        """What the law follows: TCP_POSE (its kernel gets a ``Reference``) or JOINT_POSITION (a ``JointReference``)."""
        ...

    def arrays(self, chain: SerialChain, limits: LimitArrays) -> Any:
        """The ``LawArrays`` for an arm; ``limits`` are those of its safety chain."""
        ...


class Law:
    """A law alone, without the safety chain, as a Controller: for analysis and for hosts that check for themselves.

    State: joint_position, joint_velocity [n], mass_matrix [n, n], bias_force [n]. Target: tcp_pose [7], and optionally
    tcp_twist and tcp_acceleration [6]. Command: torque [n] N m. The posture is that of the reset unless given.
    """

    def __init__(self, chain: SerialChain, gains: Gains, limits: SafetyLimits, posture: Array | None = None) -> None:
        n = chain.dof
        self._chain, self._posture = chain.arrays, posture
        self.arrays = gains.arrays(chain, limits.arrays())
        self._pose, self._jacobian, self._torque = np.empty(7), np.empty((6, n)), np.zeros(n)
        self._reference = Reference(np.empty(7), np.zeros(6), np.zeros(6))

    def reset(self, state: Arrays) -> None:
        """Forget; the joints rest at ``joint_position``."""
        q = np.array(state["joint_position"], dtype=np.float64)
        self.arrays.latch(q, q if self._posture is None else self._posture)

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Torque [n] N m for the next ``dt`` seconds."""
        q = np.ascontiguousarray(state["joint_position"], dtype=np.float64)
        solve_chain(self._chain, q, self._pose, self._jacobian)
        arm = ArmState(
            q, np.ascontiguousarray(state["joint_velocity"]), np.ascontiguousarray(state["mass_matrix"]),
            np.ascontiguousarray(state["bias_force"]), self._pose, self._jacobian,
        )  # fmt: skip
        self._reference.pose[:] = target["tcp_pose"]
        self._reference.twist[:] = target.get("tcp_twist", 0.0)
        self._reference.acceleration[:] = target.get("tcp_acceleration", 0.0)
        self.arrays.torque(arm, self._reference, dt, self._torque)
        return self._torque.copy()


def check_positive(law: str, gains: Mapping[str, object]) -> None:
    """Raise ConfigError that names the first of ``gains`` which is not a positive finite number."""
    for name, value in gains.items():
        if not (isinstance(value, int | float) and math.isfinite(value) and value > 0.0):
            raise ConfigError(f"gain {name} of {law} is {value}", limit="> 0")
