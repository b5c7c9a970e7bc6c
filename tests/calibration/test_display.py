"""What a person sees while samples are taken."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from calibration.display import Terminal


def test_coverage_and_advice_are_shown_live_on_a_terminal() -> None:
    screen = io.StringIO()
    covered = np.zeros((6, 8), dtype=bool)
    covered[2, :6] = True
    with Terminal("wrist_camera", Console(file=screen, force_terminal=True, width=100)) as display:
        display.progress(7, 25, covered)
        display.tell("next best view: turn the tool +20 deg about its x")
        shown = display._rendered()
    seen = io.StringIO()
    Console(file=seen, width=100).print(shown)
    lines = seen.getvalue().splitlines()
    assert "wrist_camera: 7 of 25" in lines[0]
    assert "corners seen in the image (12 %)" in seen.getvalue()
    assert "■ ■ ■ ■ ■ ■ · ·" in seen.getvalue()
    assert "next best view: turn the tool +20 deg about its x" in lines[-1]
    assert "next best view" in screen.getvalue()  # refreshed without anybody asking


def test_elsewhere_each_message_is_one_line() -> None:
    said = io.StringIO()
    with Terminal("tool", Console(file=said, width=100)) as display:
        for _ in range(3):
            display.tell("tilt the tool")
        display.progress(1, 16)
        display.tell("let it stand")
    assert said.getvalue().splitlines() == ["tool 0/1: tilt the tool", "tool 1/16: let it stand"]
