"""``robot-rl keys new|list|revoke``: CURVE keys of this site, and who may connect to its listening ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.transport.keys import SERVER, KeyRing


@dataclass
class Config:
    """Keys of ``robot-rl keys``."""

    subcommand: str = "list"
    name: str = ""
    public: str = ""


def run(config: Any) -> None:
    """Make, list or revoke keys below $ROBOT_RL_SITE/keys."""
    subcommands = {"new": _new, "list": _list, "revoke": _revoke}
    if config.subcommand not in subcommands:
        raise ConfigError(f"no subcommand '{config.subcommand}'", remedy=valid_choices(config.subcommand, subcommands))
    if config.subcommand != "list" and not config.name:
        raise ConfigError("'name' must be given", remedy=f"robot-rl keys {config.subcommand} name=<name>")
    subcommands[config.subcommand](KeyRing(), config)


def _new(ring: KeyRing, config: Any) -> None:
    public = ring.new(config.name, _read(config.public))
    print(f"{config.name}: {public}")
    if config.public:
        print("It may connect here from now on.")
    elif config.name == SERVER:
        print(f"Listening ends of this machine use it with keys={SERVER}. Clients need {ring.folder / 'server.pub'}.")
    else:
        print(f"It may connect here from now on. Copy {ring.folder / config.name}.key (secret: mode 0600)")
        print(f"and {ring.folder / 'server.pub'} to the client's $ROBOT_RL_SITE/keys; there: keys={config.name}")


def _read(file: str) -> str:
    if not file:
        return ""
    try:
        return Path(file).expanduser().read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read '{file}': {error.strerror}", remedy="public=<name>.pub of the client"
        ) from error


def _list(ring: KeyRing, config: Any) -> None:
    allowed = ring.allowed()
    print(f"{ring.folder}: pairs of this machine: {', '.join(ring.pairs()) or '(none)'}")
    print("may connect:" if allowed else "nobody may connect")
    for public, name in allowed.items():
        print(f"  {name:<20} {public}")


def _revoke(ring: KeyRing, config: Any) -> None:
    ring.revoke(config.name)
    print(f"{config.name} may no longer connect; ends that listen turn it away from now on.")
