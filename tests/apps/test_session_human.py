"""robot-rl session teleop=scripted_human: the same numbers twice, also when resumed, and every algorithm goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import load_training_state
from robot_rl.types import Array

ARM = ["task=lift", "robot=fake", "robot.objects=[cube]", "env.max_steps=20"]
HUMAN = [
    "teleop=scripted_human",
    "teleop.device.patience_s=0.2",
    "teleop.device.least_s=0.1",
    "teleop.device.most_s=0.3",
]
SESSION = [
    "session", *ARM, "demos=lift", "batch=16", "start=10", "seed=3", "policy.hidden=[16]", "log_every=20",
    "diagnose_every=0", "evaluate_every=0", "checkpoint_every=0",
]  # fmt: skip
RLPD = [*SESSION, "algorithm.critic.hidden=[16]"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    assert main(["record", *ARM, "episodes=2", "keep_failures=true", f"root={root}"]) == 0
    return root


def human_rows(run: Path) -> list[Array]:
    """The person's actions [H, A] of each episode."""
    store = EpisodeStore.open(run / "store")
    found = []
    for id in store.ids():
        arrays = store.read(id).arrays
        rows = (arrays["flags/intervention"] == 1) & arrays["action_valid"]
        found.append(arrays["action/human"][rows] if rows.any() else np.empty((0, 4)))
        np.testing.assert_array_equal(found[-1], arrays["action/commanded"][rows])
    return found


def test_a_session_with_a_person_is_repeatable_also_in_two_parts(root: Path) -> None:
    """The second half remembers how much help was given: 20 steps in all, six to an episode and two to the last."""
    words = [*RLPD, *HUMAN, "teleop.most_steps=20", f"root={root}"]
    assert main([*words, "name=whole", "steps=80"]) == 0
    assert main([*words, "name=parts", "steps=40"]) == 0
    assert main([*words, "name=parts", "steps=80", "resume=true"]) == 0
    runs = [root / "runs" / name for name in ("whole", "parts")]
    helped = [human_rows(run) for run in runs]
    assert [len(rows) for rows in helped[0]] == [6, 6, 6, 2]
    for one, other in zip(*helped, strict=True):
        np.testing.assert_array_equal(one, other)
    states = [load_training_state(run)[0] for run in runs]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_corrections_take_the_place_of_demonstrations(root: Path) -> None:
    assert main([*RLPD, *HUMAN, "draw_demos=false", f"root={root}", "name=alone", "steps=40"]) == 0
    assert int(load_training_state(root / "runs" / "alone")[0]["step"]) == 80


@pytest.mark.parametrize("person", [True, False])
def test_imitation_in_a_session(root: Path, person: bool) -> None:
    """HG-DAgger, and without a person behaviour cloning: as many updates as RLPD makes."""
    name = f"imitation_{person}"
    words = [*SESSION, "algorithm=hg_dagger", *(HUMAN if person else []), f"root={root}", f"name={name}", "steps=40"]
    assert main(words) == 0
    assert int(load_training_state(root / "runs" / name)[0]["step"]) == 80
    assert bool(sum(len(rows) for rows in human_rows(root / "runs" / name))) is person


MISTAKES = {
    "record": (["record", *ARM, "episodes=1", "teleop=scripted_human"], "only takes over from a policy"),
    "session": ([*RLPD, "teleop=scripted", "name=none"], "cannot take over from a policy"),
    "adapted": (
        ["session", "task=pusht", "demos=lift", "teleop=scripted_human", "name=pusht"],
        "Task 'pusht' may not offer it",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = MISTAKES[name]
    assert main([*words, f"root={root}"]) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said and len(said.splitlines()) == 1
