"""The Intervention contract: every option of the group teleop/ that takes over from a policy, at task lift."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.environment import make_env, make_human
from robot_rl.apps.main import compose
from robot_rl.errors import ConfigError
from robot_rl.interfaces import Env, Intervention
from robot_rl.runtime.handover import Handover
from robot_rl.teleop.spacemouse import MODELS
from robot_rl.types import EpisodeEvent
from tests.contracts.options import options
from tests.teleop.pseudo_terminal import pseudo_terminal
from tests.teleop.test_spacemouse import NAVIGATOR, Cable

POLICIES = {"random", "scripted", "trained"}
OPTIONS = [option for option in options("teleop") if option not in POLICIES]


@pytest.fixture(scope="module")
def env() -> Iterator[Env]:
    made = make_env(compose("session", ["task=lift", "demos=none"]).env)
    yield made
    made.close()


@pytest.fixture(params=OPTIONS)
def human(
    request: pytest.FixtureRequest, env: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Handover]:
    """With something at the other end of the device: a terminal, a pipe, a library that has found one."""
    words = ["task=lift", "demos=none", f"teleop={request.param}"]
    with pseudo_terminal() as terminal:
        if request.param == "keyboard":
            words.append(f"teleop.device.terminal={terminal.path}")
        if request.param == "gamepad":
            os.mkfifo(tmp_path / "js0")
            words.append(f"teleop.device.path={tmp_path / 'js0'}")
            opened = os.open(tmp_path / "js0", os.O_RDWR)  # holds the pipe open
            request.addfinalizer(lambda: os.close(opened))
        if request.param == "spacemouse":
            mouse = Cable(), MODELS[NAVIGATOR]
            monkeypatch.setattr("robot_rl.teleop.spacemouse.find_spacemouse", lambda: mouse)
        made = make_human(compose("session", words), env.spec)
        assert made is not None
        yield made
        made.close()


def test_policies_do_not_take_over(env: Env) -> None:
    for option in POLICIES - {"trained"}:
        with pytest.raises(ConfigError, match="cannot take over"):
            make_human(compose("session", ["task=lift", "demos=none", f"teleop={option}"]), env.spec)


def test_satisfies_the_protocol(human: Handover) -> None:
    assert isinstance(human.device, Intervention)


def test_untouched_it_commands_nothing_and_says_nothing(human: Handover, env: Env) -> None:
    observation = env.reset(0)
    human.reset(0)
    assert human.device.action(observation) is None
    assert list(human.device.events()) == []
    assert human.device.age_s >= 0.0


def test_what_it_gives_is_an_action_of_the_env(human: Handover, env: Env) -> None:
    observation = env.reset(0)
    human.reset(0)
    asked = human.device.action(observation)
    assert asked is None or (asked.shape == (env.spec.action.size,) and np.isfinite(asked).all())
    assert all(isinstance(event, EpisodeEvent) for event in human.device.events())


def test_closing_twice_is_once(human: Handover) -> None:
    human.close()
    human.close()
