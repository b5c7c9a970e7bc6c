"""robot-rl dataset relabel classifier=... name=... | session=...: stored episodes judged again by a classifier."""

from __future__ import annotations

from typing import Any

from robot_rl.apps.environment import progress
from robot_rl.apps.folders import run_folder
from robot_rl.apps.judging import load_judge
from robot_rl.errors import ConfigError, StoreError


def session_store(config: Any) -> Any:
    """The store of the session ``config.session``, a run below ``config.root``/runs. Raises StoreError without one."""
    from robot_rl.data.store import EpisodeStore

    folder = run_folder(config.root, config.session) / "store"
    if not folder.exists():
        raise StoreError(f"no session store at {folder}", remedy="session= names a run of robot-rl session or learner")
    return EpisodeStore.open(folder, recover=False)


def relabel(store: Any, config: Any) -> None:
    """Say of every episode whether ``config.classifier`` calls it a success, and where; the files stay as they are."""
    from robot_rl.learning import success_classifier

    if not config.classifier:
        remedy = "Give the run of robot-rl train algorithm=success_classifier"
        raise ConfigError("dataset relabel needs classifier=", remedy=remedy)
    judge, version = load_judge(config, store.spec)
    with progress(f"relabel {store.root.name}", len(store.infos())) as advance:
        done = success_classifier.relabel(store, judge, f"classifier {version:07x}", lambda: advance(""))
    print(
        f"{done.revoked} successes revoked, {done.granted} granted, {done.moved} moved to another step, "
        f"{done.failed} not judged before and failed, {done.unchanged} as they were"
    )
