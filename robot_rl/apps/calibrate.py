"""robot-rl calibrate camera|hand_eye|time|joints|tool robot=...: samples, a solution, a report, a file for the site."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from robot_rl.apps.folders import run_folder
from robot_rl.apps.main import instantiate
from robot_rl.errors import ConfigError
from robot_rl.runtime.calibration_in_use import calibration_folder
from robot_rl.teleop.cue import on_screen
from robot_rl.teleop.device import Device, Key
from robot_rl.teleop.enabling import Enabling
from robot_rl.teleop.keyboard import Keyboard
from robot_rl.teleop.terminal import TERMINAL
from robot_rl.types import EnvSpec

_STARTING = "teleop=gamepad|keyboard, or spacemouse with one of the Pro models"
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
        operator = _operator(config, spec) if config.drive else None
        try:
            calibrator.collect(robot, samples, _known(config, spec.robot), drive=config.drive, operator=operator)
        finally:
            if operator is not None:
                operator.close()
        return spec.robot
    finally:
        robot.close()


def _known(config: Any, robot: str) -> Path:
    """Folder of the robot's calibrations: the site's, else one below the root."""
    return calibration_folder(robot) or Path(config.root) / "calibrations" / robot


def _operator(config: Any, spec: EnvSpec) -> Enabling | None:
    """The person without whose device the arm does not move: that of ``teleop=``, else the terminal's keyboard where
    ``confirm`` asks for one, as it does for a real arm unless it is false. Raises ConfigError, DeviceError."""
    asks = not spec.simulated if config.confirm is None else config.confirm
    if not asks and (config.confirm is False or not config.get("teleop")):
        return None
    device = instantiate(config.teleop.device) if config.get("teleop") and config.teleop.get("device") else None
    if device is None and not config.get("teleop"):
        device = Keyboard()
    if not isinstance(device, Device):
        raise ConfigError("this teleop= is no device in a person's hand", remedy=_STARTING)
    device.poll()  # what is wrong with it is said before anything else
    if not device.dead_man and Key.START not in device.offers:
        device.close()
        raise ConfigError("the device of this teleop= has neither a dead-man nor a start key", remedy=_STARTING)
    show = on_screen(getattr(device, "terminal", TERMINAL))
    return Enabling(device, lambda text: show(f"{text}\n"))
