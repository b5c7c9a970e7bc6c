"""Where to listen or connect, and with which keys. The rules are the same for every socket of this project.

Without keys only this machine is reached: loopback, ipc and inproc. Any other address needs CURVE keys, and who listens
asks the allow-list at the handshake and again for every message, so that a revoked key ends at once.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq
from zmq.auth.thread import ThreadAuthenticator

from robot_rl.errors import ConfigError, RobotConnectionError
from robot_rl.transport.keys import SERVER, AllowList, KeyRing

_DOMAIN = "robot-rl"


def is_local(address: str) -> bool:
    """Whether ``address`` can be reached from this machine alone. Raises ConfigError when it is none."""
    parts = urlsplit(address)
    if parts.scheme in ("ipc", "inproc"):
        return True
    if parts.scheme != "tcp" or not parts.hostname:
        raise ConfigError(f"'{address}' is no address", remedy="tcp://<host>:<port> or ipc://<path>")
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return parts.hostname == "localhost"


class Guard:
    """Who may talk to a listening socket; ``refused`` counts handshakes and messages that it turned away."""

    def __init__(self, context: zmq.Context[Any], ring: KeyRing | None) -> None:
        self.refused = 0
        self._allowed = None if ring is None else AllowList(ring)
        self._authenticator: ThreadAuthenticator | None = None
        if ring is not None:
            self._authenticator = ThreadAuthenticator(context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback(_DOMAIN, self)

    def callback(self, domain: str, key: bytes) -> bool:
        """The authenticator's question at a handshake."""
        return self._known(key.decode("ascii"))

    def admits(self, frame: zmq.Frame) -> bool:
        """Whether the sender of this frame may talk, still."""
        if self._allowed is None:
            return True
        try:
            user = frame.get("User-Id")
        except zmq.ZMQError:  # no handshake has vouched for it
            user = ""
        return self._known(str(user))

    def close(self) -> None:
        """End the authenticator; idempotent."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None

    def _known(self, public: str) -> bool:
        known = self._allowed is None or self._allowed.name(public) is not None
        self.refused += not known
        return known


def listen(
    context: zmq.Context[Any], socket: zmq.Socket[Any], address: str, keys: str = "", folder: Path | None = None
) -> Guard:
    """Bind ``socket`` to ``address`` with the pair ``keys`` of the key ring in ``folder`` (default: the site's).

    A context guards one socket with keys. Raises ConfigError for an address beyond this machine without keys, and for
    keys that are missing; RobotConnectionError when the address is taken.
    """
    if not keys and not is_local(address):
        raise ConfigError(
            f"will not listen on '{address}' without keys",
            limit="loopback (127.0.0.1, localhost, [::1]) or ipc",
            remedy=f"robot-rl keys new name={SERVER}, then keys={SERVER}",
        )
    ring = KeyRing(folder) if keys else None
    if ring is not None:
        socket.curve_secretkey = ring.pair(keys).secret.encode()
        socket.curve_server = True
        socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.IPV6, "[" in address)
    guard = Guard(context, ring)
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        guard.close()
        raise RobotConnectionError(f"cannot listen on {address}: {error}", remedy="Choose another port") from error
    return guard


def connect(
    socket: zmq.Socket[Any], address: str, keys: str = "", server: str = SERVER, folder: Path | None = None
) -> None:
    """Connect ``socket`` to ``address`` with the pair ``keys``, to whom ``server.pub`` belongs.

    Raises ConfigError for an address beyond this machine without keys, and for keys that are missing.
    """
    if not keys and not is_local(address):
        raise ConfigError(
            f"will not talk to '{address}' without keys",
            limit="loopback (127.0.0.1, localhost, [::1]) or ipc",
            remedy="robot-rl keys new name=<client> where it listens; copy that pair and server.pub here",
        )
    if keys:
        ring = KeyRing(folder)
        pair = ring.pair(keys)
        socket.curve_serverkey = ring.public(server).encode()
        socket.curve_publickey, socket.curve_secretkey = pair.public.encode(), pair.secret.encode()
    socket.setsockopt(zmq.IPV6, "[" in address)
    socket.connect(address)
