"""One calibration from start to end: samples from the robot, or from a folder, to stored values and a report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from calibration.arm_drive import Operator
from calibration.arm_stream import JOINTS, ArmStream
from calibration.display import Terminal
from calibration.outcome import Outcome
from calibration.procedure import Bench, Kinematics, Procedure
from calibration.recording import load_recording, samples_sha256
from calibration.report import write_report
from calibration.storage import save_calibration
from robot_rl.errors import CalibrationError, ConfigError
from robot_rl.interfaces import Robot
from robot_rl.types import EnvSpec

_REPORT = "report.html"


@dataclass(frozen=True)
class Calibrator:
    """Runs a ``procedure``; ``kinematics`` of the arm lets poses be checked for reach and against joints."""

    procedure: Procedure | None = None
    kinematics: Kinematics | None = None

    def collect(
        self, robot: Robot, folder: Path, known: Path, *, drive: bool = True,
        operator: Operator | None = None,
    ) -> None:  # fmt: skip
        """Take samples of a connected robot into ``folder``. ``known`` holds the robot's calibrations.

        Raises CalibrationError where they cannot be had, the robot is then stopped, and ConfigError for the kinematics
        of another arm.
        """
        procedure = self._procedure()
        self._check_kinematics(robot.connect())
        try:
            with Terminal(procedure.subject) as display:
                stream = ArmStream(robot, robot.connect())
                recording = procedure.collect(Bench(stream, display, known, self.kinematics, drive, operator))
        finally:
            robot.stop()
        recording.save(folder)

    def solve(self, samples: Path, folder: Path) -> Outcome:
        """Solve what lies in ``samples`` and write report and exports into ``folder``. Raises CalibrationError naming
        what is wrong with the samples."""
        recording = load_recording(samples)
        outcome = self._procedure().solve(recording, self.kinematics)
        outcome = replace(outcome, calibration=replace(outcome.calibration, samples_sha256=samples_sha256(samples)))
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in outcome.exports.items():
            (folder / name).write_text(text)
        write_report(folder / _REPORT, outcome, samples, recording.kind)
        return outcome

    def tell(self, outcome: Outcome, folder: Path) -> None:
        """Print the table and where the report is."""
        table = Table("", "found", "should be", title=outcome.title)
        for line in outcome.lines:
            colour = "green" if line.good and line.fine else "yellow" if line.good else "default"
            table.add_row(line.name, f"[{colour}]{line.value}[/]", line.good)
        console = Console()
        console.print(table)
        console.print(outcome.verdict, highlight=False)
        console.print(f"Report: {folder / _REPORT}", highlight=False, soft_wrap=True)

    def store(self, outcome: Outcome, known: Path) -> Path:
        """Write the values to where the robot's calibrations lie; returns the file."""
        path = known / f"{outcome.name}.yaml"
        save_calibration(path, outcome.calibration)
        return path

    @property
    def subject(self) -> str:
        """Name of what is calibrated, e.g. wrist_hand_eye. Raises ConfigError without a procedure."""
        return self._procedure().subject

    @staticmethod
    def robot_of(samples: Path) -> str:
        """Of which robot samples are. Raises CalibrationError for a folder without."""
        return load_recording(samples).robot

    def _check_kinematics(self, spec: EnvSpec) -> None:
        named = spec.observation[JOINTS].names if JOINTS in spec.observation else ()
        if self.kinematics is not None and named and tuple(named) != tuple(self.kinematics.names):
            raise ConfigError(
                f"kinematics= is of the joints {', '.join(self.kinematics.names)}, robot '{spec.robot}' has "
                f"{', '.join(named)}",
                remedy="Behind the bridge: kinematics=arm_file kinematics.arm=<its description>; kinematics=null: none",
            )

    def _procedure(self) -> Procedure:
        if self.procedure is None:
            raise ConfigError("what shall be calibrated?", remedy="robot-rl calibrate camera|hand_eye|time|joints|tool")
        if not isinstance(self.procedure, Procedure):
            raise CalibrationError(f"{self.procedure} is no procedure")
        return self.procedure
