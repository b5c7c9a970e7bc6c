"""Who may listen where, and who is let in: real sockets, real handshakes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from robot_rl.errors import ConfigError, RobotConnectionError
from robot_rl.transport.endpoint import Guard, connect, is_local, listen
from robot_rl.transport.keys import KeyRing

pytestmark = pytest.mark.robot
ANYWHERE = ["tcp://0.0.0.0:5588", "tcp://*:5588", "tcp://192.168.1.7:5588", "tcp://robot.lab:5588", "tcp://[::]:5588"]
HERE = [
    "tcp://127.0.0.1:5588",
    "tcp://127.0.0.9:1",
    "tcp://localhost:0",
    "tcp://[::1]:5588",
    "ipc://@x",
    "inproc://x",
]


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


_open: list[zmq.Socket[Any]] = []  # a socket that is collected before it is closed is a warning


@pytest.fixture(autouse=True)
def closed(context: zmq.Context[Any]) -> Iterator[None]:
    yield
    for socket in _open:
        socket.close(linger=0)
    _open.clear()


def _socket(context: zmq.Context[Any], kind: int) -> zmq.Socket[Any]:
    _open.append(context.socket(kind))
    return _open[-1]


@pytest.mark.parametrize("address", ANYWHERE)
def test_beyond_this_machine_nothing_goes_without_keys(context: zmq.Context[Any], address: str) -> None:
    with pytest.raises(ConfigError, match=r"will not listen on .* without keys.*robot-rl keys new name=server"):
        listen(context, _socket(context, zmq.ROUTER), address)
    with pytest.raises(ConfigError, match=r"will not talk to .* without keys"):
        connect(_socket(context, zmq.DEALER), address)


def test_addresses_of_this_machine(tmp_path: Path) -> None:
    assert all(is_local(address) for address in [*HERE, f"ipc://{tmp_path}/x"])
    for text in ("127.0.0.1:5588", "http://localhost", "tcp://", ""):
        with pytest.raises(ConfigError, match="is no address"):
            is_local(text)


def test_an_address_in_use(context: zmq.Context[Any]) -> None:
    first = _socket(context, zmq.ROUTER)
    listen(context, first, "tcp://127.0.0.1:0")
    with pytest.raises(RobotConnectionError, match="Choose another port"):
        listen(context, _socket(context, zmq.ROUTER), first.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"))


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    ring = KeyRing(tmp_path / "keys")
    for name in ("server", "robot1"):
        ring.new(name)
    return ring


@pytest.fixture
def server(context: zmq.Context[Any], ring: KeyRing) -> Iterator[tuple[zmq.Socket[Any], Guard, str]]:
    socket = _socket(context, zmq.ROUTER)
    guard = listen(context, socket, "tcp://0.0.0.0:0", "server", ring.folder)
    port = socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0").rpartition(":")[2]
    yield socket, guard, f"tcp://127.0.0.1:{port}"
    guard.close()


def _comes(socket: zmq.Socket[Any], timeout_ms: int = 20_000) -> list[zmq.Frame] | None:
    return socket.recv_multipart(copy=False) if socket.poll(timeout_ms) else None


def test_a_key_on_the_list_is_let_in_until_it_is_revoked(
    context: zmq.Context[Any], ring: KeyRing, server: tuple[zmq.Socket[Any], Guard, str]
) -> None:
    socket, guard, address = server
    client = _socket(context, zmq.DEALER)
    connect(client, address, "robot1", folder=ring.folder)
    client.send(b"first")
    frames = _comes(socket)
    assert frames is not None and frames[1].bytes == b"first" and guard.admits(frames[1])
    ring.revoke("robot1")  # the connection stands, and is worth nothing any more
    client.send(b"second")
    frames = _comes(socket)
    assert frames is not None and frames[1].bytes == b"second" and not guard.admits(frames[1])
    assert guard.refused == 1


@pytest.mark.parametrize("who", ["unlisted", "no keys", "wrong server key"])
def test_others_do_not_get_a_word_in(
    context: zmq.Context[Any], ring: KeyRing, server: tuple[zmq.Socket[Any], Guard, str], tmp_path: Path, who: str
) -> None:
    socket, _, address = server
    client = _socket(context, zmq.DEALER)
    strangers = KeyRing(tmp_path / "strangers")
    strangers.new("robot1")
    if who == "no keys":
        connect(client, address)
    elif who == "unlisted":
        (strangers.folder / "server.pub").write_text(ring.public("server"))
        connect(client, address, "robot1", folder=strangers.folder)
    else:
        strangers.new("server")
        ring.new("stranger", strangers.public("robot1"))  # its key is on the list, but it expects another server
        connect(client, address, "robot1", folder=strangers.folder)
    client.send(b"let me in")
    friend = _socket(context, zmq.DEALER)
    connect(friend, address, "robot1", folder=ring.folder)
    friend.send(b"me too")
    frames = _comes(socket)
    assert frames is not None and frames[1].bytes == b"me too"
    assert _comes(socket, timeout_ms=100) is None


def test_a_message_without_a_handshake_is_nobodys(ring: KeyRing, context: zmq.Context[Any]) -> None:
    guard = Guard(context, ring)
    assert not guard.admits(zmq.Frame(b"hello"))
    guard.close()
    guard.close()
    assert Guard(context, None).admits(zmq.Frame(b"hello"))
