"""A policy in shadow over stored episodes: what it would have recorded beside the actions that were taken.

Off-policy learners around a base need the base's actions also where somebody else acted, such as in demonstrations.
They are derived data: a sidecar of the dataset, keyed by what made them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.file_lock import replace_file
from robot_rl.data.tables import EpisodeSource
from robot_rl.interfaces import Policy
from robot_rl.runtime.window import ObservationWindow
from robot_rl.types import ActContext, Array, Frame, Observation

PREFIX = "policy/"


class Shadowed:
    """``source`` with arrays of ``policy`` beside those that are stored; an EpisodeSource.

    Args:
        names: of the extras that the policy declares, by their paths ``policy/<name>``.
        folder: where they are kept, one file per episode; one folder for each policy.
    """

    def __init__(self, source: EpisodeSource, policy: Policy, names: Sequence[str], folder: Path) -> None:
        self._source, self._policy, self._folder = source, policy, folder
        self._names = [name.removeprefix(PREFIX) for name in names]
        self.root = getattr(source, "root", None)
        self.infos, self.refresh = source.infos, source.refresh

    def read(self, id: str) -> Episode:
        """The episode, with what the policy would have recorded."""
        episode, path = self._source.read(id), self._folder / f"{id}.npz"
        if not path.exists():
            self._write(path, shadow(self._policy, episode))
        with np.load(path, allow_pickle=False) as file:
            extras = {f"{PREFIX}{name}": file[name] for name in self._names}
        return replace(episode, arrays={**episode.arrays, **extras})

    def _write(self, path: Path, extras: dict[str, Array]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **{name: extras[name] for name in self._names})  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, buffer.getvalue())


def shadow(policy: Policy, episode: Episode) -> dict[str, Array]:
    """Per-step extras [N, ...] of ``policy`` had it seen the rows of ``episode`` from a reset on, without exploring.

    It is asked anew after as many steps as it wants executed, as the loop would; the final row is one of them.
    """
    policy.reset(np.array([0]), np.array([int(episode.metadata.get("seed") or 0)]))
    window, found = ObservationWindow(policy.spec), dict[str, list[Array]]()
    start, until, chunk = 0, 0, None
    for step in range(episode.rows):
        window.push(_observation(episode, step, policy))
        if chunk is None or step >= until:
            done, none = np.array([step - start if chunk is not None else 0]), np.zeros(1, dtype=np.int64)
            context = ActContext(np.array([step]), done, none, np.zeros(1, dtype=bool))
            chunk = policy.act(window.arrays(), context)
            start, until = step - (0 if chunk.begun is None else int(chunk.begun[0])), step + chunk.execute
        for name, value in chunk.record.items():
            found.setdefault(name, []).append(value[0, step - start])
    return {name: np.stack(values) for name, values in found.items()}


def _observation(episode: Episode, step: int, policy: Policy) -> Observation:
    """What was seen at row ``step``, as far as the policy reads it."""
    names = [name for name in policy.spec.observation if not name.startswith("images/")]
    cameras = [name.removeprefix("images/") for name in policy.spec.observation if name.startswith("images/")]
    state = {name: episode.arrays[f"obs/{name}"][step] for name in names}
    frames = {name: _frame(episode.cameras[name], step) for name in cameras}
    return Observation(step, int(episode.arrays["time/t_ns"][step]), state, frames)


def _frame(track: CameraTrack, step: int) -> Frame:
    """The newest frame at row ``step``; rows before the first one show it, as sampling has it."""
    at = max(int(track.frame_of_step[: step + 1].max()), 0)
    data: Any = track.data[track.offset[at] : track.offset[at + 1]]
    return Frame(data.tobytes(), int(track.t_ns[at]), at, track.height, track.width, track.channels, track.codec)
