"""Single checks of the preflight, by what they tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from robot_rl.apps.findings import FAIL, OK, WARN, Finding
from robot_rl.apps.preflight import calibration, look
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.calibration_in_use import calibration_in_use
from robot_rl.runtime.dry_run import DryRun
from robot_rl.types import CameraSpec, EnvSpec

GOOD = DryRun(20.0, 0, {"front": 20.0}, 30.0, 2.0, 4.0, 0.01, 0.02, 0.0, True)
SPEC = replace(FakeRobot().connect(), cameras={"front": CameraSpec(96, 96, 30.0)}, limits={"max_speed_m_s": 0.5})


def levels(found: DryRun, spec: EnvSpec = SPEC, made_for: EnvSpec = SPEC, disk_gb: float = 0.0) -> dict[str, Finding]:
    return {each.check: each for each in look(spec, made_for, found, Path("/"), disk_gb)}


def test_all_is_well() -> None:
    assert {each.level for each in levels(GOOD).values()} == {OK}


def test_each_fault_is_found_and_nothing_else() -> None:
    faults = {
        "observations": (replace(GOOD, observed_hz=9.0), FAIL),
        "camera front": (replace(GOOD, frames_hz={"front": 3.0}), WARN),
        "policy": (replace(GOOD, latency_max_ms=51.0), WARN),
        "first target": (replace(GOOD, jump_m=0.06), WARN),
    }
    for name, (found, level) in faults.items():
        told = levels(found)
        assert told[name].level == level
        assert told[name].remedy
        assert {each.level for check, each in told.items() if check != name} == {OK}
    assert levels(replace(GOOD, finite=False))["policy"].level == FAIL
    assert levels(replace(GOOD, late=1))["observations"].level == WARN
    assert levels(replace(GOOD, observed_hz=17.0))["observations"].level == WARN
    assert levels(GOOD, disk_gb=1e9)["disk"].level == FAIL


def test_what_matters_on_a_real_arm() -> None:
    real = replace(SPEC, simulated=False, limits={"max_speed_m_s": 0.9})
    told = levels(GOOD, real)
    assert "REAL" in told["spec"].told
    assert "max_speed_m_s" in told["limits"].remedy  # wider than the policy was made for
    assert "emergency stop" in told["force stop"].remedy
    assert told["calibration"].level == WARN  # cameras, and none in use
    assert levels(GOOD, replace(real, force_source="measured"))["force stop"].level == OK


def test_the_age_of_the_calibration_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path))
    folder = tmp_path / "calibration" / SPEC.robot
    folder.mkdir(parents=True)

    def dated(days: float) -> Finding:
        date = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        (folder / "hand_eye.yaml").write_text(yaml.safe_dump({"robot": SPEC.robot, "date": date}))
        return calibration(replace(SPEC, calibration_sha256=calibration_in_use(SPEC.robot).sha256))

    assert dated(1.0).level == OK
    assert "hand_eye 1.0 days old" in dated(1.0).told
    assert dated(40.0).level == WARN
    assert calibration(replace(SPEC, calibration_sha256="0" * 64)).level == WARN
    (folder / "hand_eye.yaml").write_text(yaml.safe_dump({"robot": SPEC.robot}))
    undated = calibration(replace(SPEC, calibration_sha256=calibration_in_use(SPEC.robot).sha256))
    assert undated.level == FAIL
