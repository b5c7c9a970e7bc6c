"""The ``robot-rl`` command: one sub-command per app, Hydra overrides after it, one clear message when they are wrong.

An app is a module ``robot_rl.apps.<command>`` with ``run(config)``, a YAML ``robot_rl/conf/<command>.yaml`` and a
dataclass ``Config`` that types the app's own scalar keys (groups need none: their constructors are the schema).
A first bare word after the command (``robot-rl dataset import ...``) becomes the override
``subcommand=<word>``.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from robot_rl.apps.site import with_site
from robot_rl.constructor import check_arguments
from robot_rl.errors import ConfigError, RobotRlError, valid_choices
from robot_rl.runtime.gl_faults import check_import
from robot_rl.runtime.gl_library import choose_gl_library

COMMANDS = {
    "record": "record demonstrations with a teleop device or a scripted expert",
    "dataset": "import, export, info, verify, repair or report on an episode store",
    "train": "train a policy from stored episodes",
    "session": "reinforcement learning: actor and learner in one command",
    "learner": "learn from what actors ship, give them weights",
    "actor": "act with a learner's newest weights, ship what happens",
    "evaluate": "roll out a checkpoint on fixed seeds, with intervals",
    "deploy": "run a checkpoint on an arm: preflight, dry run, a slowed first episode, latency log",
    "compare": "two policies, or all ways to act with one, on the same seeds",
    "warm_start": "find the fewest network calls per plan that keep a checkpoint's score",
    "serve": "a policy as a process that gives chunks for noise and nothing else",
    "calibrate": "cameras, hand and eye, time, joints or tool of a robot",
    "replay": "play the actions of a stored episode back",
    "view": "watch a task, or write a video where there is no display",
    "keys": "make, list or revoke the keys for connections beyond this machine",
    "doctor": "check this machine and say what to fix",
    "demo": "record, train and evaluate a lift policy within ten minutes",
}

INTERRUPTED = 130  # the exit code


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 2 the user can fix it, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    return guarded(words[0], lambda: run_command(words[0], words[1:]))


def guarded(name: str, work: Callable[[], None]) -> int:
    """Do the work of the command ``name`` in this process; returns the exit code after saying what went wrong."""
    choose_gl_library()
    for number in (signal.SIGTERM, signal.SIGHUP):  # a supervisor's TERM, a lost terminal: stop and save like Ctrl-C
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    try:
        if name != "doctor":  # which tells of it, among other things
            check_import()
        work()
    except RobotRlError as error:
        print(f"robot-rl {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:
            raise
        print(f"robot-rl {name}: {error.strerror}: {error.filename}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"robot-rl {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def run_command(command: str, words: Sequence[str]) -> None:
    """Compose the configuration of ``command`` from ``words`` and run its app. Raises RobotRlError."""
    if command not in COMMANDS:
        raise ConfigError(f"no command '{command}'", remedy=valid_choices(command, COMMANDS))
    words = list(words)
    if any(word in ("-h", "--help") for word in words):
        from omegaconf import OmegaConf

        print(f"robot-rl {command}: {COMMANDS[command]}\n\nDefaults (override with key=value):\n")
        print(OmegaConf.to_yaml(compose(command, [])))
        return
    app = importlib.import_module(f"robot_rl.apps.{command}")
    first = getattr(app, "SUBCOMMAND", "subcommand")  # the key or group that a first bare word sets
    if words and (first != "subcommand" or first in app.Config.__dataclass_fields__) and re.fullmatch(r"\w+", words[0]):
        words[0] = f"{first}={words[0]}"
    words = getattr(app, "completed", list)(words)
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise ConfigError(f"'{word}' is not key=value", remedy=f"See: robot-rl {command} --help")
    config = compose(command, words)
    _check_types(command, config, app.Config)
    if "words" in app.Config.__dataclass_fields__:  # of a run, which goes on with them
        config.words = words
    app.run(config)


def compose(command: str, overrides: Sequence[str]) -> Any:
    """The configuration of an app as a DictConfig. Raises ConfigError naming the nearest valid key or option."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_module("robot_rl.conf", version_base="1.3"):
            return hydra.compose(config_name=command, overrides=with_site(overrides))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _explain(command, error) from error


def instantiate(node: Any, **arguments: Any) -> Any:
    """Build what a configuration node names by ``_target_``; a wrong key or type is a ConfigError."""
    import hydra.utils
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        _check_arguments({**OmegaConf.to_container(node, resolve=True), **arguments})  # type: ignore[dict-item]
        return hydra.utils.instantiate(node, _convert_="all", **arguments)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__
        if isinstance(cause, RobotRlError):
            raise cause from None
        reason = str(cause or error).splitlines()[0]
        raise ConfigError(f"cannot build {node.get('_target_', 'a part')}: {reason}") from error


def _check_arguments(node: Any) -> None:
    """Hold what is configured for constructors, at any depth, against their annotations."""
    import hydra.utils

    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for child in children:
        _check_arguments(child)
    if isinstance(node, Mapping) and "_target_" in node:
        try:
            constructor = hydra.utils.get_object(node["_target_"])
        except Exception:  # building it will say what is wrong with the name
            return
        check_arguments(constructor, node)


def _check_types(command: str, config: Any, schema: type) -> None:
    """Hold the app's own keys against the types of its dataclass; name what is missing."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for name in schema.__dataclass_fields__:
        if OmegaConf.is_missing(config, name):
            raise ConfigError(f"'{name}' must be given", remedy=f"robot-rl {command} {name}=...")
        try:
            config[name] = OmegaConf.merge(OmegaConf.structured(schema), {name: config[name]})[name]
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{name}={config[name]}: {reason}", remedy=f"See: robot-rl {command} --help") from error


def _explain(command: str, error: Exception) -> ConfigError:
    from hydra.errors import OverrideParseException

    if isinstance(error, OverrideParseException):
        name, _, value = error.override.partition("=")
        return ConfigError(f"cannot read '{error.override}'", remedy=f"Quote it twice: \"{name}='{value}'\"")
    text = str(error).strip()
    key = re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text)
    if key:
        name = key.group(1) or key.group(2)
        keys = list(_keys(compose(command, [])))
        near = difflib.get_close_matches(name, keys, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        return ConfigError(f"no configuration key '{name}'", remedy=f"{hint}See: robot-rl {command} --help")
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if option:
        group, name = option.groups()
        listed = re.search(r"Available options in '[^']*':\s*((?:\s*\S+\n?)+)", text)
        choices = listed.group(1).split("Config search path")[0].split() if listed else []
        return ConfigError(f"no {group} '{name}'", remedy=valid_choices(name, choices))
    return ConfigError(" ".join(text.split()))


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    from omegaconf import DictConfig

    for key in node:
        yield f"{prefix}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _keys(child, f"{prefix}{key}.")


def _usage() -> str:
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "robot-rl <command> [key=value ...]\n\n" + "\n".join(lines) + "\n\nrobot-rl <command> --help shows its keys."


if __name__ == "__main__":
    sys.exit(main())
