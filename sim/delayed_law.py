"""A control law that hears of its reference late, as an arm does behind a bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from controllers.compiled import kernel
from controllers.kinematics import SerialChain
from controllers.law import ArmState, Gains, JointReference, Reference, law_torque
from controllers.safety_limits import LimitArrays
from robot_rl.types import ActionKind, Array


@kernel
def delayed_torque(law: DelayedArrays, arm: ArmState, reference: Reference, dt: float, out: Array) -> None:
    """Write the torque [n] N m of the law inside for the reference of ``law.delay`` ticks ago."""
    late = _exchange(law, reference)
    law_torque(law.law, arm, Reference(late[:7], late[7:13], late[13:]), dt, out)


@kernel
def delayed_joint_torque(
    law: DelayedJointArrays, arm: ArmState, reference: JointReference, dt: float, out: Array
) -> None:
    """The same for a law that follows joints."""
    late, n = _exchange(law, reference), arm.q.shape[0]
    law_torque(law.law, arm, JointReference(late[:n], late[n : 2 * n], late[2 * n :]), dt, out)


@kernel
def _exchange(law: Any, reference: Any) -> Array:
    """Write ``reference`` down; returns the row of the one that is heard now."""
    rows = law.past.shape[0]
    if law.next[0] < 0:  # nothing heard since the reset
        for row in range(rows):
            _write(law.past[row], reference)
        law.next[0] = 0
    _write(law.past[law.next[0]], reference)
    late = law.past[(law.next[0] - law.delay[0]) % rows]
    law.next[0] = (law.next[0] + 1) % rows
    return late


@kernel
def _write(row: Array, reference: Any) -> None:
    first, second = reference[0].shape[0], reference[0].shape[0] + reference[1].shape[0]
    row[:first] = reference[0]
    row[first:second] = reference[1]
    row[second:] = reference[2]


class DelayedArrays(NamedTuple):
    law: Any  # LawArrays
    past: Array  # [most + 1, 19] references
    next: Array  # [1] int64, row to write, -1 after a reset
    delay: Array  # [1] int64 ticks

    torque = delayed_torque

    def latch(self, q: Array, posture: Array) -> None:
        self.law.latch(q, posture)
        self.next[0] = -1


class DelayedJointArrays(NamedTuple):
    law: Any  # LawArrays
    past: Array  # [most + 1, 3 n] references
    next: Array  # as above
    delay: Array

    torque = delayed_joint_torque

    def latch(self, q: Array, posture: Array) -> None:
        self.law.latch(q, posture)
        self.next[0] = -1


@dataclass(frozen=True)
class DelayedGains:
    """``gains`` behind a delay of up to ``most_ticks``; ``DelayedArrays.delay`` may change between episodes."""

    gains: Gains
    most_ticks: int

    @property
    def takes(self) -> ActionKind:
        return self.gains.takes

    def arrays(self, chain: SerialChain, limits: LimitArrays) -> DelayedArrays | DelayedJointArrays:
        joints = self.takes is ActionKind.JOINT_POSITION
        make, size = (DelayedJointArrays, 3 * chain.dof) if joints else (DelayedArrays, 19)
        return make(
            self.gains.arrays(chain, limits),
            np.zeros((self.most_ticks + 1, size)),
            np.full(1, -1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
        )
