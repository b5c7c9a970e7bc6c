"""The doctor on this machine, and on one where rendering cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robot_rl.apps import doctor
from robot_rl.apps.main import main


@pytest.mark.parametrize("name", [name for name in doctor.CHECKS if name != "rendering"])
def test_every_check_tells_something_and_what_to_do(name: str, tmp_path: Path) -> None:
    for finding in doctor.CHECKS[name](tmp_path):
        assert finding.told
        assert finding.level == "ok" or finding.remedy


def test_rendering_that_cannot_work_fails_with_a_remedy() -> None:
    environment = {**os.environ, "MUJOCO_GL": "nonsense"}
    command = [str(Path(sys.executable).with_name("robot-rl")), "doctor", "rendering"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "1 check(s) failed" in done.stderr
    assert "nonsense" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unknown_check_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "rendring"]) == 2
    assert "Did you mean 'rendering'?" in capsys.readouterr().err
