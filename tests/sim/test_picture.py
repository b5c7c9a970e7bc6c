"""The command that draws the README's pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot_rl.errors import ConfigError
from sim.picture import draw


def test_the_command_writes_start_and_end_side_by_side(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sim.picture", "reach", "--folder", str(tmp_path)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    assert (tmp_path / "reach.jpg").stat().st_size < 60_000
    image = cv2.imread(str(tmp_path / "reach.jpg"))
    assert image is not None and image.shape == (300, 806, 3)
    start, end = image[:, :400].astype(int), image[:, 406:].astype(int)
    assert np.abs(start - end).max() > 100  # the arm has moved
    target = (start[..., 1] > start[..., 2] + 40) & (start[..., 1] > start[..., 0] + 30)
    assert target.sum() > 20  # and the green target is seen


def test_an_env_that_draws_itself_is_one_panel() -> None:
    assert draw("pusht").shape == (300, 300, 3)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'reach'"):
        draw("rech")
