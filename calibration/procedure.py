"""What every calibration procedure has in common: it collects samples from a robot, and solves what was collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from calibration.arm_drive import ArmDrive, Operator
from calibration.arm_stream import ArmStream
from calibration.camera_model import Distortion, Intrinsics
from calibration.display import Display
from calibration.outcome import Outcome
from calibration.pose_plan import Room
from calibration.recording import Recording
from calibration.rig import Mount
from calibration.storage import load_calibration
from calibration.view_taking import Sight, ViewTaker
from robot_rl.errors import CalibrationError, ConfigError, valid_choices
from robot_rl.geometry import pose_from_matrix
from robot_rl.types import Array, EnvSpec

_NOMINAL_FOCAL = 0.95  # of the image's width: 56 deg across
_CLEAR_M = 0.02  # that planned poses stay off the walls of the workspace
_CLEAR_RAD = 0.2


class Kinematics(Protocol):
    """Forward kinematics of an arm, and which poses [7] its joints can take."""

    names: tuple[str, ...]

    def pose(self, joint_position: Array) -> Array: ...

    def reachable(self, pose: Array) -> bool: ...


@dataclass(frozen=True)
class Bench:
    """Where a procedure works: a connected robot, a display, and what is known. With ``drive`` the arm moves itself, as
    long as the ``operator`` lets it; without one unwatched."""

    stream: ArmStream
    display: Display
    known: Path | None = None  # folder of the robot's calibrations
    kinematics: Kinematics | None = None
    drive: bool = True
    operator: Operator | None = None

    @property
    def spec(self) -> EnvSpec:
        return self.stream.spec

    def arm_drive(self, what: str) -> ArmDrive:
        """What moves the arm, once the person has agreed. Raises ConfigError where it cannot be moved."""
        drive = ArmDrive(self.stream, self.operator)
        if self.operator is None:
            self.display.tell(what)
        else:
            self.operator.ask(what)
        return drive

    def room(self, start: Array) -> Room:
        """Where the TCP may go: the robot's workspace, turns from ``start`` [4, 4] that its limits allow."""
        part = next(part for part in self.spec.action.parts if part.name == "arm0/tcp")
        most = self.spec.limits.get("max_rotation_rad", np.pi / 2.0) - _CLEAR_RAD
        kinematics = self.kinematics
        reachable = None if kinematics is None else lambda T: kinematics.reachable(pose_from_matrix(T))
        low, high = np.array(part.low[:3]) + _CLEAR_M, np.array(part.high[:3]) - _CLEAR_M
        return Room(low, high, start, most, reachable)

    def lens(self, camera: str) -> Intrinsics | None:
        """The calibrated lens of a camera for the size of image that the robot gives; None without one."""
        for kind in ("camera", "hand_eye"):
            path = None if self.known is None else self.known / f"{camera}_{kind}.yaml"
            if path is not None and path.is_file():
                return load_calibration(path).cameras[camera].scaled(image_size(self.spec, camera))
        return None


@runtime_checkable
class Procedure(Protocol):
    """``subject`` names its files, e.g. wrist_hand_eye."""

    @property
    def subject(self) -> str: ...

    def collect(self, bench: Bench) -> Recording:
        """Take the samples. Raises CalibrationError for a scene in which they cannot be had."""
        ...

    def solve(self, recording: Recording, kinematics: Kinematics | None = None) -> Outcome:
        """Raises CalibrationError naming what is wrong with the samples."""
        ...


def image_size(spec: EnvSpec, camera: str) -> tuple[int, int]:
    """Width and height. Raises ConfigError naming the cameras there are."""
    if camera not in spec.cameras:
        raise ConfigError(f"robot '{spec.robot}' has no camera '{camera}'", remedy=valid_choices(camera, spec.cameras))
    return spec.cameras[camera].width, spec.cameras[camera].height


def nominal_lens(size: tuple[int, int]) -> Intrinsics:
    """What a camera of this size of image is like, before it is calibrated."""
    focal = _NOMINAL_FOCAL * size[0]
    centre = [0.5 * (size[0] - 1), 0.5 * (size[1] - 1)]
    return Intrinsics(np.array([[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]]), np.zeros(5), size)


def take_views(bench: Bench, sight: Sight, kind: str, wanted: int, seed: int, known_lens: bool) -> Recording:
    """``wanted`` views of an arm that stands, taken by itself or by a person."""
    taker = ViewTaker(bench.stream, sight, bench.display, wanted, seed=seed)
    if bench.drive:
        what = f"The arm will drive itself to about {wanted} poses around where it starts"
        taker.drive(bench.arm_drive(what), bench.room)
    else:
        taker.guide(bench.room)
    facts = sight_facts(sight, known_lens)
    return Recording(
        kind, bench.spec.robot, sight.camera, bench.stream.samples, taker.views, {sight.board_name: sight.board},
        taker.images, facts={**facts, "arm_period_ms": 1e3 / bench.spec.step_rate_hz},
    )  # fmt: skip


def sight_facts(sight: Sight, known_lens: bool) -> dict[str, Any]:
    """What solving needs of a sight, as plain values; the lens where it was calibrated."""
    lens = sight.lens
    fields = {
        "image_size_px": list(lens.image_size_px), "matrix": lens.matrix.ravel().tolist(),
        "coefficients": lens.coefficients.tolist(), "model": str(lens.model),
    }  # fmt: skip
    return {"camera_on": str(sight.camera_on), "board": sight.board_name, "lens": fields if known_lens else None}


def recorded_sight(recording: Recording, lens: Intrinsics | None = None) -> Sight:
    """The sight of a recording, with ``lens`` where it was taken without one. Raises CalibrationError for neither."""
    facts, fields = recording.facts, recording.facts.get("lens")
    if fields is not None:
        width, height = fields["image_size_px"]
        lens = Intrinsics(
            np.reshape(fields["matrix"], (3, 3)), fields["coefficients"], (width, height), Distortion(fields["model"])
        )
    if lens is None:
        raise CalibrationError(
            f"camera '{recording.camera}' has no calibrated lens",
            remedy=f"First: robot-rl calibrate camera procedure.camera={recording.camera}",
        )
    board = facts["board"]
    return Sight(recording.camera, Mount(facts["camera_on"]), board, recording.boards[board], lens)


def stamped_pairs(recording: Recording) -> Mapping[str, float]:
    """Keyword arguments of ``pair`` for this recording's rates."""
    return {"max_gap_ms": float(recording.facts.get("arm_period_ms", 20.0)), "still_rad": 0.004}
