"""Policy checkpoints: one folder, written atomically, read by one function for training, evaluation and deployment.

    policy.safetensors     weights (averaged) and normaliser       config.json    resolved ``_target_`` configuration
    training.safetensors   what resuming needs (optional)          env_spec.json  what it observes and commands
    manifest.json          SHA-256 of every other file, step, data and code revision; written last

Nothing is pickled and nothing outside ``targets.PACKAGES`` is imported, so a foreign checkpoint can do no harm.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from robot_rl.errors import CheckpointError, ConfigError, valid_choices
from robot_rl.interfaces import Policy
from robot_rl.learning.targets import PACKAGES, build
from robot_rl.types import EnvSpec, PolicySpec, compare_specs

FORMAT = "robot_rl/checkpoint"
FORMAT_VERSION = 1
WEIGHTS, TRAINING, CONFIG, SPEC, MANIFEST = (
    "policy.safetensors", "training.safetensors", "config.json", "env_spec.json", "manifest.json"
)  # fmt: skip
LATEST = "latest"  # beside the checkpoints of a run: names the newest one


@runtime_checkable
class Stored(Policy, Protocol):
    """A policy that takes its weights and statistics from a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


def save_checkpoint(
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    env_spec: EnvSpec,
    training: Mapping[str, Tensor] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``folder`` in one rename: it is there whole or not at all.

    Raises CheckpointError when there is one, and for a number that is not finite: what came before stays the newest.
    """
    if folder.exists():
        raise CheckpointError(f"checkpoint {folder} exists", remedy="Checkpoints are never overwritten")
    for name, value in {**(training or {}), **weights}.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"checkpoint {folder} would hold '{name}' that is not finite",
                remedy="Go on from the checkpoint before it with resume=true and a lower learning_rate",
            )
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _write_tensors(draft / WEIGHTS, weights)
    if training is not None:
        _write_tensors(draft / TRAINING, training)
    _write_json(draft / CONFIG, config)
    _write_json(draft / SPEC, env_spec.to_json())
    files = {path.name: _sha256(path) for path in sorted(draft.iterdir())}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, "files": files, "code_revision": code_revision()}
    _write_json(draft / MANIFEST, {**manifest, **(meta or {})})
    for path in draft.iterdir():
        _sync(path)
    _sync(draft)
    draft.rename(folder)
    _sync(folder.parent)
    return folder


def point_to(folder: Path, name: str = LATEST) -> None:
    """Make ``folder`` the checkpoint that its run resolves to; replaced in one rename."""
    draft = folder.parent / f".{name}.{os.getpid()}"
    draft.write_text(folder.name + "\n")
    _sync(draft)
    draft.rename(folder.parent / name)
    _sync(folder.parent)


def find_checkpoint(path: Path, name: str = LATEST) -> Path:
    """The checkpoint that ``path`` means: itself, where 'latest' or 'best' points, a run's."""
    if path.is_file() and path.name != MANIFEST:
        path, name = path.parent, path.name
    for parent in (path, path / "checkpoints"):
        if (parent / MANIFEST).is_file():
            return parent
        if (parent / name).is_file():
            return _pointed(parent / name)
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}", remedy="Give a run folder or one of its checkpoints/step_*")
    raise CheckpointError(f"{path} is not a checkpoint: no {MANIFEST}", remedy="Give a run folder or a checkpoint")


def _pointed(pointer: Path) -> Path:
    """The checkpoint beside ``pointer`` that it names: a plain name, so that none leads out of the run."""
    with pointer.open("rb") as file:
        name = file.read(256).decode(errors="replace").strip()
    if not re.fullmatch(r"\w[\w.+-]{0,99}", name) or not (pointer.parent / name / MANIFEST).is_file():
        raise CheckpointError(f"{pointer} names no checkpoint beside it", remedy="Give a run folder or a checkpoint")
    return pointer.parent / name


