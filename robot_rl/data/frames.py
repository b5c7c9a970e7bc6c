"""Camera frames for sampling, decoded on demand or from a cache."""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.data.tables import EpisodeSource, EpisodeTable
from robot_rl.types import Array


@dataclass(frozen=True)
class ImageOptions:
    """How frames reach a batch."""

    size: tuple[int, int] | None = None


class Images:
    def __init__(self, table: EpisodeTable, source: EpisodeSource, options: ImageOptions) -> None:
        self.table = table

    def refresh(self) -> None: ...

    def shape(self, camera: str) -> tuple[int, ...]:
        raise NotImplementedError

    def read(self, camera: str, frames: Array, out: Array) -> None:
        raise NotImplementedError
