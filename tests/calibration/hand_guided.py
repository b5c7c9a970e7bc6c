"""An arm in the hands of a person, before the cameras of a simulated cell: for procedures in which it does not drive
itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Self

import numpy as np

from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.clock import SimulatedClock
from robot_rl.types import Array, CameraSpec, EnvSpec, Frame, Observation, ResetRequest, TargetChunk
from sim.calibration_cell import CalibrationCell
from tests.calibration.rendered import CAMERA

STEP_NS, _IMAGE_NS = 50_000_000, 33_333_333
_STANDS_S, _MOVES_S = 1.6, 0.4

Guidance = Callable[[float], Array]  # time [s] -> joint positions [n]


def postures(joints: Iterator[Array]) -> Guidance:
    """From one of ``joints`` to the next, standing a while at each."""
    seen: list[Array] = []

    def at(time_s: float) -> Array:
        index, rest_s = divmod(time_s, _STANDS_S + _MOVES_S)
        while len(seen) < index + 2:
            seen.append(next(joints))
        share = np.clip((rest_s - _STANDS_S) / _MOVES_S, 0.0, 1.0)
        return seen[int(index)] + share * (seen[int(index) + 1] - seen[int(index)])

    return at


class HandGuided:
    """A Robot that goes where ``guidance`` leads it and refuses to be driven; images are drawn when looked at, and are
    stamped ``delay_s`` late."""

    def __init__(self, cell: CalibrationCell, guidance: Guidance, delay_s: float = 0.0) -> None:
        self.cell, self.guidance, self._delay_s = cell, guidance, delay_s
        self.joint_offset_rad = np.zeros(cell.chain.dof)  # the joints are that much further than the encoders say
        self.clock = SimulatedClock(1_000_000_000)
        lens = cell.cameras[CAMERA].lens
        camera = CameraSpec(lens.height, lens.width, 1e9 / _IMAGE_NS, codec="raw", frame=f"{CAMERA}_optical")
        fake = FakeRobot().connect()
        self.spec = EnvSpec(
            "hand_guided", 1e9 / STEP_NS, fake.observation, fake.action, {CAMERA: camera}, simulated=True,
            limits=fake.limits,
        )  # fmt: skip
        self.mode = "tracking"

    def connect(self) -> EnvSpec:
        return self.spec

    def read(self) -> Observation:
        step = self.clock.now_ns() // STEP_NS
        stamp_ns = step * STEP_NS
        joints = self.guidance(1e-9 * stamp_ns) - self.joint_offset_rad
        state = {"arm0/joint_position": joints, "arm0/tcp_pose": self.cell.chain.pose(joints)}
        return Observation(step, stamp_ns, state, _Frames(self, stamp_ns - stamp_ns % _IMAGE_NS), mode=self.mode)

    def command(self, chunk: TargetChunk) -> None:
        raise AssertionError("nobody may drive an arm that a person moves")

    def reset(self, request: ResetRequest) -> Observation:
        raise AssertionError("nobody may reset an arm that a person moves")

    def stop(self) -> None:
        self.mode = "stopped"

    def close(self) -> None:
        self.cell.close()

    def draw(self, stamp_ns: int) -> Frame:
        image = self.cell.draw(CAMERA, self.guidance(1e-9 * stamp_ns - self._delay_s))
        return Frame(image.tobytes(), stamp_ns, stamp_ns // _IMAGE_NS, *image.shape[:2], codec="raw")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Frames(Mapping[str, Frame]):
    """The newest image, drawn once when it is looked at."""

    def __init__(self, robot: HandGuided, stamp_ns: int) -> None:
        self._robot, self._stamp_ns = robot, stamp_ns
        self._drawn: Frame | None = None

    def __getitem__(self, name: str) -> Frame:
        if name != CAMERA:
            raise KeyError(name)
        if self._drawn is None:
            self._drawn = self._robot.draw(self._stamp_ns)
        return self._drawn

    def __iter__(self) -> Iterator[str]:
        return iter((CAMERA,))

    def __len__(self) -> int:
        return 1
