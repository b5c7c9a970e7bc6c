"""The env and the policies that several apps build alike from their configuration."""

from __future__ import annotations

import copy
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from robot_rl.apps.folders import dataset_folder
from robot_rl.apps.main import compose, instantiate
from robot_rl.apps.recorded_env import rebuilt
from robot_rl.errors import ConfigError, StoreError, valid_choices
from robot_rl.interfaces import Env, Listener, Policy
from robot_rl.runtime.calibration_in_use import calibration_in_use, max_age_days
from robot_rl.runtime.confirmation import KeyDevice, OnKey, on_terminal
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.handover import Handover
from robot_rl.types import EnvSpec

KEY, NONE = "key", "none"


def env_config(
    config: Any, command: str, task: str, made_in: Mapping[str, Any] | None = None, simulated: bool = True
) -> Any:
    """The env of the configuration; without one that which checkpoint or episode were ``made_in``, or, where that was
    not stored, ``task`` as it is by default."""
    if config.get("env"):
        return config.env
    if made_in:
        return rebuilt(made_in, simulated, command)
    if not task:
        raise ConfigError("the task is not recorded", remedy=f"Name it: robot-rl {command} task=... ...")
    try:
        return compose(command, [f"task={task}"]).env
    except ConfigError as error:
        raise ConfigError(
            f"no task option is called '{task}', as what is at hand was made for",
            remedy=f"Give task= and its env. settings as they were then: robot-rl {command} task=... env....",
        ) from error


def given_env(config: Any, command: str) -> Any:
    """The env of the configuration. Raises ConfigError when no task was named."""
    if not config.get("env"):
        raise ConfigError("'task' must be given", remedy=f"robot-rl {command} task=lift ...")
    return config.env


def make_env(node: Any, **arguments: Any) -> Env:
    """The env of a configuration, which stays as it is: building would resolve what its parts share.

    A real arm moves to a start once somebody at the terminal has agreed (``confirm_resets``). A calibration that is
    old, or that a look at the board (``board_check=``) contradicts, is warned of.
    """
    root = copy.deepcopy(node._get_root())
    env = instantiate(root.env, **arguments)
    _warn_of_calibration(env, root.get("board_check"))
    if isinstance(env, RobotEnv) and not env.spec.simulated and env.confirm is None:
        env.confirm = on_terminal
    return env


def confirm_resets(config: Any, env: Env, human: Handover | None) -> None:
    """Let ``config.confirm`` say when the arm of ``env`` moves to a start: ``key`` after the start key of the
    ``human``'s device, else Enter; ``none`` at once; None by key for a real arm, and for a person who demonstrates.

    Raises ConfigError for any other word.
    """
    if config.confirm not in (None, KEY, NONE):
        raise ConfigError(f"confirm={config.confirm}", remedy=valid_choices(config.confirm, (KEY, NONE)))
    env = getattr(env, "inner", env)
    if not isinstance(env, RobotEnv):
        return
    asked = not env.spec.simulated or (human is not None and human.keeps_arm)
    if config.confirm == KEY or (config.confirm is None and asked):
        device = None if human is None else human.device
        env.confirm = OnKey(device, _screen(device)) if isinstance(device, KeyDevice) else on_terminal
    else:
        env.confirm = None


def _warn_of_calibration(env: Env, board_check: Any) -> None:
    warnings = calibration_in_use(env.spec.robot).warnings(max_age_days())
    if board_check and isinstance(env, RobotEnv):
        warnings += instantiate(board_check)(env.robot, env.spec)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def side_by_side(env: Env) -> int:
    """How many of an env an evaluation steps in lockstep, whatever the number of episodes, so that a seed always gives
    the same numbers: a robot is one, an adapted simulator says how many."""
    return int(getattr(env, "side_by_side", 1))


