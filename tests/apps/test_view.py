"""robot-rl view: every way of showing an episode, without a display."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.apps.main import main
from robot_rl.runtime.viewer import Show, viewer_of
from tests.apps.checkpoints import pusht_checkpoint
from tests.contracts.options import build_env, options


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return tmp_path


def test_without_a_display_there_is_a_rerun_recording(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "task=reach", "teleop=scripted", "env.max_steps=3", "episodes=2", "first_seed=4"]) == 0
    said = capsys.readouterr().out
    for seed in (4, 5):
        file = root / "runs" / "view" / f"reach-seed{seed}.rrd"
        assert file.stat().st_size > 10_000
        assert f"rerun {file}" in said


def test_a_video_on_demand_with_and_without_a_camera(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "task=pusht", "teleop=random", "env.max_steps=10", "first_seed=4", "show=video"]) == 0
    assert (root / "runs" / "view" / "pusht-seed4.mp4").stat().st_size > 1000
    assert "pusht-seed4.mp4" in capsys.readouterr().out
    # an arm without cameras draws its scene
    assert main(["view", "task=reach", "teleop=scripted", "env.max_steps=3", "show=video"]) == 0
    assert (root / "runs" / "view" / "reach-seed0.mp4").stat().st_size > 1000


def test_a_checkpoint_knows_its_task(root: Path) -> None:
    run = pusht_checkpoint(root)
    assert main(["view", f"checkpoint={run}", "first_seed=6", "env.max_steps=5"]) == 2  # it is not in the command
    assert main(["view", f"checkpoint={run}", "first_seed=6"]) == 0
    assert (root / "runs" / "view" / "pusht-seed6.rrd").stat().st_size > 1000


MISTAKES = {
    "no world": (["task=pusht", "show=window"], "the env has no MuJoCo world"),
    "no display": (["task=reach", "show=window"], "there is no display that answers"),
    "no such way": (["task=pusht", "show=windw"], "Did you mean 'window'?"),
    "no checkpoint": (["task=pusht", "policy=zero_noise"], "policy= acts around a checkpoint"),
    "no task": ([], "'task' must be given"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_shown_ends_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = MISTAKES[name]
    assert main(["view", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("task", options("task"))
def test_every_task_can_be_shown(task: str, tmp_path: Path) -> None:
    env = build_env(task, "env.max_steps=2")
    try:
        for show in (Show.RERUN, Show.VIDEO):
            assert viewer_of(env, show, tmp_path / "episode").show is show
    finally:
        env.close()
