"""robot-rl train algorithm=dsrl|residual|expo base=... data=...: the offline phase of what is learnt by acting else.

Nobody hands anything over here: what was learnt has every episode, in evaluations and wherever it is deployed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robot_rl.apps.folders import run_folder
from robot_rl.apps.learning_side import commanded_rows, images_of, policy_config, take_encoders, with_base_actions
from robot_rl.apps.main import instantiate
from robot_rl.apps.resume import check_resumed
from robot_rl.errors import ConfigError

DEMONSTRATIONS = "demonstrations"


def train(config: Any, store: Any, evaluation: Any, about: Any, report: Any) -> None:
    """Train ``config.policy`` around ``config.base`` on the transitions of ``store`` alone.

    Raises ConfigError for an algorithm that has no use for demonstrations, such as dsrl_sac: they tell of no noise.
    """
    from robot_rl.data.replay import ReplaySampler
    from robot_rl.learning.offline_training import OfflineSchedule, OfflineTraining, Provenance
    from robot_rl.learning.targets import build
    from robot_rl.learning.training_run import TrainingRun

    made, spec = policy_config(config), store.spec
    policy, acting = (build(made, env_spec=spec) for _ in range(2))
    take_encoders(config, policy)  # a resumed run then takes its own
    config.algorithm.hand_over = None
    learner = instantiate(config.algorithm)(policy)
    if DEMONSTRATIONS not in learner.views:
        raise ConfigError(f"{config.algorithm._target_} learns by acting", remedy="robot-rl session task=... base=...")
    run = TrainingRun(
        run_folder(config.root, config.name or f"{config.data}-seed{config.seed}"),
        resume=config.resume,
        keep=config.keep,
    )
    resuming = config.resume and run.resumable
    if resuming:
        check_resumed(config, run.folder, made)
    else:
        policy.fit_normalizer(commanded_rows(store, policy.spec))
    source = with_base_actions(config, store, learner, made)
    view, images = learner.views[DEMONSTRATIONS], images_of(policy)
    sampler = ReplaySampler(source, view, batch=config.batch, seed=config.seed, images=images)
    evaluate, envs = evaluation(config, acting) if config.evaluate_every else (None, [])
    training = OfflineTraining(
        _OneDataset(learner),  # type: ignore[arg-type]
        sampler,
        run,
        OfflineSchedule(config.steps, config.group, config.log_every, config.checkpoint_every, config.evaluate_every),
        Provenance(made, spec, about(config, store, sampler.episodes, policy.normalizer.sha256())),
        evaluate=evaluate,
    )
    if resuming:
        print(f"resuming at step {training.resume()}")
    print(f"{len(sampler.episodes)} episodes, {len(sampler)} transitions -> {run.folder}")
    try:
        checkpoint = training.train()
    finally:
        for env in envs:
            env.close()
    report(run.folder, checkpoint)


class _OneDataset:
    """A Learner whose views all draw from the same data: a batch of it is dealt out to them."""

    def __init__(self, learner: Any) -> None:
        self._learner = learner
        self.acting_state, self.state_dict = learner.acting_state, learner.state_dict
        self.load_state_dict = learner.load_state_dict

    def update(self, batches: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """{``demonstrations``: {key: [G, B, ...]}}."""
        names, (batch,) = list(self._learner.views), batches.values()
        share = len(batch["reward"][0]) // len(names)
        dealt = {
            name: {key: value[:, at * share : (at + 1) * share] for key, value in batch.items()}
            for at, name in enumerate(names)
        }
        metrics = self._learner.update(dealt)
        return {"loss": metrics["critic_loss"], **metrics}
