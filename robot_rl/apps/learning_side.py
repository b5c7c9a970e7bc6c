"""What the apps that learn online share: the learner's side of a session, built from the configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps import folders
from robot_rl.apps.environment import at_least, open_dataset
from robot_rl.apps.main import instantiate
from robot_rl.apps.recorded_env import env_of_training
from robot_rl.apps.resume import check_resumed, keep_words, settings
from robot_rl.errors import ConfigError


@dataclass
class LearningKeys:
    """Types of the keys that they share."""

    root: str
    demos: str
    base: str | None
    encoders: str | None
    draw_demos: bool
    draw_successes: bool
    name: str | None
    resume: bool
    seed: int
    threads: int
    steps: int
    batch: int
    lowest_ratio: float
    update_ratio: float
    group: int
    start: int
    publish_every: int
    log_every: int
    diagnose_every: int
    checkpoint_every: int
    keep: int
    evaluate_every: int
    evaluate_episodes: int
    evaluate_seed: int
    stop_success: float | None
    words: list[str]


def check_learning_keys(config: Any) -> None:
    """Raise ConfigError for numbers that are too small."""
    counts = dict.fromkeys(("steps", "group", "keep", "threads", "publish_every", "evaluate_episodes"), 1)
    at_least(config, batch=2, start=0, evaluate_every=0, evaluate_seed=0, **counts)


def run_folder(config: Any) -> Path:
    """<root>/runs/<name>, where a name that was not given is made of task and seed."""
    named = config.env.get("task") if config.get("env") else None  # an adapted env has none
    task = named._target_.rpartition(".")[2].lower() if named else config.demos
    return folders.run_folder(config.root, config.name or f"{task}-seed{config.seed}")


def open_run(config: Any, folder: Path) -> tuple[Any, bool]:
    """TrainingRun, and whether there is a checkpoint to resume. Raises ConfigError for a run that is there already."""
    from robot_rl.learning.training_run import TrainingRun

    run = TrainingRun(folder, resume=config.resume, keep=config.keep)
    keep_words(folder, config.words)
    return run, config.resume and run.resumable


def make_training(config: Any, spec: Any, run: Any, store: Any, transport: Any) -> Any:
    """OnlineTraining over the session's ``store``.

    Statistics of observations come from the demonstrations, once: a resumed run has them in its checkpoint.
    """
    from robot_rl.learning.online_training import OnlineReplay, OnlineSchedule, OnlineTraining
    from robot_rl.learning.targets import build
    from robot_rl.learning.update_ratio import UpdateRatio

    demos = open_dataset(config.root, config.demos)
    made = policy_config(config)
    policy = build(made, env_spec=spec)
    if run.resumable:
        check_resumed(config, run.folder, made)
    else:
        policy.fit_normalizer(commanded_rows(demos, policy.spec))
        take_encoders(config, policy)
    learner = instantiate(config.algorithm)(policy)
    replay = OnlineReplay(
        learner.views,
        store,
        with_base_actions(config, demos, learner, made),
        batch=config.batch,
        seed=config.seed,
        images=images_of(policy),
        corrections_only=not config.draw_demos,
        successes=config.draw_successes,
    )
    ratio = UpdateRatio(config.lowest_ratio, config.update_ratio, start=config.start)
    schedule = OnlineSchedule(
        config.group, config.pretrain, config.publish_every, config.log_every, config.diagnose_every
    )
    provenance = _provenance(config, made, spec)
    return OnlineTraining(learner, replay, ratio, run, schedule, provenance, transport)


def with_base_actions(config: Any, demos: Any, learner: Any, made: Mapping[str, Any]) -> Any:
    """The demonstrations, with what the base would have done beside what was done where the learner asks for it."""
    from robot_rl.learning.checkpoint import read_config
    from robot_rl.learning.targets import build
    from robot_rl.runtime.shadow import PREFIX, Shadowed

    names = [name for name in getattr(learner.views.get("demonstrations"), "extras", ()) if name.startswith(PREFIX)]
    if not names:
        return demos
    of = {key: made[key] for key in ("base", "candidates") if key in made}
    of["config"] = read_config(Path(made["base"]["checkpoint"]))
    key = hashlib.sha256(json.dumps([names, of], sort_keys=True).encode()).hexdigest()
    policy = build(made, env_spec=demos.spec)  # one of its own: it remembers what it was asked last
    policy.fit_normalizer(commanded_rows(demos, policy.spec))
    return Shadowed(demos, policy, names, demos.root / "shadows" / key[:16])


def take_encoders(config: Any, policy: Any) -> None:
    """Camera encoders of another run below <root>/runs, or of a checkpoint, where that is wanted."""
    from robot_rl.learning.camera_encoders import take_camera_encoders

    if config.encoders:
        run = Path(config.root) / "runs" / config.encoders
        taken = take_camera_encoders(policy, run if run.exists() else Path(config.encoders))
        print(f"{taken} weights of camera encoders taken from {config.encoders}", flush=True)


def commanded_steps(store: Any) -> int:
    """Steps of a session in which a person commanded."""
    from robot_rl.data.replay_index import HUMAN
    from robot_rl.data.tables import EpisodeTable

    table = EpisodeTable(["flags/intervention", "action_valid"])
    table.update(store)
    if not table.rows:
        return 0
    return int(((table["flags/intervention"] == HUMAN) & table["action_valid"]).sum())


def policy_config(config: Any) -> dict[str, Any]:
    """What the policy is built from and checkpoints hold; a base is named by its checkpoint and by its hash.

    Raises ConfigError where a base is wanted and none is named, CheckpointError for one that cannot be loaded.
    """
    from robot_rl.learning.checkpoint import find_checkpoint
    from robot_rl.learning.targets import build

    made = plain(config.policy)
    base = made.get("base")
    if isinstance(base, Mapping) and "checkpoint" in base:
        if not base["checkpoint"]:
            raise ConfigError("this algorithm starts from a policy", remedy="Name it: base=runs/<run of the base>")
        named = {**base, "checkpoint": str(find_checkpoint(Path(base["checkpoint"])).resolve())}
        made["base"] = {**named, "sha256": build(named).sha256}
    return made


def plain(node: Any) -> dict[str, Any]:
    """The resolved ``_target_`` configuration that goes into checkpoints."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(node, resolve=True)
    return {str(key): value for key, value in plain.items() if key != "_partial_"}


def commanded_rows(demos: Any, spec: Any) -> dict[str, Any]:
    """Rows of the demonstrations for the normaliser, the steps that act."""
    from robot_rl.data.tables import EpisodeTable

    keys = [f"obs/{key}" for key in spec.observation if not key.startswith("images/")]
    keys.append("action/commanded")
    table = EpisodeTable([*keys, "action_valid"])
    table.update(demos)
    return {key: table[key][table["action_valid"]] for key in keys}


def images_of(policy: Any) -> Any:
    """How stored frames are brought to what ``policy`` sees; None without cameras."""
    from robot_rl.data.frames import ImageOptions

    return ImageOptions(size=policy.image_size, threads=1) if policy.image_size else None


def _provenance(config: Any, policy_config: Mapping[str, Any], spec: Any) -> Any:
    from robot_rl.learning.offline_training import Provenance

    about = {"data": {"dataset": config.demos}, "config": settings(config), "env": env_of_training(config)}
    return Provenance(policy_config, spec, about)
