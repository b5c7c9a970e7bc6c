"""The doctor on this machine, and on one where rendering cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robot_rl.apps import doctor
from robot_rl.apps.main import main
from robot_rl.runtime.egl_devices import count_devices
from robot_rl.runtime.gl_library import has_osmesa


@pytest.mark.parametrize("name", [name for name in doctor.CHECKS if name != "rendering"])
def test_every_check_tells_something_and_what_to_do(name: str, tmp_path: Path) -> None:
    for finding in doctor.CHECKS[name](tmp_path):
        assert finding.told
        assert finding.level == "ok" or finding.remedy


def run_doctor(check: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in an environment without the settings that tests run with, and with ``environment``."""
    cleared = {name: value for name, value in os.environ.items() if name not in CLEARED}
    command = [str(Path(sys.executable).with_name("robot-rl")), "doctor", check]
    environ = {**cleared, "COLUMNS": "400", **environment}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


CLEARED = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_EGL_DEVICE_ID")
BROKEN = {
    "not a library": ({"MUJOCO_GL": "nonsense"}, "nonsense is no OpenGL library", "Unset MUJOCO_GL"),
    "no display": ({"MUJOCO_GL": "glfw"}, "DISPLAY is not set", "Unset MUJOCO_GL"),
    "dead display": ({"MUJOCO_GL": "glfw", "DISPLAY": ":77"}, "DISPLAY=:77 does not answer", "Unset MUJOCO_GL"),
    "contradiction": ({"PYOPENGL_PLATFORM": "glx"}, "PYOPENGL_PLATFORM=glx contradicts", "Unset PYOPENGL_PLATFORM"),
    "switched off": ({"MUJOCO_GL": "off"}, "switched off by MUJOCO_GL=off", "Unset MUJOCO_GL"),
    "wrong number": ({"MUJOCO_EGL_DEVICE_ID": "99"}, "99 is no device", "Unset MUJOCO_EGL_DEVICE_ID"),
    "no driver": (
        {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere"},
        "__EGL_VENDOR_LIBRARY_FILENAMES=/nowhere decides",
        "Unset __EGL_VENDOR_LIBRARY_FILENAMES",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_rendering_that_cannot_work_fails_with_its_cause_and_remedy(name: str) -> None:
    environment, cause, remedy = BROKEN[name]
    done = run_doctor("rendering", **environment)
    assert done.returncode == 2, done.stdout
    assert cause in done.stdout
    assert remedy in done.stdout
    assert "check(s) failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.skipif(has_osmesa(), reason="OSMesa is installed here")
def test_osmesa_that_is_not_installed_is_named() -> None:
    done = run_doctor("rendering", MUJOCO_GL="osmesa")
    assert done.returncode == 2
    assert "libOSMesa.so.8" in done.stdout
    assert "libosmesa6" in done.stdout


@pytest.mark.skipif(count_devices() == 0, reason="nothing can be drawn here")
def test_rendering_that_works_names_library_and_renderer() -> None:
    done = run_doctor("rendering")
    assert done.returncode == 0, done.stdout
    assert "MUJOCO_GL=egl, " in done.stdout
    assert "frames/s" in done.stdout


def test_a_driver_that_dies_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An interpreter that kills itself on start-up stands for the driver."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = doctor.check_rendering(tmp_path)
    assert finding.level == "fail"
    assert "signal 11" in finding.told


def test_a_simulation_under_a_wrong_setting_ends_in_one_line() -> None:
    command = [str(Path(sys.executable).with_name("robot-rl")), "view", "task=reach"]
    environ = {**os.environ, "MUJOCO_GL": "nonsense"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "MUJOCO_GL=nonsense is no OpenGL library" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_check_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "rendring"]) == 2
    assert "Did you mean 'rendering'?" in capsys.readouterr().err
