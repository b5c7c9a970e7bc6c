"""Pictures of a run: the loss, and sampled chunks beside what the demonstrator did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.learning.training_run import read_rows
from robot_rl.types import ActContext, ActionKind, ActionPart, ActionSpec, Array

ACTION = "action/commanded"
SAMPLES = 8
MOST_COMPONENTS = 7
_COMPONENTS = {
    ActionKind.TCP_POSE: ("x", "y", "z", "qx", "qy", "qz", "qw"),
    ActionKind.TCP_POSITION: ("x", "y", "z"),
    ActionKind.TCP_POSITION_DELTA: ("dx", "dy", "dz"),
    ActionKind.TCP_DELTA: ("dx", "dy", "dz", "rx", "ry", "rz"),
}


def plot_losses(folder: Path) -> Path:
    """loss.png: training loss, and evaluation scores if there are any, over gradient steps."""
    rows, scores = read_rows(folder / "metrics.jsonl"), read_rows(folder / "evaluations.jsonl")
    figure, axes = _subplots(1, 2 if scores else 1, (6.0 * (2 if scores else 1), 4.0))
    axes[0].plot([row["step"] for row in rows], [row["loss"] for row in rows], linewidth=0.8)
    axes[0].set(xlabel="gradient step", ylabel="denoising error", yscale="log", title="training loss")
    if scores:
        for name in sorted({key for row in scores for key in row} - {"step", "wall_s"}):
            told = [row for row in scores if name in row]
            axes[1].plot([row["step"] for row in told], [row[name] for row in told], marker=".", label=name)
        axes[1].set(
            xlabel="gradient step", ylabel="score, success rate", ylim=(0, 1), title="evaluation, seeds to choose by"
        )
        axes[1].legend()
    return _save(figure, folder / "loss.png")


def plot_learning_curve(folder: Path) -> Path:
    """curve.png: success of the mean action over control steps, robot minutes above; entropy and Q beside it."""
    rows, scores = read_rows(folder / "metrics.jsonl"), read_rows(folder / "evaluations.jsonl")
    figure, axes = _subplots(1, 3, (15.0, 4.0))
    steps = [row["step"] for row in scores]
    axes[0].plot(steps, [row["success"] for row in scores], marker=".")
    axes[0].set(xlabel="control step", ylabel="success", title="evaluation, seeds to choose by")
    axes[0].set(xlim=(0, max(steps, default=1)), ylim=(-0.02, 1.02))
    if scores and scores[-1]["step"]:
        scale = scores[-1]["robot_minutes"] / scores[-1]["step"]
        above = axes[0].secondary_xaxis("top", functions=(lambda x: x * scale, lambda x: x / scale))
        above.set_xlabel("robot minutes")
    for axis, names in ((axes[1], ("q", "target", "return")), (axes[2], ("entropy",))):
        for name in names:
            told = [row for row in rows if name in row]
            axis.plot([row["step"] for row in told], [row[name] for row in told], label=name, linewidth=0.8)
        axis.set(xlabel="control step")
        axis.legend()
    return _save(figure, folder / "curve.png")


def plot_samples(policy: Any, sampler: Any, path: Path, windows: int = 6) -> Path:
    """Chunks sampled for ``windows`` windows (lines) beside the demonstrated actions (dots).

    Planar actions are drawn in their plane, others component by component over the chunk; axes name part and unit.
    """
    labels, spec = action_labels(policy.spec.action), policy.spec
    chosen = np.linspace(0, len(sampler) - 1, windows + 2).astype(np.int64)[1:-1]
    batch = sampler.gather(chosen)
    mask = batch.get("mask", np.ones(batch[ACTION].shape[:2], dtype=bool))
    planar = batch[ACTION].shape[-1] == 2
    columns = 3 if planar else min(len(labels), MOST_COMPONENTS)
    rows = -(-windows // 3) if planar else windows
    figure, axes = _subplots(rows, columns, (3.4 * columns, 2.8 * rows))
    for place in range(windows):
        window = {key: _repeated(batch, key, place) for key in spec.observation}
        policy.reset(np.arange(SAMPLES), np.arange(SAMPLES))
        chunks = policy.act(window, ActContext.start(SAMPLES)).actions
        shown = batch[ACTION][place][mask[place]]
        if planar:
            axis = axes[place]
            axis.plot(*chunks.transpose(2, 1, 0), color="tab:blue", linewidth=0.8)
            axis.plot(*shown.T, "k.", markersize=4)
            axis.set(xlabel=labels[0], ylabel=labels[1], title=f"window {chosen[place]}")
            continue
        for component in range(columns):
            axis = axes[place * columns + component]
            axis.plot(chunks[:, :, component].T, color="tab:blue", linewidth=0.8)
            axis.plot(shown[:, component], "k.", markersize=4)
            axis.set(xlabel="step of the chunk", ylabel=labels[component], title=f"window {chosen[place]}")
    figure.suptitle(f"{SAMPLES} sampled chunks (lines) beside the demonstration (dots)")
    return _save(figure, path)


def action_labels(action: ActionSpec) -> list[str]:
    """One axis label per component of an action, e.g. 'arm0/tcp x [m]'."""
    return [
        f"{part.name} {component}".rstrip() + (f" [{unit}]" if unit else "")
        for part in action.parts
        for component, unit in zip(_components(part), _units(part), strict=True)
    ]


def _components(part: ActionPart) -> tuple[str, ...]:
    if part.size == 1:
        return ("",)
    known = _COMPONENTS.get(part.kind, ("x", "y", "z") if part.kind is ActionKind.POINT else ())
    return tuple(known[i] if i < len(known) else str(i + 1) for i in range(part.size))


def _units(part: ActionPart) -> tuple[str, ...]:
    """'m, rad' are those of translation and rotation."""
    first, _, second = part.unit.partition(", ")
    return tuple(first if i < 3 or not second else second for i in range(part.size))


def _repeated(batch: dict[str, Array], key: str, place: int) -> Array:
    value = batch[key if key.startswith("images/") else f"obs/{key}"][place]
    return np.repeat(value[None], SAMPLES, axis=0)


def _subplots(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    return path
