"""robot-rl record with a person at a terminal: typed keys on a real pseudo terminal, episodes in a real store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from robot_rl.types import Phase
from tests.teleop.pseudo_terminal import PseudoTerminal, pseudo_terminal

FAKE = ("task=lift", "robot=fake", "robot.objects=[cube]", "env.rule=false")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with pseudo_terminal() as opened:
        yield opened


def record(terminal: PseudoTerminal, type_keys: Callable[[], None], *words: str) -> int:
    """The command, with a person at the terminal who does ``type_keys``."""
    person = threading.Thread(target=type_keys)
    person.start()
    code = main(
        ["record", "teleop=keyboard", f"teleop.device.terminal={terminal.path}", "teleop.device.press_s=0.05", *words]
    )
    person.join(20.0)
    assert not person.is_alive()
    return code


def test_a_person_starts_moves_judges_discards_and_records_again(
    root: Path, terminal: PseudoTerminal, capsys: pytest.CaptureFixture[str]
) -> None:
    before = terminal.modes()

    def person() -> None:
        legend = terminal.until("h: the policy goes on")
        assert "space: stop" in legend
        for number, keys in ((1, b"wb"), (2, b"x"), (3, b"wgy")):  # again, discarded, a success
            assert "in front of" in terminal.until("then press start")
            terminal.type(b"\r")
            assert "\a" in terminal.until(f"episode {number} runs (seed {int(number == 3)})")
            terminal.until("you have the arm")
            for key in keys:
                terminal.type(bytes([key]))
            assert "\a\a" in terminal.until("steps")
        terminal.until("success")

    assert record(terminal, person, *FAKE, "episodes=1", "name=typed") == 0
    assert terminal.modes() == before
    assert "episodes recorded in 2 attempts" in capsys.readouterr().out
    store = EpisodeStore.open(root / "data" / "typed")
    (info,) = store.infos()
    assert (info.success, info.metadata["source"], info.metadata["seed"]) == (True, "human", 1)
    episode = store.read(info.id)
    assert episode.metadata["judged_by"] == "human"
    commanded = episode.arrays["action/commanded"][: episode.steps]
    assert set(episode.arrays["flags/phase"][: episode.steps]) == {Phase.HUMAN}
    np.testing.assert_allclose(commanded[:, 0].sum(), 0.005, atol=1e-6)  # one press: 0.05 s of 0.1 m/s
    assert commanded[-1, -1] == 0.0  # closed


def test_in_simulation_too_without_asking_and_space_stops(root: Path, terminal: PseudoTerminal) -> None:
    def person() -> None:
        terminal.until("you have the arm")
        terminal.type(b"f ")
        assert "operator" in terminal.until("steps: not judged")
        terminal.until("you have the arm")
        terminal.type(b"n")
        terminal.until("failure")

    words = ("task=reach", "robot=sim_panda", "confirm=none", "keep_failures=true", "episodes=2", "name=sim")
    assert record(terminal, person, *words) == 0
    infos = EpisodeStore.open(root / "data" / "sim").infos()
    assert [info.success for info in infos] == [None, False]


def test_without_a_terminal_or_with_a_word_that_is_none_nothing_moves(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["record", *FAKE, "teleop=keyboard", "episodes=1"]
    assert main([*words, "teleop.device.terminal=/nowhere/tty"]) == 2
    assert "no terminal at /nowhere/tty" in capsys.readouterr().err
    assert main(["record", *FAKE, "teleop=scripted_human", "episodes=1"]) == 2
    assert "only takes over from a policy" in capsys.readouterr().err
    assert main(["record", "task=reach", "teleop=scripted", "episodes=1", "confirm=maybe"]) == 2
    assert "confirm=maybe" in capsys.readouterr().err
