"""The env and the policies that several apps build alike from their configuration."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from robot_rl.apps.folders import dataset_folder
from robot_rl.apps.main import compose, instantiate
from robot_rl.apps.recorded_env import rebuilt
from robot_rl.errors import ConfigError, StoreError, valid_choices
from robot_rl.interfaces import Env, Policy
from robot_rl.runtime.handover import Handover
from robot_rl.types import EnvSpec


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
    """The env of a configuration, which stays as it is: building would resolve what its parts share."""
    return instantiate(copy.deepcopy(node._get_root()).env, **arguments)


def side_by_side(env: Env) -> int:
    """How many of an env an evaluation steps in lockstep, whatever the number of episodes, so that a seed always gives
    the same numbers: a robot is one, an adapted simulator says how many."""
    return int(getattr(env, "side_by_side", 1))


def make_teleop(config: Any, spec: EnvSpec) -> Policy:
    """The teleop device or expert that demonstrates; an option with ``_partial_`` is given the env's spec."""
    made = _teleop(config, spec)
    if not isinstance(made, Policy):
        raise ConfigError("this teleop= only takes over from a policy", remedy="Use it with robot-rl session or actor")
    return made


def make_human(config: Any, spec: EnvSpec) -> Handover | None:
    """Who may take over from the policy; None where the configuration names no teleop."""
    if not config.get("teleop"):
        return None
    made = _teleop(config, spec)
    if not isinstance(made, Handover):
        raise ConfigError("this teleop= cannot take over from a policy", remedy="Use teleop=scripted_human or a device")
    return made


def _teleop(config: Any, spec: EnvSpec) -> Any:
    try:
        made = instantiate(config.teleop)
    except ConfigError as error:
        raise ConfigError(str(error), remedy=f"Task '{spec.task}' may not offer it; choose another teleop=") from error
    return made(spec=spec) if isinstance(made, partial) else made


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
    if "base" not in inspect.signature(hydra.utils.get_object(target)).parameters:
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
def progress(title: str, total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
    """A progress bar; the yielded function counts one more and shows a text beside the bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("", total=total, completed=done, note="")
        yield lambda note: bar.update(task, advance=1, note=note)
