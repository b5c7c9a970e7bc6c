"""A success classifier's threshold, chosen by whole episodes held out from training, and its verdicts on stored ones.

What users of such rewards fear is the episode called a success that is none: learners run after it. So the threshold is
the one at which that happened in at most ``most`` of the held-out episodes, and the interval tells what that is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from robot_rl.data.episode import Episode
from robot_rl.data.frames import ImageOptions, Images
from robot_rl.data.labelled_frames import NOT_YET, SUCCESS, UNKNOWN, LabelledFrames, read_frames
from robot_rl.data.store import EpisodeStore
from robot_rl.data.tables import EpisodeTable
from robot_rl.errors import RobotRlError
from robot_rl.learning.checkpoint import WEIGHTS, find_checkpoint, load_checkpoint, read_manifest
from robot_rl.runtime.statistics import clopper_pearson
from robot_rl.runtime.success_rule import SuccessJudge, SuccessRule
from robot_rl.types import Array, EnvSpec

MOST = 0.01  # of the episodes may be called a success wrongly
LEAST_FAILURES = 10  # held out, below which nothing is claimed
_LEAST_THRESHOLD = 0.5
_AT_ONCE = 256  # frames scored in one call


@dataclass(frozen=True)
class Trial:
    """How far the rule went in one held-out episode: thresholds up to which it would have called a success."""

    failed: bool
    wrong: float  # in a failed episode, or before a success
    right: float = 0.0  # once there was one


@dataclass(frozen=True)
class Calibration:
    """The threshold and how the held-out episodes fare with it."""

    threshold: float
    failures: int
    false_successes: int  # failed episodes called a success
    false_upper_95: float  # Clopper-Pearson: their rate may be as high as this
    successes: int
    early: int  # called a success before they were one
    found: int

    def applied_to(self, rule: SuccessRule) -> SuccessRule:
        """``rule`` with this threshold."""
        return replace(rule, threshold=self.threshold)

    @property
    def caution(self) -> str:
        """Said where the failures are too few to show that less than MOST of them would be called a success."""
        if self.false_upper_95 <= MOST:
            return ""
        return (
            f"{self.failures} failed episodes show no less than {self.false_upper_95:.1%}: "
            f"it takes {_shown_by()} without a false success to show {MOST:.0%}. "
            "Record more failures before you let a policy learn from it for long."
        )


def _shown_by() -> int:
    """Failed episodes without a false success that put the upper bound at MOST: (1 - MOST)^n = 0.025."""
    return math.ceil(math.log(0.025) / math.log(1.0 - MOST))


def success_bounds(judge: SuccessJudge, frames: LabelledFrames, margin_m: float) -> SuccessRule:
    """The rule of ``judge`` with the box in which the TCP was in frames that show success, ``margin_m`` wider."""
    positions = _positions_m(judge, frames.table, slice(0, frames.table.rows))[frames.labels == SUCCESS]
    if not _states(judge):
        return judge.rule
    lower, upper = positions.min(axis=0) - margin_m, positions.max(axis=0) + margin_m
    return replace(judge.rule, lower_m=lower.astype(float).tolist(), upper_m=upper.astype(float).tolist())


def trials(judge: SuccessJudge, frames: LabelledFrames) -> list[Trial]:
    """One for each episode of ``frames`` that somebody judged."""
    found = []
    for number in range(len(frames.table.ids)):
        rows = frames.episode(number)
        labels = frames.labels[rows]
        if (labels == UNKNOWN).all():
            continue
        scores = _scores(judge, frames.images, np.arange(rows.start, rows.stop))
        levels = judge.rule.levels(scores, _positions_m(judge, frames.table, rows))
        failed = not (labels == SUCCESS).any()
        before = int((labels == NOT_YET).sum())  # these come first
        found.append(
            Trial(failed, levels[:before].max(initial=0.0), 0.0 if failed else levels[before:].max(initial=0.0))
        )
    return found


def _scores(judge: SuccessJudge, read: Callable[[Array], Mapping[str, Array]], rows: Array) -> Array:
    """Scores [M] of the frames that ``read`` gives for the rows [M]."""
    return np.concatenate([judge.probability(read(rows[i : i + _AT_ONCE])) for i in range(0, len(rows), _AT_ONCE)])


def _positions_m(judge: SuccessJudge, table: EpisodeTable, rows: slice) -> Array:
    """Where the TCP was, [M, 3]."""
    state = {key.removeprefix("obs/"): table[key][rows] for key in table.keys if key.startswith("obs/")}
    return np.broadcast_to(judge.position_m(state), (rows.stop - rows.start, 3))


def _states(judge: SuccessJudge) -> list[str]:
    return [name for name in judge.spec.observation if not name.startswith("images/")]


def choose_threshold(held_out: Sequence[Trial], most: float = MOST) -> Calibration:
    """The threshold at which at most the share ``most`` of failed episodes is called a success, and at most that share
    of successful ones too early; at least 0.5, and half-way to what successes reach where there is room.

    Raises RobotRlError for fewer than LEAST_FAILURES failures or no success held out, and where no threshold will do.
    """
    failed, succeeded = ([trial for trial in held_out if trial.failed is kind] for kind in (True, False))
    if len(failed) < LEAST_FAILURES or not succeeded:
        raise RobotRlError(
            f"too few episodes are held out to choose a threshold: {len(failed)} failed, {len(succeeded)} successful",
            limit=f"at least {LEAST_FAILURES} failed ones and a success",
            remedy="Record failures (keep_failures=true), or hold out a larger share",
        )
    wrong = max(_bound([trial.wrong for trial in kind], most) for kind in (failed, succeeded))
    right = float(np.median([trial.right for trial in succeeded]))
    threshold = max(_LEAST_THRESHOLD, 0.5 * (wrong + right) if right > wrong else float(np.nextafter(wrong, 2.0)))
    if threshold > 1.0:
        raise RobotRlError("failures look as sure as successes", remedy="Record more of both, or train for longer")
    false = sum(trial.wrong >= threshold for trial in failed)
    return Calibration(
        threshold=threshold,
        failures=len(failed),
        false_successes=false,
        false_upper_95=clopper_pearson(false, len(failed))[1],
        successes=len(succeeded),
        early=sum(trial.wrong >= threshold for trial in succeeded),
        found=sum(trial.wrong < threshold <= trial.right for trial in succeeded),
    )


def _bound(levels: Sequence[float], most: float) -> float:
    """The level that a threshold must exceed so that at most the share ``most`` of ``levels`` reach it."""
    return float(np.sort(levels)[::-1][int(most * len(levels))])


# --- checkpoints and stored episodes


@runtime_checkable
class StoredJudge(SuccessJudge, Protocol):
    """A classifier that takes its weights and its rule from a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