def make_demonstrator(config: Any, spec: EnvSpec) -> tuple[Policy, Handover | None]:
    """Who demonstrates: an expert, which is a policy, or a person who has the arm of a policy that stays."""
    from robot_rl.runtime.still import StillPolicy

    made = _teleop(config, spec, keeps_arm=True)
    if isinstance(made, Handover) and made.keeps_arm:
        return StillPolicy(spec), _opened(made)
    if not isinstance(made, Policy):
        raise ConfigError("this teleop= only takes over from a policy", remedy="Use it with robot-rl session or actor")
    return made, None


def make_human(config: Any, spec: EnvSpec) -> Handover | None:
    """Who may take over from the policy; None where the configuration names no teleop."""
    if not config.get("teleop"):
        return None
    made = _teleop(config, spec)
    if not isinstance(made, Handover):
        raise ConfigError("this teleop= cannot take over from a policy", remedy="Use teleop=scripted_human or a device")
    return _opened(made)


def companions(human: Handover | None, env: Env) -> list[Listener]:
    """What a person at a device needs beside it: cues, and a simulator that runs no faster than real time."""
    from robot_rl.runtime.pace import RealTime
    from robot_rl.teleop.cue import Cue
    from robot_rl.teleop.steering import Steering

    if human is None or not isinstance(human.device, Steering):
        return []
    show = _screen(human.device)
    show("\n".join([*human.device.device.legend, ""]))
    return [Cue(show), RealTime()] if env.clock.stepped else [Cue(show)]


def _screen(device: Any) -> Callable[[str], None]:
    """Shows text where the person at ``device`` looks: the terminal of a keyboard, else that of the process."""
    from robot_rl.teleop.cue import on_screen
    from robot_rl.teleop.terminal import TERMINAL

    return on_screen(getattr(getattr(device, "device", None), "terminal", TERMINAL))


def _teleop(config: Any, spec: EnvSpec, **arguments: Any) -> Any:
    """What ``config.teleop`` names; an option with ``_partial_`` is given the env's spec, and what it takes of
    ``arguments``."""
    try:
        made = instantiate(config.teleop)
    except ConfigError as error:
        raise ConfigError(str(error), remedy=f"Task '{spec.task}' may not offer it; choose another teleop=") from error
    if not isinstance(made, partial):
        return made
    taken = inspect.signature(made.func).parameters
    return made(spec=spec, **{name: value for name, value in arguments.items() if name in taken})


def _opened(human: Handover) -> Handover:
    """``human``, whose device answers: what is wrong with it is said before the arm moves. Raises DeviceError."""
    human.device.events()
    return human


def load_policy(
    checkpoint: str, spec: EnvSpec, accept: list[str], changes: Mapping[str, Any], wrapper: Any = None
) -> Policy:
    """The policy of a checkpoint, checked against the env at hand, and inside the policy that ``wrapper`` configures.

    Raises CheckpointError, or ConfigError for a wrapper that takes no ``base``.
    """
    from robot_rl.learning.checkpoint import load_checkpoint

    if wrapper:
        check_wrapper(wrapper)
    policy = load_checkpoint(Path(checkpoint), spec, accept=accept, changes=dotted(changes))
    return instantiate(wrapper)(base=policy) if wrapper else policy


def check_wrapper(node: Any) -> None:
    """Raise ConfigError unless the option of policy/ acts around another policy, which it takes as ``base``."""
    import hydra.utils

    target = str(node.get("_target_", ""))
    taken = inspect.signature(hydra.utils.get_object(target)).parameters
    if "base" not in taken or "env_spec" in taken:  # with both it is trained around its base
        raise ConfigError(
            f"{target} is a policy to train, it takes no base",
            remedy="policy= names what acts around the checkpoint, such as zero_noise; without it, it acts alone",
        )


def wrapper_title(node: Any) -> str:
    """What a wrapping policy is in a table: 'Chosen choice=Medoid candidates=100'; '' without one."""
    if not node:
        return ""
    words = [str(node["_target_"]).rpartition(".")[2]]
    for key, value in node.items():
        if not str(key).startswith("_"):
            nested = isinstance(value, Mapping) and "_target_" in value
            words.append(f"{key}={str(value['_target_']).rpartition('.')[2] if nested else value}")
    return " ".join(words)


