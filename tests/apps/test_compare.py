"""robot-rl compare: checkpoints or reports, on the same seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot_rl.apps.main import main
from robot_rl.runtime.scores import EpisodeScore, EvaluationReport
from tests.apps.checkpoints import pusht_checkpoint, steered_checkpoint


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    return tmp_path


def test_a_checkpoint_against_itself_differs_in_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = pusht_checkpoint(root)
    short = ["episodes=4", "batch=2", "task=pusht", "env.max_steps=16"]
    assert main(["compare", f"first={run}", f"second={run}", *short]) == 0
    result = json.loads((root / "runs" / "compare" / "comparison.json").read_text())
    assert (result["pairs"], result["best_reward_difference"], result["p_best_reward"]) == (4, 0.0, 1.0)
    assert "McNemar" in capsys.readouterr().out


def test_a_checkpoint_against_a_control_of_itself(root: Path) -> None:
    run = pusht_checkpoint(root)
    short = ["episodes=4", "batch=2", "task=pusht", "env.max_steps=16", "policy@second_policy=medoid"]
    assert main(["compare", f"first={run}", f"second={run}", "second_policy.candidates=3", *short]) == 0
    result = json.loads((root / "runs" / "compare" / "comparison.json").read_text())
    assert result["second"] == "tiny/step_00000001 Chosen choice=Medoid candidates=3"
    assert result["first"] == "tiny/step_00000001"
    assert len(list((root / "runs" / "compare").glob("step_*.json"))) == 2


def test_reports_are_paired_by_seed(root: Path) -> None:
    for name, seeds in (("a", range(6)), ("b", range(3, 12))):
        episodes = tuple(EpisodeScore(s, name == "a", 0.5, 0.5, 10, "") for s in seeds)
        EvaluationReport(name, "pusht", episodes).save(root / f"{name}.json")
    assert main(["compare", f"first={root}/a.json", f"second={root}/b.json", "name=ab"]) == 0
    result = json.loads((root / "runs" / "ab" / "comparison.json").read_text())
    assert (result["pairs"], result["only_first"], result["p_success"]) == (3, 3, 0.25)


def test_every_way_to_act_with_one_checkpoint_on_the_same_seeds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = pusht_checkpoint(root)
    steered = steered_checkpoint(root, run)
    short = ["task=pusht", "env.max_steps=16", "episodes=2", "batch=1", "timesteps=[1,0]"]
    assert main(["compare", f"base={run}", f"steered={steered}", *short]) == 0
    folder = root / "runs" / "compare"
    rows = {row["method"]: row for row in json.loads((folder / "comparison.json").read_text())["methods"]}
    controls = ["zero_noise", "half_noise", "medoid", "random_of_k"]
    assert list(rows) == ["base", *controls, "warm_started", "steered"]
    assert {name: row["calls_per_plan"] for name, row in rows.items()} == dict.fromkeys(rows, 2)  # two DDIM steps
    assert rows["base"]["gain"] == 0.0 and rows["base"]["interval"][1] > 0.8
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows.values())
    assert rows["steered"]["steps_used"] == 700 and rows["base"]["steps_used"] is None
    reports = [EvaluationReport.load(folder / f"{name}.json") for name in rows]
    assert {tuple(score.seed for score in report.episodes) for report in reports} == {(100_000, 100_001)}
    assert (folder / "comparison.png").stat().st_size > 1000
    assert "exact McNemar" in capsys.readouterr().out


def test_mistakes_end_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "first=a.json"]) == 2
    assert "'second' must be given" in capsys.readouterr().err
    assert main(["compare", "first=a.json", "second=b.json"]) == 2
    assert "a.json is no evaluation report" in capsys.readouterr().err
    run = pusht_checkpoint(root)
    assert main(["compare", f"first={run}", "second=b.json"]) == 2
    assert "b.json is no evaluation report" in capsys.readouterr().err
    assert not (root / "runs" / "compare").exists()  # known before the first was evaluated
