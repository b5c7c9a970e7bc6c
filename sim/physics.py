"""Physics and control law in one compiled loop: mj_step1, servo, mj_step2, without Python or its lock in between.

MuJoCo's C functions are called through their addresses in the library that the mujoco package has loaded; arrays of
``MjData`` are the simulator's own memory, seen through views that stay valid as long as the data lives.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

import mujoco
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from controllers.bound import Bound, bind
from controllers.compiled import kernel, lean_kernel
from controllers.joint_servo import JointServoArrays
from controllers.servo import ServoArrays, servo_tick
from robot_rl.errors import ConfigError
from robot_rl.types import Array
from sim.mujoco_library import library, log_warnings
from sim.scene import TIMESTEP_S, SceneModel

log_warnings()


def _address(name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


class Simulator(NamedTuple):
    """Addresses in this process. As arguments, unlike as constants, they let the compiled loop be cached on disk."""

    step1: int  # void mj_step1(const mjModel*, mjData*)
    step2: int
    model: int
    data: int


def _call_by_address(typing_context: Any, function: Any, model: Any, data: Any) -> Any:
    """Call a C function void f(void*, void*) by its address."""
    signature = types.void(types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        pointer = ir.FunctionType(ir.VoidType(), [word, word]).as_pointer()
        builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])
        return context.get_dummy_value()

    return signature, generate


_call: Any = intrinsic(_call_by_address)


class ArmView(NamedTuple):
    """The arm's part of an MjData; the arm comes first in the model, so that these are contiguous slices."""

    q: Array  # [n] rad
    dq: Array  # [n] rad/s
    bias: Array  # [n] N m
    ctrl: Array  # [n] N m
    contact: Array  # [n] N m of contacts, and of joint stops, in the last step
    inertia: Array  # lower triangle of the mass matrix in compressed rows
    row_count: Array
    row_address: Array
    column: Array
    mass: Array  # [n, n], scratch


class Loop(NamedTuple):
    """What the compiled loop works on."""

    simulator: Simulator
    arm: ArmView
    servo: ServoArrays | JointServoArrays
    timestep_s: float


class Physics:
    """One simulated world with one arm: state, and the loop that advances it."""

    def __init__(self, built: SceneModel) -> None:
        self.built, self.model = built, built.model
        self.data = mujoco.MjData(built.model)
        n = built.dof
        model, data = self.model, self.data
        self.arm = ArmView(
            data.qpos[:n], data.qvel[:n], data.qfrc_bias[:n], data.ctrl[:n], data.qfrc_constraint[:n], data.M,
            model.M_rownnz, model.M_rowadr, model.M_colind, np.zeros((n, n)),
        )  # fmt: skip
        self._positions, self._velocities = data.qpos, data.qvel  # views: MuJoCo makes a new one each time
        self._simulator = Simulator(_address("mj_step1"), _address("mj_step2"), model._address, data._address)
        self._loop: tuple[Any, Any] = None, None  # bound for the servo that drove it last

    @property
    def timestep_s(self) -> float:
        return float(self.model.opt.timestep)

    def advance(self, servo: ServoArrays | JointServoArrays, ticks: int) -> None:
        """Run ``ticks`` steps of physics with the servo's torque in each, without the interpreter's lock."""
        driver, loop = self._loop
        if driver is not servo:
            loop = bind(Loop(self._simulator, self.arm, servo, self.timestep_s))
            self._loop = servo, loop
        _advance(loop, ticks)

    def coast(self, ticks: int) -> None:
        """Run ``ticks`` steps of bare physics, the torque left as it is."""
        mujoco.mj_step(self.model, self.data, nstep=ticks)

    def refresh(self) -> None:
        """Derive everything from positions and velocities, after they were written from outside."""
        mujoco.mj_forward(self.model, self.data)
        gather_mass(self.arm)

    def finite(self) -> bool:
        q, dq = self._positions, self._velocities
        return math.isfinite(q.dot(q)) and math.isfinite(dq.dot(dq))  # beyond 1e154 counts as diverged as well


def ticks_per_step(step_rate_hz: float) -> int:
    """Steps of physics in a control step, a whole number; raises ConfigError for a rate that does not give one."""
    if not (math.isfinite(step_rate_hz) and step_rate_hz > 0.0):
        raise ConfigError(f"the step rate is {step_rate_hz} Hz", limit="> 0")
    ticks = round(1.0 / (TIMESTEP_S * step_rate_hz))
    if abs(ticks * TIMESTEP_S * step_rate_hz - 1.0) > 1e-9:
        raise ConfigError(
            f"a step at {step_rate_hz} Hz is no whole number of physics steps", limit=f"{TIMESTEP_S} s each"
        )
    return ticks


@kernel
def _advance(bound: Bound, ticks: int) -> None:
    _advance_ticks(bound.parts, ticks)


@lean_kernel
def _advance_ticks(loop: Loop, ticks: int) -> None:
    simulator, arm, servo, dt = loop
    n = arm.q.shape[0]
    for _ in range(ticks):
        _call(simulator.step1, simulator.model, simulator.data)
        gather_mass(arm)
        for i in range(n):
            servo.arm.external[i] = arm.contact[i]
        servo_tick(servo, arm.q, arm.dq, arm.mass, arm.bias, dt)
        for i in range(n):
            arm.ctrl[i] = servo.arm.torque[i]
        _call(simulator.step2, simulator.model, simulator.data)


@lean_kernel
def gather_mass(arm: ArmView) -> None:
    """The arm's block of the mass matrix, both triangles."""
    n = arm.q.shape[0]
    for i in range(n):
        first = arm.row_address[i]
        for k in range(first, first + arm.row_count[i]):
            j = arm.column[k]
            arm.mass[i, j] = arm.inertia[k]
            arm.mass[j, i] = arm.inertia[k]
