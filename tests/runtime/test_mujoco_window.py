"""The live window, on a virtual display where one is installed (Debian: xvfb)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot_rl.runtime.viewer import has_display

pytestmark = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no Xvfb to open a window on")


@pytest.fixture
def display() -> Iterator[str]:
    """A virtual display with software OpenGL, of a number that is free."""
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        number = server.stdout.readline().strip()  # written once it answers
        try:
            yield f":{number}"
        finally:
            server.terminate()


def test_view_opens_a_window_where_there_is_a_display_and_ends_cleanly(display: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("robot-rl")), "view", "task=reach", "teleop=scripted", "episodes=2"]
    environ = {**os.environ, "DISPLAY": display, "ROBOT_RL_ROOT": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr  # its threads crash an interpreter that ends before them
    assert done.stdout.count("success") == 2
    assert not list(tmp_path.rglob("*.rrd"))


def test_a_display_that_is_gone_does_not_answer(display: str) -> None:
    assert has_display({"DISPLAY": display})
    assert not has_display({"DISPLAY": ":98765"})
    assert not has_display({})
