"""A run that goes on: its policy must be the one it was started with, and any other setting that differs is told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import dotted
from robot_rl.apps.folders import run_folder
from robot_rl.errors import CheckpointError

# Where, how long and how closely watched: what is learned from the same data does not depend on these.
_FREE = ("policy", "name", "resume", "threads", "steps", "keep", "mode", "address", "keys", "retries", "words")
_FREE_ENDINGS = ("_every", "wait_s", "_timeout_s", "_local", "restarts", "_episodes", "_seed")

_WORDS_FILE = "words.json"  # in the run folder
_WHERE = ("root", "name", "resume")


def with_words_of_run(words: Sequence[str]) -> list[str]:
    """``words`` of a command; those of one that resumes a run by its name stand behind the words that the run was
    started with, and outweigh them."""
    given = {_key(word): word.partition("=")[2] for word in words}
    if given.get("resume", "").lower() != "true" or "name" not in given:
        return list(words)
    root = given.get("root") or os.environ.get("ROBOT_RL_ROOT", ".")
    path = run_folder(root, given["name"]) / _WORDS_FILE
    started = json.loads(path.read_text()) if path.exists() else []
    return [*(word for word in started if _key(word) not in given), *words]


def keep_words(folder: Path, words: Sequence[str]) -> None:
    """Remember what the command of the run ``folder`` was given."""
    from robot_rl.data.file_lock import replace_file

    kept = [word for word in words if _key(word) not in _WHERE]
    replace_file(folder / _WORDS_FILE, json.dumps(kept).encode())


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def settings(config: Any) -> dict[str, Any]:
    """The configuration as checkpoints keep it, resolved; the env describes itself elsewhere."""
    from omegaconf import OmegaConf

    names = [name for name in config if name not in ("root", "env", "task")]
    plain: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, names), resolve=True)
    return plain


def check_resumed(config: Any, folder: Path, policy_config: Mapping[str, Any]) -> None:
    """Compare the configuration with that of the newest checkpoint of the run ``folder``.

    Raises CheckpointError naming what differs in the policy; prints what else differs and matters.
    """
    from robot_rl.learning.checkpoint import find_checkpoint, read_config, read_manifest

    checkpoint = find_checkpoint(folder)
    differing = _differences(read_config(checkpoint), policy_config)
    if differing:
        raise CheckpointError(
            f"run {folder} was started with another policy configuration: {', '.join(differing)}",
            remedy="Resume it with the same one, or choose another name=",
        )
    now = json.loads(json.dumps(settings(config)))
    for difference in _differences(_told(read_manifest(checkpoint).get("config", {})), _told(now)):
        print(f"resumed with {difference}")


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _FREE and not key.endswith(_FREE_ENDINGS)}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """'algorithm.learning_rate=0.001, started with 0.0003' for each key that is not the same."""
    old, new = dotted(before), dotted(now)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}={new.get(key)}, started with {old.get(key)}" for key in keys]
