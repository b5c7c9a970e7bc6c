"""Pictures of a calibration's report: errors of views, coverage of the image, correlations, what cameras saw."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure as Plot

from calibration.camera_model import Intrinsics
from calibration.outcome import Figure
from calibration.recording import Recording
from robot_rl.types import Array

_USED, _LEFT_OUT = "#2f6fab", "#c9cfd6"
_PICTURES = 12


def bars(
    title: str, unit: str, series: Mapping[str, Array], left_out: Sequence[int] = (), limit: float | None = None
) -> Figure:
    """Errors of views, one panel for each of ``series`` [n]; ``unit`` names the axes."""
    plot = Plot(figsize=(9.0, 2.4 * len(series)), layout="constrained")
    for number, (name, values) in enumerate(series.items(), 1):
        axes = plot.add_subplot(len(series), 1, number)
        colours = [_LEFT_OUT if i in left_out else _USED for i in range(len(values))]
        axes.bar(np.arange(len(values)), values, color=colours)
        axes.set(ylabel=f"{name} {unit}".strip(), xlabel="view")
        if limit is not None:
            axes.axhline(limit, color="#b35900", linewidth=1.0)
    return Figure(title, _png(plot))


def intervals(title: str, unit: str, names: Sequence[str], values: Array, deviations: Array) -> Figure:
    """Values [n] with two standard deviations [n] to either side."""
    plot = Plot(figsize=(9.0, 3.0), layout="constrained")
    axes = plot.add_subplot()
    axes.errorbar(np.arange(len(names)), values, 2.0 * deviations, fmt="o", color=_USED, capsize=4)
    axes.axhline(0.0, color=_LEFT_OUT, linewidth=1.0)
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_ylabel(unit)
    return Figure(title, _png(plot))


def coverage(title: str, cells: Array) -> Figure:
    """Corners in each cell of the image [rows, columns]."""
    plot = Plot(figsize=(6.0, 4.0), layout="constrained")
    axes = plot.add_subplot()
    shown = axes.imshow(cells, cmap="YlGnBu")
    axes.set(xticks=[], yticks=[])
    plot.colorbar(shown, label="corners")
    return Figure(title, _png(plot))


def curve(title: str, x_name: str, y_name: str, x: Array, y: Array, mark: float | None = None) -> Figure:
    """A line; ``mark`` is shown as a vertical one."""
    plot = Plot(figsize=(9.0, 3.0), layout="constrained")
    axes = plot.add_subplot()
    axes.plot(x, y, color=_USED)
    if mark is not None:
        axes.axvline(mark, color="#b35900", linewidth=1.0)
    axes.set(xlabel=x_name, ylabel=y_name)
    return Figure(title, _png(plot))


def residual_field(title: str, lens: Intrinsics, pixels: Array, errors: Array) -> Figure:
    """Where in the image corners [n, 2] px are missed, and by how much [n, 2] px."""
    plot = Plot(figsize=(7.0, 5.2), layout="constrained")
    axes = plot.add_subplot()
    lengths = np.linalg.norm(errors, axis=1)
    shown = axes.quiver(*pixels.T, *errors.T, lengths, cmap="viridis", angles="xy")
    axes.set(xlim=(0, lens.image_size_px[0]), ylim=(lens.image_size_px[1], 0), aspect="equal")
    plot.colorbar(shown, label="error px")
    return Figure(title, _png(plot))


def pictures(title: str, recording: Recording) -> Figure | None:
    """What the camera saw, with the corners that were found; None where no image was kept."""
    views = [view for view in recording.views if view.image in recording.images]
    if not views:
        return None
    chosen = [views[i] for i in np.unique(np.linspace(0, len(views) - 1, _PICTURES).astype(int))]
    tiles = []
    for view in chosen:
        image: Any = cv2.imdecode(np.frombuffer(recording.images[view.image], np.uint8), cv2.IMREAD_COLOR)
        for x, y in view.corners_px:
            cv2.circle(image, (round(x), round(y)), max(image.shape[1] // 160, 2), (40, 160, 40), -1)
        tiles.append(cv2.resize(image, (240, round(240 * image.shape[0] / image.shape[1]))))
    columns = 4
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return Figure(title, cv2.imencode(".png", np.vstack(rows))[1].tobytes())


def _png(plot: Plot) -> bytes:
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
