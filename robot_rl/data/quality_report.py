"""Quality figures for people: tables for the terminal, a plot and JSON for the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.data.quality import DatasetQuality, Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

_MOST_COMPONENTS = 8


def summary_table(quality: DatasetQuality) -> Table:
    """Lengths, returns, dropped frames, smoothness and the figures of the set."""
    from rich.table import Table

    table = Table(title=f"dataset {quality.name}", show_header=False, title_justify="left")
    for label, value in summary(quality).items():
        table.add_row(label, value)
    return table


def summary(quality: DatasetQuality) -> Mapping[str, str]:
    """The rows of the summary table."""
    episodes = quality.episodes
    steps = np.array([episode.steps for episode in episodes])
    judged = [episode.success for episode in episodes if episode.success is not None]
    rows = {
        "episodes": str(len(episodes)),
        "steps": f"{steps.sum()}",
        "duration": f"{sum(episode.duration_s for episode in episodes) / 60:.1f} min",
        "length, steps": _spread(steps, ".0f"),
        "return": _spread([episode.total_reward for episode in episodes], ".2f"),
        "best reward": _spread([episode.best_reward for episode in episodes], ".3f"),
        "success": f"{sum(judged)} of {len(judged)} judged" if judged else "nobody judged",
        "human steps": f"{np.average([e.human_share for e in episodes], weights=np.maximum(steps, 1)):.1%}",
        "late steps": str(sum(e.overruns for e in episodes)),
        "invalid actions": str(sum(e.invalid_actions for e in episodes)),
    }
    for camera in sorted({name for episode in episodes for name in episode.dropped_frames}):
        rows[f"dropped frames, {camera}"] = str(sum(e.dropped_frames.get(camera, 0) for e in episodes))
    for motion in episodes[0].log_dimensionless_jerk:
        smoothness = [e.log_dimensionless_jerk[motion] for e in episodes]
        rows[f"log dimensionless jerk, {motion}"] = _spread([v for v in smoothness if v is not None], ".1f")
    low, high = quality.tq_reference
    rows["TQ (return)"] = f"{_figure(quality.tq)}  (0 at {low:.4g}, 1 at {high:.4g})"
    rows["TQ (best reward)"] = _figure(quality.tq_best_reward)
    rows["SACo"] = _figure(quality.saco)
    rows["action consistency"] = _figure(quality.action_consistency)
    return rows


def range_table(ranges: Mapping[str, Range]) -> Table:
    """Smallest, largest, mean and standard deviation per component."""
    from rich.table import Table

    table = Table(title="ranges", title_justify="left")
    for column in ("array", "unit", "", "min", "max", "mean", "std"):
        table.add_column(column, justify="left" if column in ("array", "unit") else "right", no_wrap=True)
    for name, values in ranges.items():
        for i in range(min(len(values.minimum), _MOST_COMPONENTS)):
            figures = (values.minimum[i], values.maximum[i], values.mean[i], values.std[i])
            first = i == 0
            table.add_row(name if first else "", values.unit if first else "", str(i), *(f"{v:.4g}" for v in figures))
        if len(values.minimum) > _MOST_COMPONENTS:
            table.add_row("", "", f"+{len(values.minimum) - _MOST_COMPONENTS}", "", "", "", "")
        if values.outside_limits:
            table.add_row("", "", "", f"{values.outside_limits:.2%} outside the limits", "", "", "")
    return table


def episode_table(quality: DatasetQuality, most: int) -> Table:
    """The ``most`` episodes that stand out: lowest best reward, then roughest."""
    from rich.table import Table

    motion = next(iter(quality.episodes[0].log_dimensionless_jerk), "")
    table = Table(title=f"the {min(most, len(quality.episodes))} episodes to look at first", title_justify="left")
    for column in ("episode", "steps", "return", "best reward", "success", f"log jerk {motion}"):
        table.add_column(column, justify="left" if column == "episode" else "right", no_wrap=column == "episode")
    ranked = sorted(quality.episodes, key=lambda e: (e.best_reward, e.log_dimensionless_jerk.get(motion) or 0.0))
    for episode in ranked[:most]:
        jerk = episode.log_dimensionless_jerk.get(motion)
        figures = (f"{episode.total_reward:.2f}", f"{episode.best_reward:.3f}", str(episode.success), _figure(jerk))
        table.add_row(episode.id, str(episode.steps), *figures)
    return table


def write_report(quality: DatasetQuality, folder: Path) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.png`` into ``folder``; returns the two paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data, picture = folder / "report.json", folder / "report.png"
    data.write_text(json.dumps(quality.to_json(), indent=1))
    plot(quality, picture)
    return data, picture


def plot(quality: DatasetQuality, path: Path) -> None:
    """Lengths, best rewards, smoothness and the spread of the actions, as one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, 2)
    episodes = quality.episodes
    _histogram(axes[0, 0], {"": [e.steps for e in episodes]}, "length [steps]")
    _histogram(axes[0, 1], {"": [e.best_reward for e in episodes]}, "best reward of an episode")
    smoothness = {
        name: [value for e in episodes if (value := e.log_dimensionless_jerk[name]) is not None]
        for name in episodes[0].log_dimensionless_jerk
    }
    _histogram(axes[1, 0], smoothness, "log dimensionless jerk (right is smoother)")
    _action_spread(axes[1, 1], quality.ranges["action/commanded"])
    figure.suptitle(
        f"{quality.name}: {len(episodes)} episodes, TQ {_figure(quality.tq)}, SACo {_figure(quality.saco)}, "
        f"action consistency {_figure(quality.action_consistency)}"
    )
    figure.savefig(path, dpi=110)


def _histogram(axes: Axes, groups: Mapping[str, Sequence[float]], label: str) -> None:
    for name, values in groups.items():
        if len(values):
            axes.hist(values, bins=30, alpha=0.6, label=name or None)
    axes.set_xlabel(label)
    axes.set_ylabel("episodes")
    if any(groups):
        axes.legend(fontsize=8)


def _action_spread(axes: Axes, values: Range) -> None:
    place = np.arange(len(values.mean))
    low, high = np.asarray(values.minimum), np.asarray(values.maximum)
    axes.bar(place, high - low, bottom=low, width=0.6, alpha=0.4, label="range")
    axes.errorbar(place, values.mean, yerr=values.std, fmt="o", capsize=4, label="mean and standard deviation")
    axes.set_xticks(place)
    axes.set_xlabel("action component")
    axes.set_ylabel(values.unit or "action")
    axes.legend(fontsize=8)


def _spread(values: Sequence[float] | Any, form: str) -> str:
    if len(values) == 0:
        return "-"
    low, middle, high = (format(float(v), form) for v in (np.min(values), np.median(values), np.max(values)))
    return f"{low} to {high}, median {middle}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
