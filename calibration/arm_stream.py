"""What an arm tells while it is calibrated: its samples by stamp, its images, and whether it stands still."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.samples import ArmSample
from robot_rl.errors import RobotError, StaleObservationError, valid_choices
from robot_rl.geometry import matrix_from_pose
from robot_rl.interfaces import Robot
from robot_rl.runtime.clock import StepGrid
from robot_rl.types import Array, EnvSpec, Frame, Observation

_SILENT_S = 1.0
JOINTS, TCP = "arm0/joint_position", "arm0/tcp_pose"


@dataclass(frozen=True)
class Stillness:
    """When an arm counts as standing: within ``window_s`` no joint moved by ``joint_rad`` and the TCP by ``tcp_m``."""

    window_s: float = 0.4
    joint_rad: float = 0.0015
    tcp_m: float = 0.0005
    timeout_s: float = 8.0


class ArmStream:
    """Reads a connected robot step by step and keeps every sample.

    ``listener`` hears each observation; raising in it ends what is being done. Raises RobotError for a robot that lacks
    joint positions or the TCP's pose, or whose arm has a fault.
    """

    def __init__(self, robot: Robot, spec: EnvSpec, listener: Callable[[Observation], None] | None = None) -> None:
        for name in (JOINTS, TCP):
            if name not in spec.observation:
                raise RobotError(f"robot '{spec.robot}' does not measure '{name}'", limit="needed for calibration")
        self.robot, self.spec, self.listener = robot, spec, listener
        self.samples: list[ArmSample] = []
        self._grid = StepGrid(robot.clock, spec.step_period_ns)
        self.latest = robot.read()
        self.restart(self.latest)

    def restart(self, observation: Observation) -> None:
        """The arm was reset: its steps count from ``observation``."""
        self._start_ns = observation.stamp_ns - observation.step * self.spec.step_period_ns
        self._grid.start(self._start_ns)
        self._take(observation)

    def end_ns(self, step: int) -> int:
        """When a control step since the last restart ends, which is when its row of a plan is due."""
        return self._start_ns + (step + 1) * self.spec.step_period_ns

    def step(self) -> Observation:
        """Wait for the end of the running step and read. Raises StaleObservationError for a stream that is silent."""
        self._grid.wait(self.latest.step)
        self._take(self.robot.read())
        silent_s = 1e-9 * (self.robot.clock.now_ns() - self.latest.stamp_ns)
        if silent_s > _SILENT_S:
            raise StaleObservationError(
                f"the arm told nothing new for {silent_s:.1f} s", limit=f"{_SILENT_S:g} s", remedy="Check its stream"
            )
        return self.latest

    @property
    def here(self) -> ArmSample:
        """The newest sample."""
        return self.samples[-1]

    def frame(self, camera: str) -> Frame:
        """The newest image of a camera. Raises RobotError naming those there are."""
        frames: Mapping[str, Frame] = self.latest.frames
        if camera not in frames:
            raise RobotError(f"no camera '{camera}' in what the robot sees", remedy=valid_choices(camera, frames))
        return frames[camera]

    def still(self, stillness: Stillness) -> bool:
        """Whether the arm stands, as measured."""
        recent = _since(self.samples, self.here.stamp_ns - round(1e9 * stillness.window_s))
        if len(recent) < 3 or recent[-1].stamp_ns - recent[0].stamp_ns < 0.7e9 * stillness.window_s:
            return False
        joints = np.ptp([sample.joint_position for sample in recent], axis=0).max()
        place = np.ptp([sample.T_base_tcp[:3, 3] for sample in recent], axis=0).max()
        return bool(joints <= stillness.joint_rad and place <= stillness.tcp_m)

    def settle(self, stillness: Stillness) -> bool:
        """Wait until the arm stands; False when it does not within the timeout."""
        end_ns = self.here.stamp_ns + round(1e9 * stillness.timeout_s)
        while not self.still(stillness):
            if self.step().stamp_ns > end_ns:
                return False
        return True

    def _take(self, observation: Observation) -> None:
        if observation.mode.startswith("fault"):
            raise RobotError(f"the arm reports a {observation.mode}", remedy="Clear it at the arm, then calibrate anew")
        if not self.samples or observation.stamp_ns > self.samples[-1].stamp_ns:
            self.samples.append(arm_sample(observation))
        self.latest = observation
        if self.listener is not None:
            self.listener(observation)


def arm_sample(observation: Observation) -> ArmSample:
    """Joints and TCP of an observation."""
    state = observation.state
    joints: Array = np.asarray(state[JOINTS], dtype=np.float64)
    return ArmSample(observation.stamp_ns, joints, matrix_from_pose(_unit(np.asarray(state[TCP], dtype=np.float64))))


def _unit(pose: Array) -> Array:
    """A pose of float32 with its quaternion at unit length."""
    return np.concatenate((pose[:3], pose[3:] / np.linalg.norm(pose[3:])))


def _since(samples: Sequence[ArmSample], stamp_ns: int) -> list[ArmSample]:
    recent = []
    for sample in reversed(samples):
        if sample.stamp_ns < stamp_ns:
            break
        recent.append(sample)
    return recent[::-1]
