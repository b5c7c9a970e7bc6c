"""What moves the parts of a robot that the policy does not: a rule from the measured state to targets, inside the env.

With the gripper left to a reflex, a policy (and reinforcement learning on it) has the arm alone to command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import Array, Arrays, Observation


class Reflex(Protocol):
    """Commands some parts at every control step."""

    @property
    def requires(self) -> frozenset[str]:
        """Observation names that it reads."""
        ...

    def reset(self) -> None:
        """An episode starts."""
        ...

    def targets(self, observation: Observation) -> Mapping[str, Array]:
        """{part: [k]} absolute targets of the step that ``observation`` opens."""
        ...


class GraspReflex:
    """Opens the gripper until its TCP comes within ``close_within_m`` of the origin of ``object`` (a pose or a
    position), then closes it and keeps it closed to the end of the episode, held or missed."""

    def __init__(
        self,
        object: str,
        close_within_m: float = 0.012,
        tcp: str = "arm0/tcp_pose",
        part: str = "arm0/gripper",
        closed_opening: float = 0.0,
    ) -> None:
        if not 0.0 < close_within_m < np.inf or not 0.0 <= closed_opening < 1.0:
            raise ConfigError(
                f"close_within_m={close_within_m}, closed_opening={closed_opening}", limit="above 0, 0 up to 1"
            )
        self._object, self._tcp, self._part = object, tcp, part
        self._within, self._closed_opening = close_within_m, closed_opening
        self._closed = False

    @property
    def requires(self) -> frozenset[str]:
        return frozenset((self._object, self._tcp))

    def reset(self) -> None:
        """Open again."""
        self._closed = False

    def targets(self, observation: Observation) -> dict[str, Array]:
        """{part: [1]} opening, 0 closed to 1 open."""
        self._closed = self._closed or self._distance(observation.state) <= self._within
        return {self._part: np.array([self._closed_opening if self._closed else 1.0])}

    def _distance(self, state: Arrays) -> float:
        return float(np.linalg.norm(state[self._tcp][:3].astype(np.float64) - state[self._object][:3]))
