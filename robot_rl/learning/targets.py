"""Builds objects from stored configuration: ``_target_`` and constructor arguments, from an allow-list of packages.

Checkpoints may come from elsewhere, so a name in their configuration must not be able to import anything at will.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from robot_rl.constructor import check_arguments
from robot_rl.errors import ConfigError, RobotRlError

PACKAGES = ("policies",)


def build(config: Mapping[str, Any], packages: Sequence[str] = PACKAGES, **arguments: Any) -> Any:
    """The object that ``config`` names; ``_partial_: true`` gives its constructor with arguments bound.

    Raises ConfigError for a package that is not allowed, a name that does not exist or arguments that do not fit.
    """
    target = _target(str(config.get("_target_", "")), packages)
    values = {key: _value(value, packages) for key, value in config.items() if key not in ("_target_", "_partial_")}
    values.update(arguments)
    check_arguments(target, values)
    if config.get("_partial_"):
        return functools.partial(target, **values)
    try:
        return target(**values)
    except RobotRlError:
        raise
    except Exception as error:  # constructors raise what they like; torch a RuntimeError for sizes
        reason = " ".join(f"{error}".split()) or repr(error)
        raise ConfigError(f"cannot build {config['_target_']}: {reason}") from error


def _target(name: str, packages: Sequence[str]) -> Any:
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] not in packages:
        raise ConfigError(f"'{name}' may not be built", limit=f"packages {', '.join(packages)}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"'{name}' does not exist: {error}") from error
    if not isinstance(found, type):
        raise ConfigError(f"'{name}' is not a class")
    return found


def _value(value: Any, packages: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value, packages)
        return {key: _value(item, packages) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(item, packages) for item in value]
    return value
