"""robot-rl record: into a real store, from a real simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    return tmp_path


def record(*words: str) -> int:
    return main(["record", "task=pusht", "teleop=random", "env.max_steps=5", *words])


def test_records_and_goes_on_where_it_stopped(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record("episodes=2", "keep_failures=true", "first_seed=10", "operator=ada") == 0
    assert record("episodes=3", "keep_failures=true") == 0
    assert record("episodes=3", "keep_failures=true") == 0
    store = EpisodeStore.open(root / "data" / "pusht")
    infos = store.infos()
    assert [info.metadata["seed"] for info in infos] == [10, 11, 12]
    assert [info.length for info in infos] == [5, 5, 5]
    assert infos[0].metadata["operator"] == "ada"
    assert store.read(infos[0].id).metadata["config"]["env"]["max_steps"] == 5
    assert "holds 3" in capsys.readouterr().out


def test_failures_are_dropped_and_attempts_bounded(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record("episodes=2", "attempts=4", "name=clean") == 2
    said = capsys.readouterr().err
    assert "0 of 2" in said
    assert "attempts=4" in said
    assert EpisodeStore.open(root / "data" / "clean").ids() == []


def test_an_expert_records_only_successes(root: Path) -> None:
    assert main(["record", "task=reach", "teleop=scripted", "episodes=2"]) == 0
    store = EpisodeStore.open(root / "data" / "reach")
    assert [info.success for info in store.infos()] == [True, True]
    assert [info.metadata["source"] for info in store.infos()] == ["scripted", "scripted"]


def test_mistakes_end_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record"]) == 2
    assert "'task' must be given" in capsys.readouterr().err
    assert main(["record", "task=pusht", "teleop=scripted"]) == 2
    assert "Task 'pusht' may not offer it" in capsys.readouterr().err
    assert record("episodes=0") == 2
    assert "episodes=0" in capsys.readouterr().err
    for word in ("attempts=0", "first_seed=-1", "env.max_steps=two", "env.max_steps=0"):
        assert record(word) == 2
        assert word.rpartition(".")[2] in capsys.readouterr().err
    assert main(["record", "pusht"]) == 2
    assert "'pusht' is not key=value" in capsys.readouterr().err
    assert record("root=/proc/nothing") == 2  # a file system that takes no folders
    assert "/proc/nothing" in capsys.readouterr().err
    (root / "data" / "other").mkdir(parents=True)
    (root / "data" / "other" / "notes.txt").write_text("mine")
    assert record("name=other") == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["record", "task=reach", "teleop=scripted", "episodes=1"]) == 0
    assert record("name=reach") == 2  # a dataset of another task
    assert "Traceback" not in capsys.readouterr().err
