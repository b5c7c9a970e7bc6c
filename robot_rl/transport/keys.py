"""CURVE keys as files below ``$ROBOT_RL_SITE/keys``: pairs of this machine, and public keys of who may connect to it.

    <name>.key           a pair of this machine, 0600; 'server' is the one that listening ends use
    <name>.pub           its public half; a client also needs the 'server.pub' of whom it connects to
    allowed/<name>.pub   the allow-list of this machine's listening ends

Both halves are Z85 text of 40 characters (rfc.zeromq.org/spec/32).
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.utils.z85

from robot_rl.data.file_lock import fsync_folder
from robot_rl.errors import ConfigError, valid_choices

VARIABLE = "ROBOT_RL_SITE"
SERVER = "server"
_STAMP_NS = 100_000_000  # coarser than any file system's stamps that we know
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class KeyPair:
    """Two halves of a CURVE key; the secret one is shown nowhere."""

    name: str
    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair({self.name!r}, {self.public!r})"


def site_keys() -> Path:
    """The folder of keys of this site. Raises ConfigError when the variable is not set."""
    site = os.environ.get(VARIABLE)
    if not site:
        raise ConfigError(f"{VARIABLE} is not set, so there is no place for keys", remedy=f"export {VARIABLE}=<folder>")
    return Path(site).expanduser().resolve() / "keys"


class KeyRing:
    """The keys in a folder (default: the site's)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = site_keys() if folder is None else folder
        self._listed = self.folder / "allowed"

    def new(self, name: str, public: str = "") -> str:
        """Make the pair ``name`` and allow it to connect here; returns its public half.

        With ``public`` only that key, made elsewhere, is allowed under the name. 'server' is this machine's own and is
        not put on the list. Raises ConfigError when the name is taken or unfit.
        """
        _check_name(name)
        for path in (self._pair(name), self._listed / f"{name}.pub"):
            if path.exists():
                raise ConfigError(f"the key '{name}' exists already", remedy=f"robot-rl keys revoke name={name}")
        self._listed.mkdir(parents=True, exist_ok=True, mode=0o700)
        if public:
            check_public(public)
        else:
            made, secret = (half.decode() for half in zmq.curve_keypair())
            public = made
            pair = json.dumps({"name": name, "public": public, "secret": secret})
            _write(self._pair(name), pair, 0o600)
            _write(self.folder / f"{name}.pub", public, 0o644)
        if name != SERVER:
            _write(self._listed / f"{name}.pub", public, 0o644)
        return public

    def revoke(self, name: str) -> None:
        """Take ``name`` off the allow-list and remove its pair; ends that listen notice at once."""
        _check_name(name)
        files = [self._listed / f"{name}.pub", self._pair(name), self.folder / f"{name}.pub"]
        removed = [_remove(path) for path in files]
        if not any(removed):
            known = self.allowed().values()
            raise ConfigError(f"no key '{name}' in {self.folder}", remedy=valid_choices(name, known))

    def pair(self, name: str) -> KeyPair:
        """The pair ``name`` of this machine. Raises ConfigError when it is missing, damaged or readable by others."""
        path = self._pair(name)
        try:
            mode, content = path.stat().st_mode, json.loads(path.read_text())
            pair = KeyPair(name, check_public(content["public"]), check_public(content["secret"]))
        except FileNotFoundError as error:
            raise ConfigError(f"no key pair {path}", remedy=f"robot-rl keys new name={name}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no key pair: {error}", remedy="Make a new one") from error
        if mode & 0o077:
            raise ConfigError(f"others may read {path}", limit="mode 0600", remedy=f"chmod 600 {path}")
        return pair

    def public(self, name: str) -> str:
        """The public half of ``name``, here or copied here. Raises ConfigError."""
        path = self.folder / f"{name}.pub"
        try:
            return check_public(path.read_text().strip())
        except OSError as error:
            raise ConfigError(f"no public key {path}", remedy="Copy it from the machine that listens") from error

    def pairs(self) -> list[str]:
        """Names of the pairs of this machine."""
        return sorted(path.stem for path in self.folder.glob("*.key"))

    def allowed(self) -> dict[str, str]:
        """Who may connect: name by public key. Files that hold no key are left out."""
        found = {}
        for path in sorted(self._listed.glob("*.pub")):
            try:
                found[check_public(path.read_text().strip())] = path.stem
            except (OSError, ValueError, ConfigError):
                continue
        return found

    def _pair(self, name: str) -> Path:
        return self.folder / f"{name}.key"


class AllowList:
    """The allow-list as listening ends ask it: read again whenever the folder has changed."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring, self._folder = ring, ring.folder / "allowed"
        self._read: int | None = None
        self._allowed: dict[str, str] = {}

    def name(self, public: str) -> str | None:
        """Who has that public key, None when it may not connect."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            return None  # without a list nobody is on it
        if changed != self._read:
            settled = time.time_ns() - changed > _STAMP_NS  # else a second change may bear the same stamp
            self._allowed, self._read = self._ring.allowed(), changed if settled else None
        return self._allowed.get(public)


def check_public(text: str) -> str:
    """``text`` itself when it is a key in Z85. Raises ConfigError."""
    try:
        if len(text) == 40 and len(zmq.utils.z85.decode(text.encode("ascii"))) == 32:
            return text
    except (ValueError, KeyError, UnicodeEncodeError, AttributeError):
        pass
    raise ConfigError("not a CURVE key", limit="40 characters of Z85")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a key", limit="1 to 64 letters, digits, '_', '.' or '-'")


def _write(path: Path, text: str, mode: int) -> None:
    """A new file with these permissions from its first byte on, there as a whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        os.write(descriptor, text.encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    fsync_folder(path.parent)


def _remove(path: Path) -> bool:
    there = path.exists()
    path.unlink(missing_ok=True)
    return there