def load_classifier(path: Path | str, spec: EnvSpec | None = None, accept: Sequence[str] = ()) -> tuple[Any, int]:
    """The classifier of a run or checkpoint and its version, which tells its weights from others (28 bits).

    ``spec`` and ``accept`` are as for ``load_checkpoint``. Raises CheckpointError.
    """
    folder = find_checkpoint(Path(path))
    judge = load_checkpoint(folder, spec, accept=accept, kind=StoredJudge)
    return judge, int(read_manifest(folder)["files"][WEIGHTS][:7], 16)


def verdict(judge: SuccessJudge, episode: Episode) -> tuple[bool, int | None]:
    """Whether the episode is a success by ``judge``, and the control step that brings it."""
    table = EpisodeTable([f"obs/{name}" for name in _states(judge)], judge.cameras)
    table.append(episode, 0)
    images = Images(table, ImageOptions(size=judge.image_size, tier="decode", threads=1), None)
    images.refresh()
    scores = _scores(judge, partial(read_frames, table, images), np.arange(episode.rows))
    row = judge.rule.first(scores, _positions_m(judge, table, slice(0, episode.rows)))
    return (False, None) if row is None else (True, max(row - 1, 0))


@dataclass
class Relabelled:
    """What judging the episodes of a store again has changed."""

    unchanged: int = 0
    revoked: int = 0
    granted: int = 0
    failed: int = 0  # nobody had judged it
    moved: int = 0  # a success before and after, at another step


def relabel(
    store: EpisodeStore, judge: SuccessJudge, who: str, advance: Callable[[], None] = lambda: None
) -> Relabelled:
    """Judge all episodes of ``store`` again and annotate those whose outcome changes; the files stay as they are.

    Idempotent, so that an interrupted run is simply started again. Replay sees a revoked success as a truncation and
    the end of the episode at a new one.
    """
    done = Relabelled()
    for info in store.infos():
        if info.length:
            episode = store.read(info.id)
            success, step = verdict(judge, episode)
            kind = _change(_outcome(info, episode), (success, step))
            setattr(done, kind, getattr(done, kind) + 1)
            if kind != "unchanged":
                store.annotate(info.id, success=success, success_step=step, who=who)
        advance()
    return done


def _outcome(info: Any, episode: Episode) -> tuple[bool | None, int | None]:
    """The outcome in force: annotated, or else recorded."""
    if not info.success or info.success_step is not None:
        return info.success, info.success_step
    steps = np.flatnonzero(episode.arrays.get("rl/success", np.zeros(0)))
    return True, int(steps[0]) if len(steps) else episode.steps - 1


def _change(before: tuple[bool | None, int | None], after: tuple[bool, int | None]) -> str:
    if before == after:
        return "unchanged"
    if before[0] and after[0]:
        return "moved"
    if after[0]:
        return "granted"
    return "revoked" if before[0] else "failed"
