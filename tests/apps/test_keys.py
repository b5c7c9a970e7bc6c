"""robot-rl keys: what it writes, prints and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.apps.main import main
from robot_rl.transport.keys import KeyRing


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path))
    return tmp_path


def test_new_list_and_revoke(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "name=server"]) == 0
    assert main(["keys", "new", "name=robot1"]) == 0
    ring = KeyRing(site / "keys")
    public = ring.public("robot1")
    printed = capsys.readouterr().out
    assert public in printed and "server.pub" in printed
    assert ring.pair("robot1").secret not in printed
    assert main(["keys", "list"]) == 0
    assert f"robot1               {public}" in capsys.readouterr().out
    assert main(["keys", "revoke", "name=robot1"]) == 0
    assert ring.allowed() == {} and ring.pairs() == ["server"]
    assert main(["keys"]) == 0
    assert "nobody may connect" in capsys.readouterr().out


def test_a_key_made_elsewhere_comes_as_a_file(site: Path, tmp_path: Path) -> None:
    public = KeyRing(tmp_path / "robot").new("robot1")
    assert main(["keys", "new", "name=robot1", f"public={tmp_path / 'robot' / 'robot1.pub'}"]) == 0
    assert KeyRing(site / "keys").allowed() == {public: "robot1"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["new"], "'name' must be given"),
        (["new", "name=robot1", "public=nowhere.pub"], "cannot read 'nowhere.pub'"),
        (["revoke", "name=robot1"], "no key 'robot1'"),
        (["lst"], "Did you mean 'list'"),
    ],
)
def test_mistakes_end_in_one_message(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", *words]) == 2
    assert told in capsys.readouterr().err


def test_without_a_site(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("ROBOT_RL_SITE")
    assert main(["keys", "list"]) == 2
    assert "ROBOT_RL_SITE is not set" in capsys.readouterr().err
