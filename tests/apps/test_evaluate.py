"""robot-rl evaluate, on a small checkpoint in the real Push-T."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from robot_rl.apps.main import main
from robot_rl.data.pusht import pusht_spec
from tests.apps.checkpoints import pusht_checkpoint

SHORT = ["task=pusht", "env.max_steps=16", "videos=0"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    return tmp_path


def test_without_a_task_it_is_the_checkpoints(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = pusht_checkpoint(root)
    assert main(["evaluate", f"checkpoint={run}", "episodes=3", "batch=2"]) == 0
    said = capsys.readouterr().out
    (report,) = (run / "evaluation").glob("*.json")
    (video,) = (run / "evaluation").glob("*.mp4")
    assert report.name in said
    assert video.name in said
    data = json.loads(report.read_text())
    assert [episode["seed"] for episode in data["episodes"]] == [100000, 100001, 100002]
    assert {episode["length"] for episode in data["episodes"]} == {300}
    assert data["task"] == "pusht"
    assert data["success_interval_95"][1] == pytest.approx(1 - 0.025 ** (1 / 3))


def test_goes_on_after_a_kill_and_repeats_exactly(root: Path) -> None:
    run = pusht_checkpoint(root)
    words = ["evaluate", f"checkpoint={run}", "episodes=6", "batch=2", *SHORT]
    assert main(words) == 0
    (report,) = (run / "evaluation").glob("*.json")
    (log,) = (run / "evaluation").glob("*.jsonl")
    first = json.loads(report.read_text())["episodes"]
    lines = log.read_text().splitlines(keepends=True)
    marked = lines[1].replace('"reason": "time_limit"', '"reason": "from the log"')
    log.write_text("".join([lines[0], marked, lines[2]]))  # killed after two episodes
    assert main(words) == 0
    second = json.loads(report.read_text())["episodes"]
    assert second[0]["reason"] == "from the log"  # not run again
    assert second[1:] == first[1:]


def test_a_smaller_evaluation_leaves_a_larger_ones_results(root: Path) -> None:
    run = pusht_checkpoint(root)
    for episodes, first_seed in ((4, 100000), (2, 100001), (4, 100000)):
        words = [f"episodes={episodes}", f"first_seed={first_seed}", "batch=2", *SHORT]
        assert main(["evaluate", f"checkpoint={run}", *words]) == 0
    reports = [json.loads(path.read_text()) for path in sorted((run / "evaluation").glob("*.json"))]
    assert [len(report["episodes"]) for report in reports] == [4, 2]
    assert reports[0]["episodes"][1:3] == reports[1]["episodes"]
    (log,) = (run / "evaluation").glob("*.jsonl")
    assert len(log.read_text().splitlines()) == 1 + 4  # every seed was run once


def test_arguments_of_the_policy_can_be_changed(root: Path) -> None:
    run = pusht_checkpoint(root)
    assert main(["evaluate", f"checkpoint={run}", "episodes=1", "batch=1", "+changes.sampler.steps=4", *SHORT]) == 0
    assert main(["evaluate", f"checkpoint={run}", "episodes=1", "batch=1", *SHORT]) == 0
    reports = [json.loads(path.read_text()) for path in (run / "evaluation").glob("*.json")]
    assert sorted(str(report["meta"]["changes"]) for report in reports) == ["{'sampler.steps': 4}", "{}"]
    assert sorted(report["policy"] for report in reports) == [
        "tiny/step_00000001", "tiny/step_00000001 sampler.steps=4",
    ]  # fmt: skip


def test_a_policy_acts_around_the_checkpoints(root: Path) -> None:
    """Noise times 1 changes nothing, noise times 0 does; each has a report and a name of its own."""
    run = pusht_checkpoint(root)
    for words in ([], ["policy=zero_noise"], ["policy=zero_noise", "policy.scale=1.0"]):
        assert main(["evaluate", f"checkpoint={run}", "episodes=2", "batch=2", *words, *SHORT]) == 0
    reports = {r["policy"]: r for r in map(json.loads, (p.read_text() for p in (run / "evaluation").glob("*.json")))}
    plain, zero, one = "", " ScaledNoise scale=0.0", " ScaledNoise scale=1.0"
    assert sorted(reports) == [f"tiny/step_00000001{title}" for title in (plain, zero, one)]
    scores = {title: reports[f"tiny/step_00000001{title}"]["episodes"] for title in (plain, zero, one)}
    assert scores[one] == scores[plain]
    assert scores[zero] != scores[plain]


def test_mistakes_end_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> str:
        assert main(["evaluate", *words]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    run = pusht_checkpoint(root)
    assert "checkpoint" in refused()
    assert "no checkpoint at nowhere" in refused("checkpoint=nowhere")
    assert "episodes=0" in refused(f"checkpoint={run}", "episodes=0")
    for word in ("threads=0", "first_seed=-1", "batch=0"):
        assert word in refused(f"checkpoint={run}", word)
    assert "another env" in refused(f"checkpoint={run}", "task=reach", "episodes=1")
    assert "no policy argument 'smapler.steps'" in refused(f"checkpoint={run}", "+changes.smapler.steps=4")
    assert "takes no base" in refused(f"checkpoint={run}", "policy=diffusion_mlp")
    assert "Did you mean 'medoid'" in refused(f"checkpoint={run}", "policy=mediod")
    stranger = pusht_checkpoint(root, "stranger", spec=replace(pusht_spec(), task="tetris"))
    assert "no task option is called 'tetris'" in refused(f"checkpoint={stranger}")
