"""Figures of merit of recorded data: what a person looks at before training on it.

Per episode: length, return, best reward, dropped frames, late steps, share of human steps, smoothness. Over the set:
ranges, TQ and SACo (Schweighofer et al., A Dataset Perspective on Offline Reinforcement Learning, 2022) and how far
similar states got similar actions (after Belkhale et al., Data Quality in Imitation Learning, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.errors import StoreError
from robot_rl.types import ActionKind, Array, EnvSpec, Phase

COVERAGE_COMPONENTS = 4
COVERAGE_BINS = 10
NEIGHBOURS = 10
NEIGHBOUR_QUERIES = 2000
NEIGHBOUR_POOL = 50_000


@dataclass(frozen=True)
class EpisodeQuality:
    """One episode in figures; None where something does not apply."""

    id: str
    steps: int
    duration_s: float
    total_reward: float
    best_reward: float
    success: bool | None
    dropped_frames: Mapping[str, int]
    overruns: int
    invalid_actions: int
    human_share: float
    log_dimensionless_jerk: Mapping[str, float | None]  # per motion; nearer to 0 is smoother
    rms_jerk: Mapping[str, float]  # per motion, unit / s^3


@dataclass(frozen=True)
class Range:
    """Extent of one array, per component."""

    minimum: Sequence[float]
    maximum: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]
    unit: str = ""
    outside_limits: float | None = None  # share of components of steps outside the spec's limits (actions)


@dataclass(frozen=True)
class DatasetQuality:
    """The whole set in figures."""

    name: str
    episodes: Sequence[EpisodeQuality]
    ranges: Mapping[str, Range]
    tq: float | None
    tq_best_reward: float | None
    tq_reference: tuple[float, float]
    saco: float
    action_consistency: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


# --- one episode -----------------------------------------------------------------------------------------------------


def episode_quality(episode: Episode, spec: EnvSpec, success: bool | None = None) -> EpisodeQuality:
    """Figures of one episode; ``success`` is the label in force (annotations applied)."""
    steps, arrays = episode.steps, episode.arrays
    reward = arrays["rl/reward"][:steps]
    phase = arrays.get("flags/phase", arrays.get("flags/intervention", np.zeros(steps, dtype=np.uint8)))
    stamps = arrays["time/t_ns"]
    paths = motions(episode, spec)
    period_s = float(np.diff(stamps).mean()) * 1e-9 if steps else 1.0 / spec.step_rate_hz
    return EpisodeQuality(
        id=episode.id,
        steps=steps,
        duration_s=float(stamps[-1] - stamps[0]) * 1e-9,
        total_reward=float(reward.sum(dtype=np.float64)),
        best_reward=float(reward.max()) if steps else 0.0,
        success=success if success is not None else episode.metadata.get("success"),
        dropped_frames={name: int((track.frame_of_step < 0).sum()) for name, track in episode.cameras.items()},
        overruns=int(arrays["flags/overrun"].sum()) if "flags/overrun" in arrays else 0,
        invalid_actions=int((~arrays["action_valid"][:steps]).sum()),
        human_share=float((phase[:steps] == Phase.HUMAN).mean()) if steps else 0.0,
        log_dimensionless_jerk={name: log_dimensionless_jerk(path, period_s) for name, path in paths.items()},
        rms_jerk={name: rms_jerk(path, period_s) for name, path in paths.items()},
    )


def motions(episode: Episode, spec: EnvSpec) -> dict[str, Array]:
    """Paths [N, D] whose smoothness is worth looking at: positions of what moves, joints, and the commanded action.

    Only translations of poses: a quaternion has no meaningful third difference. Delta actions are summed up first.
    """
    paths = {
        name: episode.arrays[f"obs/{name}"][:, :3]
        for name, value in spec.observation.items()
        if not value.privileged and name.rpartition("/")[2] in ("position", "tcp_pose", "joint_position")
    }
    if "arm0/joint_position" in paths:
        paths["arm0/joint_position"] = episode.arrays["obs/arm0/joint_position"]
    steps = episode.steps
    for part in spec.action.parts:
        if part.kind == ActionKind.GRIPPER:
            continue  # opens and closes on purpose
        values = episode.arrays["action/commanded"][:steps, spec.action.slices[part.name]][:, :3]
        paths[f"action {part.name}"] = np.cumsum(values, axis=0) if part.kind.value.endswith("delta") else values
    return paths


def log_dimensionless_jerk(path: Array, period_s: float) -> float | None:
    """-ln(T^3 / v_peak^2 * integral |d^3x/dt^3|^2 dt) of ``path`` [N, D]; None for a path that stands or is short.

    Smoothness free of units and scale (Hogan and Sternad, 2009; Balasubramanian et al., 2012). A minimum-jerk reach
    has -ln(720 / 1.875^2) = -5.32 in continuous time.
    """
    if len(path) < 5:
        return None
    velocity = np.diff(path.astype(np.float64), axis=0) / period_s
    peak = float(np.linalg.norm(velocity, axis=1).max())
    if peak <= 0.0:
        return None
    jerk = np.diff(velocity, n=2, axis=0) / period_s**2
    duration = (len(path) - 1) * period_s
    integral = float((jerk**2).sum()) * period_s
    return None if integral <= 0.0 else -float(np.log(duration**3 / peak**2 * integral))


def rms_jerk(path: Array, period_s: float) -> float:
    """Root of the mean squared third difference of ``path`` [N, D], unit / s^3."""
    if len(path) < 4:
        return 0.0
    jerk = np.diff(path.astype(np.float64), n=3, axis=0) / period_s**3
    return float(np.sqrt((jerk**2).sum(axis=1).mean()))


# --- the set ----------------------------------------------------------------------------------------------------------


def dataset_quality(
    name: str,
    spec: EnvSpec,
    episodes: Iterable[tuple[Episode, bool | None]],
    *,
    return_random: float = 0.0,
    return_expert: float | None = None,
    advance: Callable[[], None] = lambda: None,
) -> DatasetQuality:
    """Figures of a set of (episode, success label). ``return_random`` and ``return_expert`` anchor TQ: 0 and, when not
    given, the best return in the set. Raises StoreError for a set without a step.
    """
    qualities, states, actions, owner = [], [], [], []
    columns: dict[str, list[Array]] = {}
    for episode, success in episodes:
        qualities.append(episode_quality(episode, spec, success))
        rows = episode.steps
        observation = {f"obs/{key}": episode.arrays[f"obs/{key}"] for key in spec.observation}
        for key, value in observation.items():
            columns.setdefault(key, []).append(_flat(value))
        action = np.asarray(episode.arrays["action/commanded"][:rows])
        columns.setdefault("action/commanded", []).append(action)
        actions.append(action)
        states.append(np.concatenate([_flat(value)[:rows] for value in observation.values()], axis=1))
        owner.append(np.full(rows, len(owner)))
        advance()
    if not qualities:
        raise StoreError(f"dataset '{name}' holds no episodes", remedy="Record or import some first")
    state, action = np.concatenate(states), np.concatenate(actions)
    if not len(action):
        raise StoreError(f"no episode of dataset '{name}' has a control step", remedy="Record or import longer ones")
    returns = np.array([quality.total_reward for quality in qualities])
    best = np.array([quality.best_reward for quality in qualities])
    expert = float(returns.max()) if return_expert is None else return_expert
    return DatasetQuality(
        name=name,
        episodes=qualities,
        ranges={key: _range(key, np.concatenate(values), spec) for key, values in columns.items()},
        tq=trajectory_quality(returns, return_random, expert),
        tq_best_reward=trajectory_quality(best, 0.0, max(float(best.max()), 1.0)),
        tq_reference=(return_random, expert),
        saco=state_action_coverage(state, action),
        action_consistency=action_consistency(state, action, np.concatenate(owner)),
    )


def _flat(values: Array) -> Array:
    """[N, ...] as [N, D]."""
    return np.asarray(values).reshape(len(values), math.prod(values.shape[1:]))


def _range(key: str, values: Array, spec: EnvSpec) -> Range:
    outside = None
    if key == "action/commanded":
        unit = ", ".join(dict.fromkeys(part.unit for part in spec.action.parts if part.unit))
        if len(values):
            outside = float(((values < spec.action.low) | (values > spec.action.high)).mean())
    else:
        unit = spec.observation[key.removeprefix("obs/")].unit
    values = values.astype(np.float64)
    figures = [values.min(axis=0), values.max(axis=0), values.mean(axis=0), values.std(axis=0)]
    low, high, mean, std = (figure.tolist() for figure in figures)
    return Range(low, high, mean, std, unit, outside)


def trajectory_quality(returns: Array, return_random: float, return_expert: float) -> float | None:
    """TQ = (mean return - g_random) / (g_expert - g_random): 0 as good as random, 1 as good as the reference.

    Undiscounted returns [E], as in the paper's equation for TQ. None where the two references coincide.
    """
    span = return_expert - return_random
    return None if span == 0.0 else float((np.mean(returns) - return_random) / span)


def state_action_coverage(
    states: Array,
    actions: Array,
    *,
    components: int = COVERAGE_COMPONENTS,
    bins: int = COVERAGE_BINS,
    reference_unique: float | None = None,
) -> float:
    """SACo = unique state-action pairs / unique pairs of a reference set of equal size.

    The paper counts discrete pairs against the replay data of an online run. Here states [N, S] and actions [N, A] are
    continuous: they are standardised, projected onto their leading ``components`` and put into ``bins`` equal cells
    along each, over the range seen. Unless ``reference_unique`` is known, the reference is what N uniform draws occupy
    in expectation: C (1 - (1 - 1/C)^N) of the C cells. Comparable between sets of one task only.
    """
    cells = coverage_cells(np.concatenate((states, actions), axis=1), components, bins)
    unique = len(np.unique(cells, axis=0))
    total = float(bins) ** cells.shape[1]
    reference = reference_unique or total * -np.expm1(len(cells) * np.log1p(-1.0 / total))
    return unique / reference


def coverage_cells(values: Array, components: int, bins: int) -> Array:
    """Cell numbers [N, min(components, rank)] of ``values`` [N, D] along their principal components."""
    scores = principal_components(values, components)
    low, span = scores.min(axis=0), np.ptp(scores, axis=0)
    span[span == 0.0] = 1.0
    return np.minimum((scores - low) / span * bins, bins - 1).astype(np.int64)


def principal_components(values: Array, components: int) -> Array:
    """Scores [N, <= components] of standardised ``values`` [N, D]; constant columns do not count."""
    values = values.astype(np.float64)
    std = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(std > 1e-9, std, np.inf)
    variance, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    keep = [i for i in np.argsort(variance)[::-1][:components] if variance[i] > 1e-9]
    return scaled @ axes[:, keep] if keep else np.zeros((len(values), 1))


def action_consistency(states: Array, actions: Array, owner: Array) -> float | None:
    """1 - E_s[Var(a | s)] / Var(a): 1 when similar states got equal actions, 0 when the state told nothing.

    Var(a | s) is taken over the ``NEIGHBOURS`` nearest standardised states of other episodes (``owner`` [N]), for up to
    ``NEIGHBOUR_QUERIES`` evenly spaced rows out of ``NEIGHBOUR_POOL``: an estimate without a model of what Belkhale et
    al. call action divergence. Multi-modal but clean data score low too. None with one episode or constant actions.
    """
    total = actions.astype(np.float64).var(axis=0)
    moving = total > 1e-12
    if len(np.unique(owner)) < 2 or not moving.any():
        return None
    pool = _evenly(len(states), NEIGHBOUR_POOL)
    scaled, owner, actions = principal_components(states, states.shape[1])[pool], owner[pool], actions[pool]
    spread = [
        actions[_foreign_neighbours(scaled, owner, row)].astype(np.float64).var(axis=0)
        for row in _evenly(len(pool), NEIGHBOUR_QUERIES)
    ]
    return float(1.0 - (np.mean(spread, axis=0)[moving] / total[moving]).mean())


def _foreign_neighbours(scaled: Array, owner: Array, row: int) -> Array:
    """The rows of other episodes nearest to ``row``."""
    distance = ((scaled - scaled[row]) ** 2).sum(axis=1)
    distance[owner == owner[row]] = np.inf
    count = min(NEIGHBOURS, int((owner != owner[row]).sum()))
    return np.argpartition(distance, count - 1)[:count]


def _evenly(length: int, maximum: int) -> Array:
    """At most ``maximum`` row numbers, evenly spaced."""
    return np.unique(np.linspace(0, length - 1, min(length, maximum)).astype(np.int64))
