"""Which transitions a ReplayView sees in stored rows: labels applied, ends found, windows cut. All of it vectorised.

Row t of the table holds the observation at t, the action from t to t + 1 and its reward, so a transition needs the row
after it: the final row of an episode, and the newest row of a running one, are successors only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.data.tables import EpisodeTable
from robot_rl.errors import ConfigError
from robot_rl.types import Array, Cut, ReplayView

HUMAN = 1  # in flags/intervention
ROW_KEYS = ("action_valid", "rl/reward", "rl/terminated", "rl/truncated", "rl/success", "flags/intervention")
DECISION_PREFIX = "decision/"


@dataclass(frozen=True)
class Steps:
    """What became of each control step, [R], with labels applied and everything after the first success left out."""

    first: Array  # [E + 1] first row of each episode, and the total
    episode: Array  # of each row
    acting: Array  # bool: the action counts and its successor exists
    reward: Array  # float64, as stored and relabelled; scale and shift are the view's
    success: Array  # bool: at most one per episode
    terminated: Array  # bool
    last: Array  # bool: nothing follows this step in its episode's view
    intervention: Array  # u8

    @staticmethod
    def of(table: EpisodeTable) -> Steps:
        """Read the labels of ``table``. The verdict on the whole episode (annotations applied) outweighs its steps.

        A revoked success gives no reward and is a truncation. A success lies at the step that its annotation names;
        else at the recorded one, or at the last step, with reward 1. One that came with a late command, whose step is
        not sampled, lies at the last step before it.
        """
        first = table.first
        rows = table.rows
        episode = np.repeat(np.arange(len(table.ids)), np.diff(first))
        acting = table["action_valid"] & np.repeat(table.listed, np.diff(first))
        acting[first[1:] - 1] = False
        reward, success = table["rl/reward"].astype(np.float64), table["rl/success"].copy()
        terminated, last = table["rl/terminated"].copy(), table["rl/truncated"].copy()
        for e, judged, step in _judged(table):
            span = slice(first[e], first[e + 1])
            seen = np.flatnonzero(success[span])
            if not judged or step is not None:
                terminated[span] &= ~success[span]
                reward[span][success[span]] = 0.0
                success[span] = False
            if judged and not (success & acting)[span].any():
                latest = step if step is not None else seen[0] if len(seen) else span.stop
                _grant(span, latest, acting, reward, success)
        _end_at_first_success(episode, acting, success)
        terminated |= success
        return Steps(
            first, episode, acting, reward, success, terminated, last | terminated, table["flags/intervention"][:rows]
        )


def _judged(table: EpisodeTable) -> Iterator[tuple[int, bool, int | None]]:
    """Episodes with a verdict on their success, which outweighs what the steps say, and the step it names."""
    for e, summary in enumerate(table.summaries):
        if summary is not None and summary.success is not None:
            yield e, bool(summary.success), summary.success_step


def _grant(span: slice, latest: int, acting: Array, reward: Array, success: Array) -> None:
    """A success at the last step that acts up to step ``latest`` of the episode in the rows ``span``."""
    steps = np.flatnonzero(acting[span][: latest + 1])
    if len(steps):
        row = span.start + steps[-1]
        success[row], reward[row] = True, max(reward[row], 1.0)


def _end_at_first_success(episode: Array, acting: Array, success: Array) -> None:
    """Steps after the first success of an episode do not act; later successes are cleared."""
    rows = np.flatnonzero(success)
    _, firsts = np.unique(episode[rows], return_index=True)
    keep = rows[firsts]
    success[:] = False
    success[keep] = True
    end = np.full(int(episode[-1]) + 1 if len(episode) else 0, len(episode), dtype=np.int64)
    end[episode[keep]] = keep
    acting &= np.arange(len(episode)) <= end[episode]


@dataclass(frozen=True)
class TransitionIndex:
    """Every transition of a view, [W]: rows ``start`` up to but not including ``end``, whose observation follows."""

    start: Array
    end: Array
    decision: Array  # number in the table's decisions, or -1 where an action is not a decision

    @staticmethod
    def of(steps: Steps, view: ReplayView, decision_rows: Array | None) -> TransitionIndex:
        """Windows of ``view``; ``decision_rows`` [D] holds the table row of each decision for a decision view."""
        flags = view.cut in (Cut.INTERVENTION, Cut.HUMAN)
        run_start, run_end = _runs(steps, steps.intervention if flags else None)
        if decision_rows is None:
            start = np.flatnonzero(steps.acting & ((np.arange(len(run_start)) - run_start) % view.stride == 0))
            wanted = start + view.horizon * view.n_step
            decision = np.full(len(start), -1)
        else:
            start, wanted, decision = _decision_windows(steps, view.n_step, decision_rows)
        end = np.minimum(wanted, run_end[start])
        keep = _kept(steps, view, start, end) & (end > start)
        return TransitionIndex(start[keep], end[keep], decision[keep])


def _runs(steps: Steps, flag: Array | None) -> tuple[Array, Array]:
    """For each row the first row of its run and the first row after it. Runs end at ends of episodes, before steps
    that do not act and, if given, where ``flag`` changes."""
    rows = len(steps.acting)
    ends = np.ones(rows, dtype=bool)
    ends[:-1] = steps.last[:-1] | ~steps.acting[1:] | ~steps.acting[:-1] | (steps.episode[1:] != steps.episode[:-1])
    if flag is not None:
        ends[:-1] |= flag[1:] != flag[:-1]
    borders = np.flatnonzero(ends) + 1
    place = np.searchsorted(borders, np.arange(rows), side="right")
    return np.concatenate([[0], borders])[place], borders[place] if rows else borders


def _decision_windows(steps: Steps, n_step: int, rows: Array) -> tuple[Array, Array, Array]:
    """Start row, row of the decision ``n_step`` later (beyond the episode where it has none) and number of every
    decision that was executed: one taken in shadow of a human was not."""
    later = np.full(len(rows), len(steps.acting))
    later[:-n_step] = rows[n_step:]
    executed = steps.acting[rows] & (steps.intervention[rows] != HUMAN)
    decision = np.flatnonzero(executed)
    return rows[decision], later[decision], decision


def _kept(steps: Steps, view: ReplayView, start: Array, end: Array) -> Array:
    """Which windows a cut leaves: all, those whose chunk lies inside one human segment, or those no human touched.

    The return over n chunks may be shorter: it bootstraps where the human hands back.
    """
    if view.cut not in (Cut.HUMAN, Cut.DROP_HUMAN):
        return np.ones(len(start), dtype=bool)
    if view.cut is Cut.HUMAN:
        _, unflagged_end = _runs(steps, None)
        chunk_end = np.minimum(start + view.horizon, unflagged_end[start])
        return (steps.intervention[start] == HUMAN) & (end >= chunk_end)
    touched = np.concatenate([[0], np.cumsum(steps.intervention == HUMAN)])
    return touched[end] == touched[start]


def episode_returns(table: EpisodeTable) -> Array:
    """Undiscounted return of each episode [E], labels applied, up to its first success."""
    steps = Steps.of(table)
    return np.bincount(steps.episode, weights=steps.reward * steps.acting, minlength=len(table.ids))


def shaped_rewards(steps: Steps, view: ReplayView) -> Array:
    """r' = scale*r + shift, float64 [R], r as stored or, where the view is sparse, 1 at a success; with shift b < 0 a
    failure end adds gamma*b/(1 - gamma), what going on for ever would have cost. Raises ConfigError for gamma = 1
    there."""
    reward = view.reward_scale * (steps.success if view.sparse else steps.reward) + view.reward_shift
    discount = view.discount_per_control_step
    if view.reward_shift < 0:
        if discount >= 1:
            raise ConfigError("a negative reward shift needs a discount below 1", limit=f"got {discount}")
        reward[steps.terminated & ~steps.success] += discount * view.reward_shift / (1 - discount)
    return reward


def check_view(view: ReplayView) -> None:
    """Raise ConfigError for a view that cannot be sampled."""
    values: Mapping[str, Any] = {n: getattr(view, n) for n in ("horizon", "stride", "n_step", "history")}
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name} of a replay view is {value}", limit="at least 1")
    if not 0 <= view.discount_per_control_step <= 1:
        raise ConfigError(f"discount_per_control_step is {view.discount_per_control_step}", limit="0 to 1")
    if not view.observation:
        raise ConfigError("a replay view names no observation", remedy="List array paths such as obs/agent/position")
    if not view.action.startswith(DECISION_PREFIX) and any(name.startswith(DECISION_PREFIX) for name in view.extras):
        raise ConfigError("extras of decisions need a decision as the action", remedy="action='decision/noise'")
