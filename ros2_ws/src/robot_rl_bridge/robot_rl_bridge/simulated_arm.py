"""An arm with its controller in MuJoCo, in real time: a thread that waits on the monotonic clock and advances physics.

Set points, gripper commands and resets are left in a mailbox by any thread; each slice of physics takes them up.
Nothing here knows ROS.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controllers.cartesian_impedance import CartesianImpedanceGains
from controllers.joint_impedance import JointImpedanceGains
from controllers.law import Gains
from controllers.safety_limits import SafetyLimits
from robot_rl.errors import ResetError, RobotRlError
from robot_rl.types import Array, Arrays, ResetRequest
from sim.arms.arm import Arm
from sim.reset import arrange
from sim.scene import TIMESTEP_S, Scene
from sim.streamed_servo import StreamedServo
from sim.world import JOINTS, World

PRECISE = CartesianImpedanceGains(4000.0, 150.0, 0.03, 0.2)
SLICE_TICKS = 2  # of physics between looks at the mailbox
_SLICE_NS = round(SLICE_TICKS * TIMESTEP_S * 1e9)
_MOST_SLICES = 5  # at once, where this thread comes late
_BEHIND_NS = 100_000_000  # time that the machine was busy elsewhere for longer is left out, not caught up with
_OVER_TICKS = 10  # over which acceleration is measured: 20 ms


def stream_gains(joints: bool) -> Gains:
    """The law of a vendor's controller: joint positions, or a stiff TCP."""
    return JointImpedanceGains() if joints else PRECISE


@dataclass(frozen=True)
class Measured:
    """The arm at one moment of the monotonic clock."""

    time_ns: int
    state: dict[str, Array]  # by observation name


@dataclass(frozen=True)
class View:
    """Coordinates of the world at one moment, of which a renderer makes images."""

    time_ns: int
    qpos: Array
    mocap_pos: Array
    mocap_quat: Array


@dataclass
class Extremes:
    """What the plant really did since the last take; accelerations are means over 20 ms."""

    speed_m_s: float = 0.0
    speed_rad_s: float = 0.0
    acceleration_m_s2: float = 0.0
    joint_speed_rad_s: float = 0.0
    joint_acceleration_rad_s2: float = 0.0
    torque_share: float = 0.0  # of the joint that came nearest to its limit
    lower_m: list[float] = field(default_factory=lambda: [np.inf] * 3)
    upper_m: list[float] = field(default_factory=lambda: [-np.inf] * 3)


