"""Success by a trained classifier, in any app that runs an env: ``classifier=`` names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robot_rl.errors import ConfigError
from robot_rl.interfaces import Env, Listener
from robot_rl.types import EMPTY, ArraySpec, EnvSpec


def load_judge(config: Any, spec: EnvSpec) -> tuple[Any, int]:
    """The classifier ``config.classifier``, a run below <root>/runs or a checkpoint, and its version; it may have been
    trained on another arm's episodes. Raises CheckpointError."""
    from robot_rl.learning.success_classifier import load_classifier

    return load_classifier(classifier_path(config), spec, accept=["all"])


def classifier_path(config: Any) -> Path:
    """Where ``config.classifier`` lies, which is given."""
    run = Path(config.root) / "runs" / config.classifier
    return run if run.exists() else Path(config.classifier)


def judged(config: Any, env: Env) -> Env:
    """``env``, its success called by ``config.classifier`` where that is given; closed when that cannot be loaded."""
    from robot_rl.runtime.classified_env import ClassifiedEnv

    if not config.get("classifier"):
        return env
    try:
        return ClassifiedEnv(env, *load_judge(config, env.spec))
    except BaseException:
        env.close()
        raise


def check_evaluated(config: Any, node: Any) -> None:
    """Raise ConfigError where evaluations are due in the env of ``node`` and nothing judges them there: a key that a
    person presses judges training episodes alone."""
    if config.evaluate_every and not config.classifier and not node.get("rule", True):
        raise ConfigError(
            "with env.rule=false nothing judges evaluations",
            remedy="Name what does with classifier=<run>, or set evaluate_every=0",
        )


def by_rule(env: Env) -> Env:
    """What an evaluation runs in: ``env`` judged by its task's rule where there is one, else by the classifier."""
    from robot_rl.runtime.classified_env import ClassifiedEnv

    return env.by_rule if isinstance(env, ClassifiedEnv) else env


def score_extras(env: Env) -> dict[str, ArraySpec]:
    """What a recorder of ``env`` declares beside the policy's extras."""
    from robot_rl.runtime.classified_env import EXTRAS, ClassifiedEnv

    return dict(EXTRAS if isinstance(env, ClassifiedEnv) else EMPTY)


def scored(recorder: Listener, env: Env) -> Listener:
    """``recorder``, told the scores of ``env`` where a classifier judges it."""
    from robot_rl.runtime.classified_env import ClassifiedEnv, ScoreRecorder

    return ScoreRecorder(recorder, env) if isinstance(env, ClassifiedEnv) else recorder


def verdicts(listener: Listener) -> str:
    """How classifier and rule agreed over the recorded episodes, in words; nothing without a classifier."""
    from robot_rl.runtime.classified_env import ScoreRecorder

    if not isinstance(listener, ScoreRecorder):
        return ""
    counts = listener.verdicts
    return (
        f"success by classifier and rule: {counts[True, True]}, by the classifier alone: {counts[True, False]}, "
        f"by the rule alone: {counts[False, True]}, by neither: {counts[False, False]}\n"
    )
