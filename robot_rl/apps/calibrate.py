"""robot-rl calibrate camera|hand_eye|time|joints|tool robot=...: samples, a solution, a report, a file for the site."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from robot_rl.apps.folders import run_folder
from robot_rl.apps.main import instantiate
from robot_rl.errors import ConfigError
from robot_rl.runtime.calibration_in_use import calibration_folder

SUBCOMMAND = "procedure"  # what the first bare word after the command stands for


@dataclass
class Config:
    """Types of the keys in conf/calibrate.yaml."""

    root: str
    name: str | None
    samples: str | None
    drive: bool
    confirm: bool | None
    store: bool


def run(config: Any) -> None:
    """Collect and solve, or only solve what was collected before."""
    calibrator = instantiate(config.calibrator)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = run_folder(config.root, config.name or f"calibrate-{calibrator.subject}-{stamp}")
    samples = folder / "samples" if config.samples is None else Path(config.samples)
    robot = calibrator.robot_of(samples) if config.samples else _collect(config, calibrator, samples)
    outcome = calibrator.solve(samples, folder)
    calibrator.tell(outcome, folder)
    if config.store:
        path = calibrator.store(outcome, _known(config, robot))
        print(f"Stored: {path}")
        if calibration_folder(robot) is None:
            print("ROBOT_RL_SITE is not set: nothing uses this file until it lies in a site's folder")


def _collect(config: Any, calibrator: Any, samples: Path) -> str:
    """Take samples; returns the name of the robot."""
    robot = instantiate(config.robot)
    try:
        spec = robot.connect()
        asks = not spec.simulated if config.confirm is None else config.confirm
        confirm = _ask if asks else _say
        calibrator.collect(robot, samples, _known(config, spec.robot), drive=config.drive, confirm=confirm)
        return spec.robot
    finally:
        robot.close()


def _known(config: Any, robot: str) -> Path:
    """Folder of the robot's calibrations: the site's, else one below the root."""
    return calibration_folder(robot) or Path(config.root) / "calibrations" / robot


def _ask(what: str) -> None:
    """Raises KeyboardInterrupt unless the person agrees."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{what}, and nobody can be asked", remedy="Run it in a terminal, or give confirm=false")
    if input(f"{what}. Clear its way. Enter: it moves, q: stop\n").strip().lower() == "q":
        raise KeyboardInterrupt


def _say(what: str) -> None:
    print(what)
