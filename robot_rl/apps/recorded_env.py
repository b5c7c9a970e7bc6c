"""The env that a dataset, and what was trained on it, was made in, as it was composed then."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robot_rl.apps.main import compose
from robot_rl.apps.site import VARIABLE
from robot_rl.errors import ConfigError

_PACKAGES = ("robot_rl", "sim", "controllers")


def env_of_training(config: Any, store: Any = None) -> dict[str, Any]:
    """The resolved env that a checkpoint of a training by ``config`` on dataset ``store`` was made for; {} when neither
    knows.

    Robot, action and controller are those of the demonstrations; starts and reward are those of the task: weak bases
    are recorded from narrow starts and judged from all.
    """
    given = _plain(config.env) if config.get("env") else {}
    recorded = _recorded(store) if store is not None else {}
    if not recorded:
        return given
    task = given.get("task") or _default_task(store)
    return {**recorded, "task": task} if task and "task" in recorded else recorded


def rebuilt(made_in: Mapping[str, Any], simulated: bool, command: str) -> Any:
    """The configuration node of a stored env. Raises ConfigError where it would move a real arm, which only a person
    who names it does, and for what is none of our parts: stored files may come from elsewhere."""
    from omegaconf import OmegaConf

    if not simulated:
        raise ConfigError("it was made on a real robot", remedy=f"Name it: robot-rl {command} task=... robot=...")
    for name in _targets(made_in):
        _check(name)
    return OmegaConf.create({"env": dict(made_in)}).env


def _recorded(store: Any) -> dict[str, Any]:
    ids = store.ids()
    return dict(store.read(ids[-1]).metadata.get("config", {}).get("env") or {}) if ids else {}


def _default_task(store: Any) -> dict[str, Any]:
    try:
        return _plain(compose("record", [f"task={store.spec.task}"]).env).get("task", {})
    except ConfigError:  # a task of a site that is not at hand now
        return {}


def _plain(node: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(node, resolve=True)
    return plain


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping) and "_target_" in node:
        yield str(node["_target_"])
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for child in children:
        yield from _targets(child)


def _check(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute) if _is_ours(module) else None
    except (ImportError, AttributeError):
        found = None
    if not _is_ours(getattr(found, "__module__", "")):
        limit = f"packages {', '.join(_PACKAGES)} and modules of ${VARIABLE}"
        raise ConfigError(f"its env names '{name}'", limit=limit, remedy="Name the env: task=...")


def _is_ours(module: str) -> bool:
    package, site = module.partition(".")[0], os.environ.get(VARIABLE)
    if package in _PACKAGES or not site or not package:
        return package in _PACKAGES
    found = find_spec(package)
    origin = Path(found.origin or "/") if found is not None else Path("/")
    return origin.resolve().is_relative_to(Path(site).expanduser().resolve())