def load_checkpoint(
    path: Path | str,
    spec: EnvSpec | None = None,
    *,
    accept: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    packages: Sequence[str] = PACKAGES,
    kind: type = Stored,
) -> Any:
    """The policy of a checkpoint, ready to act; or what else implements the protocol ``kind``, a classifier say.

    ``spec`` is the env at hand: names, shapes, units, frames, action kinds, rate and arm parts must agree; differences
    of robot id, calibration, limits and camera source must be named in ``accept`` ('robot', 'calibration_sha256',
    'limits', a camera's name, or 'all'). ``changes`` sets constructor arguments by dotted key, e.g.
    {'sampler.steps': 8}. Raises CheckpointError.
    """
    folder = find_checkpoint(Path(path))
    read_manifest(folder)
    saved = read_spec(folder)
    config = _changed(_read_json(folder / CONFIG), changes or {})
    try:
        policy = build(config, packages, env_spec=saved)
    except ConfigError as error:
        raise CheckpointError(f"checkpoint {folder} cannot be built: {error}") from error
    if not isinstance(policy, kind):
        name = "policy" if kind is Stored else kind.__name__
        raise CheckpointError(f"checkpoint {folder}: {config['_target_']} is no {name}")
    if spec is not None:
        _check_spec(folder, saved, policy.spec, spec, accept)
    policy.load_state_dict(_read_tensors(folder / WEIGHTS))
    return policy


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration of the policy in a checkpoint folder."""
    return _read_json(folder / CONFIG)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """What acts in a checkpoint folder, by name. Raises CheckpointError."""
    return _read_tensors(folder / WEIGHTS)


def load_training_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(learner state, manifest) of a checkpoint that can be resumed. Raises CheckpointError."""
    folder = find_checkpoint(path)
    manifest = read_manifest(folder)
    if TRAINING not in manifest["files"]:
        raise CheckpointError(f"checkpoint {folder} holds no training state", remedy="Only a run's own can be resumed")
    return _read_tensors(folder / TRAINING), manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, after checking that every file is what was written. Raises CheckpointError."""
    manifest = _read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{folder} is not a checkpoint of this project: format {manifest.get('format')!r}")
    version, files = manifest.get("version"), manifest.get("files")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {folder} has version {version}", limit=str(FORMAT_VERSION), remedy="Update robot-rl"
        )
    if not isinstance(files, dict) or not {WEIGHTS, CONFIG, SPEC} <= files.keys():
        raise CheckpointError(f"checkpoint {folder} is damaged: {MANIFEST} does not list its files")
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"checkpoint {folder} is damaged: {name} is missing", remedy="Use another one")
        if _sha256(folder / name) != digest:
            raise CheckpointError(f"checkpoint {folder} is damaged: {name} was changed", remedy="Use another one")
    return manifest


def code_revision() -> str:
    """Commit of the source, with '+changes' when the working tree differs; empty outside a checkout."""
    source = Path(__file__).parent
    try:
        git = ["git", "-C", str(source), "describe", "--always", "--dirty=+changes", "--abbrev=40", "--exclude=*"]
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _check_spec(folder: Path, saved: EnvSpec, reads: PolicySpec, actual: EnvSpec, accept: Sequence[str]) -> None:
    """Only what the policy reads must be there: an env may observe more."""
    cameras = {name: value for name, value in saved.cameras.items() if f"images/{name}" in reads.observation}
    state = {name: value for name, value in saved.observation.items() if name in reads.observation}
    refused, listed = compare_specs(replace(saved, observation=state, cameras=cameras), actual)
    if refused:
        raise CheckpointError(
            f"checkpoint {folder} was made for another env: {'; '.join(refused)}", remedy="Choose the task it is for"
        )
    named = {text.partition(":")[0].removeprefix("camera ").strip("'"): text for text in listed}
    open_ = [name for name in named if name not in accept]
    if open_ and "all" not in accept:
        raise CheckpointError(
            f"checkpoint {folder} differs from the env: {'; '.join(named[name] for name in open_)}",
            remedy=f"Accept with accept=[{','.join(open_)}] or accept=[all]",
        )


def _changed(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        *parents, last = key.split(".")
        node: Any = config
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise CheckpointError(f"no policy argument '{key}'", remedy=valid_choices(parents[0], config))
        node[last] = value
    return config


def read_spec(folder: Path) -> EnvSpec:
    """What the policy in a checkpoint folder observes and commands. Raises CheckpointError."""
    try:
        return EnvSpec.from_json(_read_json(folder / SPEC))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {folder}: {SPEC} cannot be read: {error!r}") from error


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", remedy="Use another checkpoint") from error


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} is not a checkpoint: no {path.name}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", remedy="Use another checkpoint") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object", remedy="Use another checkpoint")
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