def checkpoint_spec(checkpoint: str) -> tuple[Path, EnvSpec]:
    """Folder and EnvSpec of a checkpoint. Raises CheckpointError when there is none."""
    from robot_rl.learning.checkpoint import find_checkpoint, read_manifest, read_spec

    folder = find_checkpoint(Path(checkpoint))
    read_manifest(folder)
    return folder, read_spec(folder)


def checkpoint_env(config: Any, command: str, checkpoint: str) -> tuple[Path, Any]:
    """Folder of a checkpoint, and the env of the configuration, else the one that the checkpoint was made for."""
    from robot_rl.learning.checkpoint import read_manifest

    folder, spec = checkpoint_spec(checkpoint)
    return folder, env_config(config, command, spec.task, read_manifest(folder).get("env"), spec.simulated)


def with_task(words: Sequence[str]) -> list[str]:
    """``words`` of a command, and the task that their checkpoint was made for where they name a robot and no task."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if "robot" not in given or "task" in given or "checkpoint" not in given:
        return list(words)
    return [*words, f"task={checkpoint_spec(given['checkpoint'])[1].task}"]


def open_dataset(root: str, name: str) -> Any:
    """The EpisodeStore ``name`` below ``root``/data. Raises StoreError naming those there are."""
    from robot_rl.data.store import EpisodeStore

    folder = dataset_folder(root, name)
    if not folder.exists():
        names = [path.parent.name for path in folder.parent.glob("*/dataset.json")]
        raise StoreError(f"no dataset '{name}' in {folder.parent}", remedy=valid_choices(name, names))
    return EpisodeStore.open(folder)


def find_episode(store: Any, wanted: str) -> str:
    """The id that ``wanted`` means: an id, the beginning of one, or a number counted from 0 (from the end: -1)."""
    ids = store.ids(excluded=True)
    begins = [id for id in ids if id.startswith(wanted)]
    if len(begins) == 1:
        return begins[0]
    if wanted.lstrip("-").isdigit() and -len(ids) <= int(wanted) < len(ids):
        return ids[int(wanted)]
    raise StoreError(
        f"no episode '{wanted}' in {store.root}",
        limit=f"{len(ids)} episodes",
        remedy=f"Valid: a number from 0 to {len(ids) - 1}, or an id such as {', '.join(ids[:3])}" if ids else "",
    )


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'sampler': {'steps': 8}} -> {'sampler.steps': 8}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def at_least(config: Any, **lowest: int) -> None:
    """Raise ConfigError for a number of the configuration below its lowest value; null stands for no number."""
    for name, limit in lowest.items():
        if config[name] is not None and config[name] < limit:
            raise ConfigError(f"{name}={config[name]}", limit=f"at least {limit}")


@contextmanager
def closing(*envs: Env) -> Iterator[None]:
    """Close all of them on the way out, whatever happened."""
    try:
        yield
    finally:
        for env in envs:
            env.close()


@contextmanager
def closing_human(human: Handover | None) -> Iterator[Handover | None]:
    """Let go of the person's device on the way out, whatever happened."""
    try:
        yield human
    finally:
        if human is not None:
            human.close()


@contextmanager
def progress(title: str, total: int, done: int = 0, *, bar: bool = True) -> Iterator[Callable[[str], None]]:
    """A progress bar; the yielded function counts one more and shows a text beside the bar. Without ``bar`` a line each
    time: the terminal belongs to somebody else."""
    if not bar:
        counted = itertools.count(done + 1)
        yield lambda note: print(f"{title} {next(counted)} of {total}: {note}", flush=True)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as shown:
        task = shown.add_task("", total=total, completed=done, note="")
        yield lambda note: shown.update(task, advance=1, note=note)
