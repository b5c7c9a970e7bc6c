"""Who has an episode, base or reinforcement learning, and the gate within one (learning.md, section 6).

A critic's gate alone opens wrongly, so whole episodes are given to either arm by chance, and which of them is deployed
is decided by what they earned (robot_rl.learning.hand_over).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import CheckpointError
from robot_rl.learning.candidates import best_candidate
from robot_rl.learning.hand_over import BASE, CLOSED, HANDED, OPEN, SHARE
from robot_rl.types import Array, ArraySpec

__all__ = ["BASE", "CLOSED", "HANDED", "OPEN", "RECORD", "SHARE", "Arms", "gate"]

RECORD: Mapping[str, ArraySpec] = {"arm": ArraySpec((), "uint8")}  # per control step, policy/arm
_STREAM = 6  # chance in choosing arms is independent of all other noise


class Arms:
    """Gives episodes to either arm: exploring ones by chance, others to reinforcement learning once it is ``handed``
    over. Until told otherwise it has all of them.

    Args:
        seed: of the chance, which depends on it and the episode's seed alone.
        forced: reinforcement learning has every episode, whatever was earned.
    """

    def __init__(self, seed: int, forced: bool = False) -> None:
        self.seed, self.forced = seed, forced
        self.share, self.handed = 1.0, True
        self._seeds: dict[int, int] = {}
        self._chosen: dict[int, bool] = {}

    def reset(self, rows: Array, seeds: Array) -> None:
        """Batch rows ``rows`` [R] begin the episodes ``seeds`` [R]."""
        for row, seed in zip(np.asarray(rows).tolist(), np.asarray(seeds).tolist(), strict=True):
            self._seeds[int(row)] = int(seed)
            self._chosen.pop(int(row), None)

    def reinforced(self, batch: int, explore: bool) -> Array:
        """bool [B]: rows whose episode is reinforcement learning's; a row keeps its arm until it is reset."""
        for row in range(batch):
            if row not in self._chosen:
                self._chosen[row] = self._choice(self._seeds.get(row, 0), explore)
        return np.array([self._chosen[row] for row in range(batch)])

    def _choice(self, episode: int, explore: bool) -> bool:
        if self.forced or not explore:
            return self.forced or self.handed
        entropy = np.random.SeedSequence([self.seed % 2**64, episode % 2**64, _STREAM])
        return bool(np.random.Generator(np.random.Philox(entropy)).random() < self.share)

    def state_dict(self) -> dict[str, Tensor]:
        """What a learner publishes of it."""
        return {SHARE: torch.tensor(self.share), HANDED: torch.tensor(float(self.handed))}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``, whatever else the state holds. Raises CheckpointError where it is missing."""
        if SHARE not in state or HANDED not in state:
            raise CheckpointError(f"the policy's state holds no '{SHARE}'", remedy="Use a checkpoint of this policy")
        self.share, self.handed = float(state[SHARE]), bool(state[HANDED])


def gate(values: Tensor, base_values: Tensor, deviations: float) -> Tensor:
    """bool [...]: whether what members' values [E, ...] gain over those that they give the base is sure enough."""
    return best_candidate(torch.stack((base_values, values), dim=-1), deviations) == 1
