"""robot-rl dataset annotate | delete | gc: words about episodes, whose files never change, and files that go."""

from __future__ import annotations

from typing import Any

from robot_rl.apps.environment import find_episode
from robot_rl.errors import ConfigError

_WORDS = ("success", "exclude", "split", "task", "note")


def annotate(store: Any, config: Any) -> None:
    """Say ``success``, ``exclude``, ``split``, ``task``, ``note`` of the episodes ``config.episode``."""
    said = {key: config[key] for key in _WORDS if config[key] is not None}
    if not said:
        raise ConfigError("nothing is said about the episode", remedy=f"Give {'=, '.join(_WORDS)}=")
    for id in _wanted(store, config):
        store.annotate(id, **said)
        print(f"episode {id}: {', '.join(f'{key}={_plain(value)}' for key, value in said.items())}")


def delete(store: Any, config: Any) -> None:
    """Take the episodes ``config.episode`` out of the dataset; their files stay until ``gc``."""
    for id in _wanted(store, config):
        store.delete(id)
        print(f"episode {id} is deleted")
    print(f"{len(store.ids())} episodes stay; to free the space: robot-rl dataset gc name={config.name} confirm=true")


def gc(store: Any, config: Any) -> None:
    """Remove the files of deleted episodes for good, once ``config.confirm`` is true."""
    infos = store.deleted()
    if not infos:
        print("no episode is marked as deleted")
        return
    size = sum(info.bytes for info in infos) / 1e6
    if not config.confirm:
        print("\n".join(f"{info.file}: {info.length} steps, {info.bytes / 1e6:.1f} MB" for info in infos))
        print(f"nothing was removed: confirm=true removes these {len(infos)} files, {size:.1f} MB, for good")
        return
    print(f"{len(store.gc())} episodes removed, {size:.1f} MB")


def _wanted(store: Any, config: Any) -> list[str]:
    """Ids of all episodes that ``config.episode`` names, one or a list; nothing is done before all are found."""
    named = config.episode
    if named is None or named == "":
        raise ConfigError(
            f"dataset {config.subcommand} needs episode=", remedy="An id, its beginning, a number, or a list of these"
        )
    several = [named] if isinstance(named, str | int) else list(named)
    return list(dict.fromkeys(find_episode(store, str(each)) for each in several))


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