class SimulatedArm:
    """``timeout_s`` without a set point brings the arm to rest; a stream then has to begin within ``rejoin_m`` and
    ``rejoin_rad`` of where the arm holds."""

    def __init__(
        self, scene: Scene, arm: Arm, limits: SafetyLimits, gains: Gains, *, timeout_s: float = 0.1,
        rejoin_m: float = 0.05, rejoin_rad: float = 0.3,
    ) -> None:  # fmt: skip
        self.world = World(scene, arm, limits, gains, SLICE_TICKS * TIMESTEP_S)
        self.servo = StreamedServo(self.world.chain, limits, gains, self.world.home)
        self.world.servo = self.servo  # type: ignore[assignment]  # in place of the one that follows plans
        self.joints = self.world.part == JOINTS
        self.counts: Counter[str] = Counter()
        self._timeout_ns, self._rejoin = round(timeout_s * 1e9), (rejoin_m, rejoin_rad)
        self._torque_limit = np.array(limits.torque_n_m)
        self._lock = threading.Lock()  # of the mailbox
        self._target: Array | None = None
        self._opening, self._fault = 1.0, ""
        self._resets: deque[tuple[ResetRequest, bool, Callable[[str], None]]] = deque()
        self._heard_ns, self._holding = 0, True
        self._extremes, self._ticks = Extremes(), 0
        self._past = deque[tuple[int, Array, Array]]()  # tick, twist, joint speeds
        self._state: dict[str, Array] | None = None
        self._physics = threading.Lock()  # of the coordinates
        self._view_ns = time.monotonic_ns()
        arrange(self.world, ResetRequest())  # compiles what is not compiled yet

    # --- mailbox, any thread ----------------------------------------------------------------------------------------

    def follow(self, target: Array) -> bool:
        """The newest set point: pose [7] of the TCP or joints [n] rad; whether it is one."""
        size = len(self.servo.arrays.reference)
        good = target.shape == (size,) and bool(np.isfinite(target).all())
        if good and not self.joints:
            norm = float(np.linalg.norm(target[3:]))
            good = abs(norm - 1.0) < 1e-2
            target = np.concatenate((target[:3], target[3:] / norm)) if good else target
        if not good:
            self.counts["malformed"] += 1
            return False
        with self._lock:
            self._target, self._heard_ns = target, time.monotonic_ns()
        self.counts["commands"] += 1
        return True

    def open_gripper(self, opening: float) -> None:
        """Head for an opening, 0 closed to 1 open."""
        if np.isfinite(opening):
            self._opening = min(max(float(opening), 0.0), 1.0)

    def fail(self, fault: str) -> None:
        """The arm stops by a fault of its own; set points are ignored until it is recovered."""
        self._fault = fault

    def recover(self) -> None:
        """Whatever stopped the arm is over; it goes on holding until a stream begins near where it is."""
        self._fault = ""
        self.servo.arrays.arm.stopped[0] = 0

    @property
    def fault(self) -> str:
        return self._fault or self.servo.fault

    def reset(self, request: ResetRequest, done: Callable[[str], None]) -> None:
        """Put arm and objects somewhere, between two slices; without a joint position the arm stays where it is.
        ``done`` is told what was wrong, or nothing."""
        moved = request.joint_position is not None or request.tcp_pose is not None
        self._resets.append((request, moved, done))

    def view(self) -> View:
        """What there is to see."""
        data = self.world.physics.data
        with self._physics:
            return View(self._view_ns, data.qpos.copy(), data.mocap_pos.copy(), data.mocap_quat.copy())

    def take_extremes(self) -> Extremes:
        """Those since the last call."""
        with self._lock:
            taken, self._extremes = self._extremes, Extremes()
        return taken

    # --- the thread of physics ----------------------------------------------------------------------------------------

    def run(self, ending: Callable[[], bool], publish: Callable[[Measured], None]) -> None:
        """Advance in real time until ``ending``; ``publish`` is told of each slice."""
        due_ns = time.monotonic_ns()
        while not ending():
            late_ns = time.monotonic_ns() - due_ns
            if late_ns > _BEHIND_NS:
                self.counts["left_out_ms"] += late_ns // 1_000_000
                due_ns += late_ns
            slices = min(max(late_ns // _SLICE_NS, 1), _MOST_SLICES)
            due_ns += slices * _SLICE_NS
            if (early_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(1e-9 * early_ns)
            self._take_up()
            publish(self._run_slices(slices, due_ns))
            while self._resets:
                self._arrange(*self._resets.popleft())

    def _take_up(self) -> None:
        with self._lock:
            target, self._target = self._target, None
            silent = time.monotonic_ns() - self._heard_ns > self._timeout_ns
        if self.fault or (target is None and silent):
            if not self._holding:
                self._holding = True
                self.counts["holds"] += 1
                self.servo.hold()
        elif target is not None:
            if self._holding:
                apart = self.servo.apart(target)
                if apart[0] > self._rejoin[0] or apart[1] > self._rejoin[1]:
                    self.counts["refused"] += 1
                    return
                self._holding = False
            self.servo.follow(target)

    def _run_slices(self, count: int, time_ns: int) -> Measured:
        world = self.world
        for _ in range(count):
            world.drive_gripper(self._opening)
        with self._physics:
            world.advance(count * SLICE_TICKS)
            self._view_ns = time_ns
        self._ticks += count * SLICE_TICKS
        if not world.physics.finite():
            raise RobotRlError("physics is not finite", remedy="Restart the simulated arm")
        self._state = world.measure(self._state)
        self._watch(self._state)
        return Measured(time_ns, self._state)

    def _watch(self, state: Arrays) -> None:
        twist, rate = state["arm0/tcp_velocity"], state["arm0/joint_velocity"]
        self._past.append((self._ticks, twist, rate))
        while len(self._past) > 1 and self._ticks - self._past[1][0] >= _OVER_TICKS:
            self._past.popleft()
        before, old_twist, old_rate = self._past[0]
        over_s = (self._ticks - before) * TIMESTEP_S
        position = state["arm0/tcp_pose"][:3].tolist()
        with self._lock:
            e = self._extremes
            e.speed_m_s = max(e.speed_m_s, _length(twist[:3]))
            e.speed_rad_s = max(e.speed_rad_s, _length(twist[3:]))
            e.joint_speed_rad_s = max(e.joint_speed_rad_s, float(np.abs(rate).max()))
            if self._ticks - before >= _OVER_TICKS:
                e.acceleration_m_s2 = max(e.acceleration_m_s2, _length(twist[:3] - old_twist[:3]) / over_s)
                change = float(np.abs(rate - old_rate).max()) / over_s
                e.joint_acceleration_rad_s2 = max(e.joint_acceleration_rad_s2, change)
            share = float((np.abs(self.servo.arrays.arm.torque) / self._torque_limit).max())
            e.torque_share = max(e.torque_share, share)
            e.lower_m = [min(pair) for pair in zip(e.lower_m, position, strict=True)]
            e.upper_m = [max(pair) for pair in zip(e.upper_m, position, strict=True)]

    def _arrange(self, request: ResetRequest, moved: bool, done: Callable[[str], None]) -> None:
        if not moved:
            request = ResetRequest(
                joint_position=self.world.physics.arm.q.copy(), gripper_opening=request.gripper_opening,
                simulator_state=request.simulator_state, timeout_s=request.timeout_s,
            )  # fmt: skip
        problem = ""
        try:
            with self._physics:
                arrange(self.world, request)
        except ResetError as error:
            problem = str(error)
        self._opening = min(max(float(request.gripper_opening), 0.0), 1.0)
        self._holding, self._state = True, None
        with self._lock:
            self._target = None  # of before the reset
        self._past.clear()
        self.counts["resets"] += 1
        done(problem)


def _length(vector: Any) -> float:
    return float(np.linalg.norm(vector))
