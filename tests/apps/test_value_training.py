"""robot-rl train algorithm=iql|calql and evaluate policy=reranked as a user runs them, on a store with few episodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from policies.chunk_critic import ChunkCritic
from robot_rl.apps.main import main
from robot_rl.data.episode import Episode
from robot_rl.data.pusht import pusht_spec
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import load_checkpoint, read_manifest
from tests.apps.checkpoints import pusht_checkpoint

SPEC = pusht_spec()
TINY = ["value.ensemble.hidden=[16]", "batch=8", "log_every=1", "checkpoint_every=4"]


def make_episode(index: int, steps: int, success: bool) -> Episode:
    """Random positions in pixels; a success at the last step, or the clock."""
    random, rows = np.random.default_rng(index), steps + 1
    acts, last = np.arange(rows) < steps, np.arange(rows) == steps - 1
    arrays = {f"obs/{k}": random.uniform(0, 512, (rows, *v.shape)).astype(v.dtype) for k, v in SPEC.observation.items()}
    arrays |= {
        "action/commanded": (random.uniform(0, 512, (rows, 2)) * acts[:, None]).astype(np.float32),
        "action_valid": acts,
        "time/t_ns": np.arange(rows, dtype=np.int64) * 100_000_000,
        "rl/reward": (last & success).astype(np.float32),
        "rl/success": last & success,
        "rl/terminated": last & success,
        "rl/truncated": last & (not success),
    }
    metadata = {"success": success, "task": SPEC.task, "spec": SPEC.to_json()}
    return Episode(f"20260101T0000{index:02d}-tee", arrays, metadata)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    store = EpisodeStore.create(tmp_path / "data" / "tees", name="tees", spec=SPEC)
    for index in range(22):
        store.write(make_episode(index, 10 + index, success=index % 2 == 0))
    sure = EpisodeStore.create(tmp_path / "data" / "sure", name="sure", spec=SPEC)
    for index in range(11):
        sure.write(make_episode(index, 10, success=True))
    pusht_checkpoint(tmp_path, "base")
    return tmp_path


def test_a_critic_is_trained_told_of_resumed_and_put_around_its_base(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "algorithm=iql", f"base={root}/runs/base", "data=tees", "name=critic", *TINY]
    assert main([*words, "steps=5"]) == 0
    assert "episodes held out" in capsys.readouterr().out
    critic = load_checkpoint(root / "runs" / "critic", SPEC, kind=ChunkCritic)
    base = load_checkpoint(root / "runs" / "base", SPEC)
    assert (critic.horizon, critic.spec.history) == (base.spec.execute, base.spec.history)
    assert critic.spec.observation.keys() == base.spec.observation.keys()
    assert main([*words, "steps=7", "resume=true"]) == 0
    run = root / "runs" / "critic"
    manifest = read_manifest(run / "checkpoints" / "step_00000007")
    assert manifest["base"]["sha256"] == base.sha256() == critic.base_sha256
    assert manifest["data"]["episodes"] == 20  # of 22, a success and a failure are held out
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [*range(1, 8)]
    told = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])
    assert {"q_minus_return", "rank_correlation", "rank_between_episodes", "dq_da"} <= told.keys()


def test_a_base_is_recorded_with_its_failures_and_acts_re_ranked(root: Path) -> None:
    base, short = root / "runs" / "base", ["task=pusht", "env.max_steps=10"]
    words = ["record", *short, "teleop=trained", f"teleop.path={base}", "episodes=2", "name=tries"]
    assert main([*words, "keep_failures=true"]) == 0
    tries = EpisodeStore.open(root / "data" / "tries")
    assert [info.success for info in tries.infos()] == [False, False]
    noise = tries.read(tries.ids()[0]).arrays["decision/noise"]

    critic = ["train", "algorithm=iql", f"base={base}", "data=tees", "name=critic", "steps=2", *TINY]
    assert main(critic) == 0
    around = ["policy=reranked", f"policy.critic={root}/runs/critic", "policy.candidates=3"]
    evaluated = ["evaluate", *short, f"checkpoint={base}", "episodes=1", "batch=1", "videos=0", "name=scores"]
    assert main([*evaluated, *around]) == 0
    assert len(list((root / "runs" / "scores").glob("*.json"))) == 1
    assert noise.shape == (2, 16, 2)  # two plans of eight executed steps


def mistakes(root: Path) -> dict[str, tuple[list[str], str]]:
    return {
        "no base": (["data=tees"], "base=runs/"),
        "no failures": ([f"base={root}/runs/base", "data=sure"], "holds 0 failures"),
    }


@pytest.mark.parametrize("name", ["no base", "no failures"])
def test_mistakes_are_one_clear_line(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = mistakes(root)[name]
    assert main(["train", "algorithm=iql", "steps=1", *TINY, *words]) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said and len(said.splitlines()) == 1
