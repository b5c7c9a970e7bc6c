"""The main job, small and whole: record with and without images, train, evaluate, summarise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore


def test_the_demo_leaves_data_checkpoint_report_plots_and_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    words = ["demo", "episodes=4", "image_episodes=1", "evaluations=2", "steps=30"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "robot-rl train task=lift data=demo" in told
    assert "2 seeds" in told

    store = EpisodeStore.open(tmp_path / "data" / "demo")
    cameras = [sorted(store.read(id).cameras) for id in store.ids()]
    assert cameras == [[], [], [], ["front", "wrist"]]
    assert all(info.success for info in store.infos())

    run = tmp_path / "runs" / "demo"
    assert (run / "loss.png").stat().st_size > 1000
    assert (run / "samples.png").stat().st_size > 1000
    (video,) = (run / "evaluation").glob("*.mp4")
    assert video.stat().st_size > 1000
    (report,) = (run / "evaluation").glob("*.json")
    assert json.loads(report.read_text())["episodes_total"] == 2

    assert main(words) == 0, "what is there already is not done again"
    assert EpisodeStore.open(tmp_path / "data" / "demo").ids() == store.ids()
