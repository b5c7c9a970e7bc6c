"""Key files: permissions, the allow-list, and what makes them unusable."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from robot_rl.errors import ConfigError
from robot_rl.transport.keys import AllowList, KeyRing, check_public, site_keys

pytestmark = pytest.mark.robot


def test_a_pair_is_secret_from_its_first_byte_on(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys")
    public = ring.new("robot1")
    pair = ring.pair("robot1")
    assert pair.public == public == ring.public("robot1")
    assert zmq.curve_public(pair.secret.encode()).decode() == public
    assert (tmp_path / "keys" / "robot1.key").stat().st_mode & 0o777 == 0o600
    assert pair.secret not in repr(pair)
    assert ring.allowed() == {public: "robot1"}


def test_the_servers_own_pair_may_not_connect(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.new("server")
    assert ring.pairs() == ["server"]
    assert ring.allowed() == {}


def test_a_key_made_elsewhere_is_allowed_by_its_public_half(tmp_path: Path) -> None:
    there, here = KeyRing(tmp_path / "there"), KeyRing(tmp_path / "here")
    public = there.new("robot1")
    here.new("robot1", public)
    assert here.allowed() == {public: "robot1"}
    assert here.pairs() == []


def test_what_cannot_be_used_is_refused_and_told(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    with pytest.raises(ConfigError, match=r"no key pair .*robot-rl keys new name=robot1"):
        ring.pair("robot1")
    ring.new("robot1")
    with pytest.raises(ConfigError, match="exists already"):
        ring.new("robot1")
    (tmp_path / "robot1.key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"others may read.*limit: mode 0600"):
        ring.pair("robot1")
    (tmp_path / "robot1.key").write_text("{}")
    with pytest.raises(ConfigError, match="is no key pair"):
        ring.pair("robot1")
    with pytest.raises(ConfigError, match="cannot name a key"):
        ring.new("../escaped")
    with pytest.raises(ConfigError, match="Copy it from the machine that listens"):
        ring.public("server")
    for text in ("", "short", "x" * 39 + "\u00e9", "~" * 40):
        with pytest.raises(ConfigError, match="not a CURVE key"):
            check_public(text)


def test_a_list_that_is_asked_notices_every_change(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    first = ring.new("robot1")
    asked = AllowList(ring)
    assert asked.name(first) == "robot1"
    second = ring.new("robot2")
    assert asked.name(second) == "robot2"
    ring.revoke("robot1")
    assert asked.name(first) is None and asked.name(second) == "robot2"
    assert not (tmp_path / "robot1.key").exists()
    with pytest.raises(ConfigError, match="Did you mean 'robot2'"):
        ring.revoke("robot1")


def test_files_that_hold_no_key_allow_nobody(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    public = ring.new("robot1")
    (tmp_path / "allowed" / "empty.pub").write_text("")
    (tmp_path / "allowed" / "noise.pub").write_bytes(b"\xff\xfe")
    assert ring.allowed() == {public: "robot1"}
    assert AllowList(KeyRing(tmp_path / "nowhere")).name(public) is None


def test_without_a_site_there_is_no_place_for_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ROBOT_RL_SITE", raising=False)
    with pytest.raises(ConfigError, match="ROBOT_RL_SITE is not set"):
        site_keys()
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path))
    assert site_keys() == tmp_path / "keys"
