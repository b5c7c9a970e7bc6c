"""A control law that hears of its reference late, as an arm does behind a bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from controllers.compiled import kernel
from controllers.kinematics import SerialChain
from controllers.law import ArmState, Gains, Reference, law_torque
from controllers.safety_limits import LimitArrays
from robot_rl.types import Array


@kernel
def delayed_torque(law: DelayedArrays, arm: ArmState, reference: Reference, dt: float, out: Array) -> None:
    """Write the torque [n] N m of the law inside for the reference of ``law.delay`` ticks ago."""
    rows = law.past.shape[0]
    if law.next[0] < 0:  # nothing heard since the reset
        for row in range(rows):
            _write(law.past[row], reference)
        law.next[0] = 0
    _write(law.past[law.next[0]], reference)
    late = law.past[(law.next[0] - law.delay[0]) % rows]
    law.next[0] = (law.next[0] + 1) % rows
    law_torque(law.law, arm, Reference(late[:7], late[7:13], late[13:]), dt, out)


@kernel
def _write(row: Array, reference: Reference) -> None:
    row[:7] = reference.pose
    row[7:13] = reference.twist
    row[13:] = reference.acceleration


class DelayedArrays(NamedTuple):
    law: Any  # LawArrays
    past: Array  # [most + 1, 19] references
    next: Array  # [1] int64, row to write, -1 after a reset
    delay: Array  # [1] int64 ticks

    torque = delayed_torque

    def latch(self, q: Array, posture: Array) -> None:
        self.law.latch(q, posture)
        self.next[0] = -1


@dataclass(frozen=True)
class DelayedGains:
    """``gains`` behind a delay of up to ``most_ticks``; ``DelayedArrays.delay`` may change between episodes."""

    gains: Gains
    most_ticks: int

    def arrays(self, chain: SerialChain, limits: LimitArrays) -> DelayedArrays:
        return DelayedArrays(
            self.gains.arrays(chain, limits),
            np.zeros((self.most_ticks + 1, 19)),
            np.full(1, -1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
        )
