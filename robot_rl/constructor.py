"""Configured arguments against the annotations of the constructor they are for: the constructor is the schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from robot_rl.errors import ConfigError

_PLAIN = {int: "an integer", float: "a number", str: "a word", bool: "true or false", NoneType: "null"}


def check_arguments(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError for an argument of another type than annotated, such as ``max_steps=two``.

    Held to are annotations made of int, float, str, bool and None alone; other arguments tell by themselves.
    """
    for name, annotation in _annotations(constructor).items():
        wanted = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
        if name not in arguments or not set(wanted) <= _PLAIN.keys():
            continue
        given = type(arguments[name])
        if given not in wanted and not (given is int and float in wanted):
            raise ConfigError(
                f"{constructor.__qualname__}: {name}={arguments[name]}",
                limit=" or ".join(_PLAIN[kind] for kind in wanted),
            )


def _annotations(constructor: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(constructor.__init__ if isinstance(constructor, type) else constructor)
    except (NameError, TypeError):  # names that exist for type checkers alone
        return {}
