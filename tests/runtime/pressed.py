"""A device whose person is written down: what is pressed at which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from robot_rl.types import Array, EpisodeEvent, Observation


@dataclass
class Pressed:
    """``actions`` by step, ``keys`` pressed while a step runs; ``lost`` are the steps in which the device is silent."""

    actions: Mapping[int, Array] = field(default_factory=dict)
    keys: Mapping[int, EpisodeEvent] = field(default_factory=dict)
    lost: Sequence[int] = ()
    step: int = -1
    _told: set[int] = field(default_factory=set)

    @property
    def age_s(self) -> float:
        return 1.0 if self.step in self.lost else 0.0

    def reset(self, seed: int) -> None:
        self.step = -1
        self._told.clear()

    def close(self) -> None: ...

    def action(self, observation: Observation) -> Array | None:
        self.step = observation.step
        return self.actions.get(self.step)

    def events(self) -> Sequence[EpisodeEvent]:
        if self.step in self._told or self.step not in self.keys:
            return ()
        self._told.add(self.step)
        return (self.keys[self.step],)
