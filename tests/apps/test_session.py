"""robot-rl session as a user runs it: the same numbers twice, and after a SIGKILL those of a session never killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint, load_training_state, read_manifest
from robot_rl.learning.training_run import read_rows
from tests.processes.robot_rl_processes import running, wait_for

ARM = ["task=lift", "robot=fake", "robot.objects=[cube]", "env.max_steps=20"]
SESSION = [
    "session", *ARM, "demos=lift", "steps=100", "batch=16", "start=10", "seed=3",
    "policy.hidden=[16]", "algorithm.critic.hidden=[16]", "log_every=20", "diagnose_every=40",
    "evaluate_every=40", "evaluate_episodes=2", "checkpoint_every=40",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    assert main(["record", *ARM, "episodes=2", "keep_failures=true", f"root={root}"]) == 0
    assert main([*SESSION, f"root={root}", "name=whole"]) == 0
    return root


def comparable(run: Path, name: str) -> list[dict[str, float]]:
    """Rows of a log without what depends on the wall clock."""
    return [{key: value for key, value in row.items() if key != "staleness_s"} for row in read_rows(run / name)]


def assert_equal_runs(first: Path, second: Path) -> None:
    (one, said), (other, told) = (load_training_state(run) for run in (first, second))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert {key: said[key] for key in ("step", "updates", "episodes", "next_seed")} == {
        key: told[key] for key in ("step", "updates", "episodes", "next_seed")
    }
    assert comparable(first, "evaluations.jsonl") == comparable(second, "evaluations.jsonl")
    stores = [EpisodeStore.open(run / "store") for run in (first, second)]
    lengths = [[info.length for info in store.infos()] for store in stores]
    assert lengths[0] == lengths[1]
    for ids in zip(*(store.ids() for store in stores), strict=True):
        episodes = [store.read(id) for store, id in zip(stores, ids, strict=True)]
        for key in ("action/commanded", "policy/version", "obs/arm0/tcp_pose"):
            assert (episodes[0].arrays[key] == episodes[1].arrays[key]).all()


def test_a_session_leaves_policy_store_curve_and_logs(root: Path) -> None:
    run = root / "runs" / "whole"
    for name in ("curve.png", "metrics.jsonl", "evaluations.jsonl", "tensorboard", "store/dataset.json"):
        assert (run / name).exists(), name
    manifest = read_manifest(find_checkpoint(run))
    assert manifest["step"] == 100 and manifest["updates"] == 200
    assert load_checkpoint(run).spec.action.size == 4
    store = EpisodeStore.open(run / "store")
    assert sum(info.length for info in store.infos()) == 100
    assert [info.metadata["seed"] for info in store.infos()] == list(range(1000, 1000 + manifest["episodes"]))
    versions = store.read(store.ids()[-1]).arrays["policy/version"]
    assert versions[0] > 0 and (versions[2:-1] > versions[1:-2]).all()  # new weights at every step of the episode
    assert read_rows(run / "metrics.jsonl")[-1]["update_ratio"] == 2.0


def test_two_sessions_of_a_seed_are_equal_bit_for_bit(root: Path) -> None:
    assert main([*SESSION, f"root={root}", "name=again"]) == 0
    runs = root / "runs"
    assert_equal_runs(runs / "whole", runs / "again")
    assert comparable(runs / "whole", "metrics.jsonl") == comparable(runs / "again", "metrics.jsonl")


def test_a_killed_session_goes_on_to_the_same_numbers(root: Path) -> None:
    run = root / "runs" / "killed"
    words = [*SESSION, f"root={root}", "name=killed"]
    checkpoint, journals = run / "checkpoints" / "latest", run / "store" / "journal"
    with running(*words, said=root / "said.txt") as process:
        wait_for(
            lambda: checkpoint.exists() and any(path.stat().st_size > 4000 for path in journals.glob("*.journal")),
            process,
        )
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    recorded = len(list((run / "store" / "episodes").iterdir()))
    assert recorded > 0
    assert read_manifest(find_checkpoint(run))["step"] < 100
    assert main([*words, "resume=true"]) == 0
    assert_equal_runs(root / "runs" / "whole", run)


def test_a_run_goes_on_by_its_name_alone(root: Path) -> None:
    """As it was started; what is given beside outweighs."""
    assert main([*SESSION, f"root={root}", "name=short", "steps=40"]) == 0
    assert main(["session", "resume=true", "name=short", f"root={root}", "steps=100"]) == 0
    assert_equal_runs(root / "runs" / "whole", root / "runs" / "short")


def test_a_session_resumed_without_a_checkpoint_begins_anew(root: Path) -> None:
    """Killed before its first checkpoint, what it recorded is made again."""
    run = root / "runs" / "early"
    words = [*SESSION, f"root={root}", "name=early", "steps=20", "evaluate_every=0"]
    assert main(words) == 0
    for path in (run / "checkpoints").iterdir():
        path.rename(run / path.name)
    assert main([*words, "resume=true"]) == 0
    assert [info.metadata["seed"] for info in EpisodeStore.open(run / "store").infos()] == [1000]


MISTAKES = {
    "run": (["name=whole"], "exists"),
    "policy": (["name=whole", "resume=true", "policy.hidden=[8]"], "another policy configuration"),
    "demos": (["name=none", "demos=lyft"], "Did you mean 'lift'"),
    "mode": (["name=none", "mode=lokstep"], "Did you mean 'lockstep'"),
    "rule": (["name=none", "env.rule=false"], "nothing judges evaluations. Name what does with classifier=<run>"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = MISTAKES[name]
    assert main([*SESSION, f"root={root}", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said and len(said.splitlines()) == 1


def test_a_session_needs_a_task(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["session", "demos=lift", f"root={root}"]) == 2
    assert "'task' must be given" in capsys.readouterr().err


def test_what_was_learnt_is_evaluated_like_any_checkpoint(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = root / "runs" / "whole"
    assert main(["evaluate", *ARM, f"checkpoint={run}", f"root={root}", "episodes=2", "videos=0"]) == 0
    report = json.loads(next((run / "evaluation").glob("*.json")).read_text())
    assert report["episodes_total"] == 2
    assert main(["evaluate", *ARM, "env.rule=false", f"checkpoint={run}", f"root={root}", "episodes=2"]) == 2
    assert "nothing tells a success here" in capsys.readouterr().err
