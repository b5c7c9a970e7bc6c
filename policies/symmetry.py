"""A mirror symmetry of a task, used exactly: everything is seen and planned in one half of the workspace.

Where the mirrored task is the same task, a policy need not learn it twice. Reflecting the observation into the
canonical half, planning there and reflecting the plan back makes the policy symmetric by construction; on Push-T this
learned faster than mirrored copies of the data did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robot_rl.errors import ConfigError

ACTION = "action"


class CanonicalReflection:
    """Reflects by y = M x + b, per observation key and for ``action``, where the current step lies on the other side.

    Args:
        maps: {key: {matrix: [D][D], offset: [D]}} in physical units; each its own inverse; other keys stay.
        side_key, side_normal, side_threshold: reflect where normal . value > threshold at the current step.
    """

    def __init__(
        self,
        maps: Mapping[str, Mapping[str, Sequence]],
        side_key: str,
        side_normal: Sequence[float],
        side_threshold: float,
    ) -> None:
        self.matrix = {key: torch.tensor(value["matrix"], dtype=torch.float32) for key, value in maps.items()}
        self.offset = {key: torch.tensor(value["offset"], dtype=torch.float32) for key, value in maps.items()}
        self.side_key, self.threshold = side_key, side_threshold
        self.normal = torch.tensor(side_normal, dtype=torch.float32)
        if ACTION not in maps or side_key not in maps:
            raise ConfigError("a reflection lacks a map", limit=f"one for '{ACTION}' and one for '{side_key}'")
        for key, matrix in self.matrix.items():
            offset = self.offset[key]
            if matrix.shape != (len(offset), len(offset)):
                raise ConfigError(
                    f"reflection of '{key}' has a matrix {list(matrix.shape)}", limit=f"{len(offset)} rows"
                )
            back = (matrix @ matrix - torch.eye(len(offset))).abs().max() + (matrix @ offset + offset).abs().max()
            if back > 1e-3:
                raise ConfigError(f"reflection of '{key}' is not its own inverse", limit="M M = 1 and M b + b = 0")

    def reflected(self, observation: Mapping[str, Tensor]) -> Tensor:
        """{key: [B, T_o, D]} -> bool [B]: whether the current step lies on the other side."""
        now = observation[self.side_key][:, -1]
        return now @ self.normal.to(now) > self.threshold

    def observation(self, observation: Mapping[str, Tensor], where: Tensor) -> dict[str, Tensor]:
        """The windows [B, T_o, D] with rows ``where`` [B] reflected."""
        return {
            key: self._map(key, value, where) if key in self.matrix else value for key, value in observation.items()
        }

    def action(self, actions: Tensor, where: Tensor) -> Tensor:
        """Chunks [B, T_p, A] with rows ``where`` [B] reflected; its own inverse."""
        return self._map(ACTION, actions, where)

    def _map(self, key: str, value: Tensor, where: Tensor) -> Tensor:
        image = value @ self.matrix[key].to(value).T + self.offset[key].to(value)
        return torch.where(where[:, None, None], image, value)
