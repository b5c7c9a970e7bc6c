"""robot-rl train as a user runs it, on a store with a few episodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.main import main
from robot_rl.data.episode import Episode
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import load_checkpoint, read_manifest
from robot_rl.types import EnvSpec
from tests.policies.tiny import SPEC

TINY = [
    "policy.network.width=16",
    "policy.network.blocks=1",
    "policy.horizon=8",
    "policy.execute=4",
    "batch=8",
    "log_every=1",
    "checkpoint_every=4",
]


def make_episode(name: str, steps: int = 12) -> Episode:
    random = np.random.default_rng(steps)
    rows = steps + 1
    acts = np.arange(rows) < steps
    action = random.uniform(-1, 1, (rows, 2)).astype(np.float32) * acts[:, None]
    arrays = {
        "obs/bead/position": random.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "obs/wire/angle": random.uniform(-1, 1, (rows, 1)).astype(np.float32),
        "action/commanded": action.astype(np.float32),
        "action_valid": acts,
        "time/t_ns": np.arange(rows, dtype=np.int64) * 100_000_000,
        "rl/reward": np.zeros(rows, dtype=np.float32),
        "rl/terminated": np.zeros(rows, dtype=bool),
        "rl/truncated": np.zeros(rows, dtype=bool),
    }
    return Episode(name, arrays, {"success": True, "task": "slide", "spec": SPEC.to_json()})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    store = EpisodeStore.create(tmp_path / "data" / "beads", name="beads", spec=SPEC)
    for index in range(3):
        store.write(make_episode(f"20260101T00000{index}-beads", 12 + index))
    EpisodeStore.create(tmp_path / "data" / "empty", name="empty", spec=SPEC)
    return tmp_path


def test_train_then_resume_leaves_a_policy_plots_and_metrics(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data=beads", "name=first", "steps=6", *TINY]) == 0
    run = root / "runs" / "first"
    for name in ("loss.png", "samples.png", "metrics.jsonl", "tensorboard", "checkpoints/latest"):
        assert (run / name).exists(), name
    assert "first" in capsys.readouterr().out
    statistics = load_checkpoint(run, SPEC).normalizer.sha256()
    EpisodeStore.open(root / "data" / "beads").write(make_episode("20260101T000009-beads", 20))
    assert main(["train", "data=beads", "name=first", "steps=9", "resume=true", *TINY]) == 0
    manifest = read_manifest(run / "checkpoints" / "step_00000009")
    assert manifest["data"]["dataset"] == "beads" and manifest["data"]["episodes"] == 4
    assert manifest["normalizer_sha256"] == statistics  # never fitted again, though the dataset has grown
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 10))


def test_the_unet_trains_by_one_word(root: Path) -> None:
    words = ["policy=diffusion_unet", "policy.network.channels=[8,16]", *TINY[2:]]
    assert main(["train", "data=beads", "name=unet", "steps=2", *words]) == 0
    assert load_checkpoint(root / "runs" / "unet", SPEC).spec.horizon == 8


def mistakes(root: Path) -> dict[str, tuple[list[str], str]]:
    return {
        "no data": (["data=baeds"], "no dataset 'baeds'"),
        "empty": (["data=empty"], "no episode"),
        "horizon": (["data=beads", "policy.horizon=64", "policy.pad_after=0"], "no window fits"),
        "feature": (["data=beads", "policy.observation={bead/positio: raw}"], "Did you mean 'bead/position'"),
        "camera": (["data=beads", "policy=diffusion_image"], "images/front"),
        "network": (["data=beads", "+policy.network.widht=3"], "widht"),
        "steps": (["data=beads", "steps=-1"], "steps=-1 (limit: at least 1)"),
        "threads": (["data=beads", "threads=0"], "threads=0"),
        "group": (["data=beads", "group=0"], "group=0"),
        "type": (["data=beads", "policy.history=two"], "history=two (limit: an integer)"),
        "nested type": (["data=beads", "policy.network.width=1.5"], "width=1.5 (limit: an integer)"),
        "rate": (["data=beads", "algorithm.learning_rate=fast"], "learning_rate=fast (limit: a number)"),
        "execute": (["data=beads", "policy.execute=17"], "execute=17"),
        "precision": (["data=beads", "policy.training_precision=float8"], "Did you mean 'float32'"),
        "device": (["data=beads", "policy.device=gpu"], "no device 'gpu'"),
        "evaluation": (["data=beads", "evaluate_every=2"], "task="),
    }


@pytest.mark.parametrize("name", mistakes(Path()))
def test_mistakes_are_one_clear_line(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = mistakes(root)[name]
    assert main(["train", "steps=2", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said and len(said.splitlines()) == 1, said


def test_resume_refuses_another_policy_and_data_of_another_env(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data=beads", "name=first", "steps=2", *TINY]) == 0
    wider = [word if "width" not in word else "policy.network.width=24" for word in TINY]
    assert main(["train", "data=beads", "name=first", "steps=4", "resume=true", *wider]) == 2
    error = capsys.readouterr().err
    assert "another policy configuration: network.width=24, started with " in error
    changed = ["batch=4", "algorithm.learning_rate=0.25", "log_every=1", "keep=3"]
    assert main(["train", "data=beads", "name=first", "steps=4", "resume=true", *TINY, *changed]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resumed with")]
    assert told == [
        "resumed with algorithm.learning_rate=0.25, started with 0.0003",
        "resumed with algorithm.steps=4, started with 2",
        "resumed with batch=4, started with 8",
    ]
    other = EnvSpec.from_json({**SPEC.to_json(), "task": "roll"})
    store = EpisodeStore.create(root / "data" / "rolled", name="rolled", spec=other)
    store.write(make_episode("20260101T000000-rolled"))
    assert main(["train", "data=rolled", "name=first", "steps=4", "resume=true", *TINY]) == 2
    assert "task: expected slide, found roll" in capsys.readouterr().err
