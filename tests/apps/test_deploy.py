"""robot-rl deploy with a small checkpoint, on the fake arm and in MuJoCo."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.environment import make_env
from robot_rl.apps.main import compose, main
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import save_checkpoint
from robot_rl.learning.targets import build
from robot_rl.types import EnvSpec
from tests.apps.checkpoints import CONFIG
from tests.teleop.pseudo_terminal import pseudo_terminal

FAKE = ["task=lift", "robot=fake", "robot.objects=[cube]", "env.rule=false", "env.max_steps=6"]
QUICK = ["dry_steps=4", "+changes.execute=2"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    return tmp_path


def spec_of(words: list[str]) -> EnvSpec:
    env = make_env(compose("record", words).env)
    env.close()
    return env.spec


@pytest.fixture
def checkpoint(root: Path) -> Path:
    """An untrained policy for the fake arm."""
    spec = spec_of(FAKE)
    config = {**CONFIG, "observation": {"arm0/tcp_pose": "raw"}, "horizon": 8, "execute": 4}
    policy = build(config, env_spec=spec)
    random = np.random.default_rng(0)
    rows = {"obs/arm0/tcp_pose": (7,), "action/commanded": (spec.action.size,)}
    policy.fit_normalizer({key: random.normal(0, 0.01, (64, *shape)).astype(np.float32) for key, shape in rows.items()})
    folder = root / "runs" / "tiny"
    save_checkpoint(folder, weights=policy.state_dict(), config=config, env_spec=spec)
    return folder


def deploy(checkpoint: Path, *words: str) -> int:
    return main(["deploy", f"checkpoint={checkpoint}", *FAKE, *QUICK, *words])


def test_preflight_then_episodes_the_first_at_half_speed_and_a_log_of_every_cycle(
    checkpoint: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(checkpoint, "episodes=2") == 0
    said = capsys.readouterr().out
    for word in (
        "preflight",
        "force stop",
        "calibration",
        "observations",
        "first target",
        "disk",
        "at 50% of its speed",
    ):
        assert word in said
    folder = root / "runs" / "tiny_deployed"
    infos = EpisodeStore.open(folder / "store").infos()
    assert [info.length for info in infos] == [12, 6]  # half the speed, twice the time
    assert [info.metadata["seed"] for info in infos] == [100000, 100001]
    rows = list(csv.DictReader((folder / "cycles.csv").read_text().splitlines()))
    assert [(row["episode"], row["step"]) for row in rows] == [
        *(("0", str(step)) for step in range(12)), *(("1", str(step)) for step in range(6)),
    ]  # fmt: skip
    decided = [float(row["decision_ms"]) > 0.0 for row in rows]
    assert decided == [True, False] * 9  # a decision every second step
    assert {row["source"] for row in rows} == {"policy"}
    levels = {each["check"]: each["level"] for each in json.loads((folder / "preflight.json").read_text())}
    assert levels["spec"] == levels["observations"] == levels["disk"] == "ok"


def test_a_dry_run_moves_nothing(checkpoint: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(checkpoint, "dry_run=true") == 0
    assert "nothing has moved" in capsys.readouterr().out
    assert not (root / "runs" / "tiny_deployed" / "store").exists()


def test_what_is_not_a_success_is_tried_again_from_the_same_start(
    checkpoint: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(checkpoint, "episodes=1", "retries=2", "speed=1") == 0
    infos = EpisodeStore.open(root / "runs" / "tiny_deployed" / "store").infos()
    assert [info.metadata["seed"] for info in infos] == [100000] * 3
    said = capsys.readouterr().out
    assert "attempt 3" in said
    assert "full speed" in said  # waived, and said so


def test_a_person_judges_and_stops(checkpoint: Path, root: Path) -> None:
    with pseudo_terminal() as terminal:

        def person() -> None:
            terminal.until("the policy has the arm")
            terminal.type(b"y")
            terminal.until("success")
            terminal.until("the policy has the arm")
            terminal.type(b" ")
            terminal.until("not judged")

        watching = threading.Thread(target=person)
        watching.start()
        words = ["teleop=keyboard", f"teleop.device.terminal={terminal.path}", "episodes=9", "env.max_steps=400"]
        assert deploy(checkpoint, *words) == 0
        watching.join(20.0)
    infos = EpisodeStore.open(root / "runs" / "tiny_deployed" / "store").infos()
    assert [info.success for info in infos] == [True, None]


def test_the_same_command_in_simulation(checkpoint: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["deploy", f"checkpoint={checkpoint}", "task=lift", "env.max_steps=4", *QUICK, "episodes=1", "name=sim"]
    assert main(words) == 2
    assert "accept=" in capsys.readouterr().out
    assert main([*words, "accept=[robot,limits]"]) == 0
    assert len(EpisodeStore.open(root / "runs" / "sim" / "store").ids()) == 1


def test_the_task_is_that_of_the_checkpoint_where_only_the_arm_is_named(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", f"checkpoint={checkpoint}", *FAKE[1:], *QUICK, "dry_run=true"]) == 0
    assert "nothing has moved" in capsys.readouterr().out


def test_what_does_not_fit_or_makes_no_sense_is_refused(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(checkpoint, "action=tcp_delta") == 2
    assert "was made for another env" in " ".join(capsys.readouterr().out.split())
    assert deploy(checkpoint, "least_disk_gb=1e9") == 2
    assert "1 check(s) failed" in capsys.readouterr().err
    assert deploy(checkpoint, "speed=0") == 2
    assert "speed=0" in capsys.readouterr().err
