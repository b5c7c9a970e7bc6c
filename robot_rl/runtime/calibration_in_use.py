"""Which calibration a robot is used with: the files of the site, their hash, their age. Base dependencies only.

``$ROBOT_RL_SITE/calibration/<robot>/*.yaml`` holds one file per procedure, as ``robot-rl calibrate`` writes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from robot_rl.errors import CalibrationError
from robot_rl.types import EnvSpec

MAX_AGE = "ROBOT_RL_CALIBRATION_DAYS"
_MAX_AGE_DAYS = 30.0
_SITE = "ROBOT_RL_SITE"


@dataclass(frozen=True)
class CalibrationInUse:
    """The files of one robot's calibration: name -> text."""

    robot: str
    files: Mapping[str, str]

    @cached_property
    def sha256(self) -> str:
        """Of names and contents; empty without files."""
        digest = hashlib.sha256()
        for name, text in sorted(self.files.items()):
            digest.update(f"{name}\0{len(text.encode())}\0{text}".encode())
        return digest.hexdigest() if self.files else ""

    @cached_property
    def contents(self) -> dict[str, Any]:
        """Parsed, by name. Raises CalibrationError for a damaged file, or one of another robot."""
        parsed = {}
        for name, text in self.files.items():
            try:
                parsed[name] = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise CalibrationError(f"calibration '{name}' of robot '{self.robot}' is damaged: {error}") from error
            whose = parsed[name].get("robot") if isinstance(parsed[name], dict) else None
            if whose != self.robot:
                raise CalibrationError(
                    f"calibration '{name}' in the folder of robot '{self.robot}' is of robot '{whose}'",
                    remedy="Move it, or calibrate anew",
                )
        return parsed

    def ages_days(self, now: datetime | None = None) -> dict[str, float]:
        """Of each file, by the date in it. Raises CalibrationError for a file without."""
        now = now or datetime.now(UTC)
        return {name: (now - _date(name, content)).total_seconds() / 86400.0 for name, content in self.contents.items()}

    def warnings(self, max_age_days: float, now: datetime | None = None) -> list[str]:
        """What is wrong with using it now, in sentences: files older than ``max_age_days``."""
        found = []
        for name, age_days in self.ages_days(now).items():
            if age_days > max_age_days:
                found.append(
                    f"calibration '{name}' of robot '{self.robot}' is {age_days:.0f} days old "
                    f"(limit: {max_age_days:g}). Calibrate anew: robot-rl calibrate, or set {MAX_AGE}"
                )
        return found


def calibration_folder(robot: str) -> Path | None:
    """Where the site keeps the calibration of a robot, whether there is one or not; None without a site."""
    site = os.environ.get(_SITE)
    return Path(site).expanduser() / "calibration" / robot if site else None


def calibration_in_use(robot: str) -> CalibrationInUse:
    """What the site holds for a robot; without files where there is nothing."""
    folder = calibration_folder(robot)
    paths = sorted(folder.glob("*.yaml")) if folder is not None and folder.is_dir() else []
    return CalibrationInUse(robot, {path.stem: path.read_text() for path in paths})


def max_age_days() -> float:
    """How old a calibration may be before its use is warned of. Raises CalibrationError for no number."""
    given = os.environ.get(MAX_AGE, str(_MAX_AGE_DAYS))
    try:
        return float(given)
    except ValueError as error:
        raise CalibrationError(f"{MAX_AGE}={given}", limit="a number of days") from error


def embedded_calibration(spec: EnvSpec) -> dict[str, Any]:
    """What an episode holds of the calibration that its spec names: its contents, where the site (still) has them;
    empty where none is in use."""
    if not spec.calibration_sha256:
        return {}
    return {"calibration": {"sha256": spec.calibration_sha256, "files": _contents(spec.robot, spec.calibration_sha256)}}


@lru_cache(maxsize=4)
def _contents(robot: str, sha256: str) -> dict[str, Any] | None:
    """Read once: episodes begin often."""
    in_use = calibration_in_use(robot)
    return in_use.contents if in_use.sha256 == sha256 else None


def _date(name: str, content: Mapping[str, Any]) -> datetime:
    try:
        date = datetime.fromisoformat(str(content["date"]))
    except (KeyError, ValueError) as error:
        raise CalibrationError(f"calibration '{name}' has no date", remedy="Calibrate anew") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
