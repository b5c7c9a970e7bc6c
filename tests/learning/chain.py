"""A decision problem small enough to be solved by hand, as stored transitions of chunks of two steps.

From ``start`` a push to the right leads to ``middle``, one to the left to nothing. From ``middle`` right succeeds,
left ends. No episode goes from ``start`` to success, so that the optimum has to be stitched together:
Q*(middle, right) = 1, Q*(middle, left) = 0, Q*(start, right) = g, Q*(start, left) = 0, with g = gamma^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.chunk_critic import ChunkCritic
from policies.q_ensemble import QEnsemble
from robot_rl.types import ActionKind, ActionPart, ActionSpec, ArraySpec, EnvSpec

SPEC = EnvSpec(
    robot="bead",
    step_rate_hz=10.0,
    observation={"bead/place": ArraySpec((2,))},
    action=ActionSpec((ActionPart("bead/push", ActionKind.POINT, (-2.0,), (2.0,)),)),
    arm_parts=("bead",),
    task="chain",
)
START, MIDDLE, NOWHERE = (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)
RIGHT, LEFT = 1.0, -1.0
DISCOUNT = 0.9
ROWS = (  # place, push, reward, whether it goes on, next place, earned from there on in its episode
    (START, RIGHT, 0.0, True, MIDDLE, 0.0),
    (START, LEFT, 0.0, False, NOWHERE, 0.0),
    (MIDDLE, RIGHT, 1.0, False, NOWHERE, 1.0),
    (MIDDLE, LEFT, 0.0, False, NOWHERE, 0.0),
)


def make_critic(members: int = 2, seed: int = 0, **options: Any) -> ChunkCritic:
    """Untrained, with the statistics of ROWS."""

    def ensemble(feature_size: int, action_size: int) -> QEnsemble:
        return QEnsemble(feature_size, action_size, members=members, hidden=(32, 32))

    critic = ChunkCritic(SPEC, ensemble, **{"horizon": 2, "seed": seed, **options})
    places, pushes = (np.array([row[i] for row in ROWS], dtype=np.float32) for i in (0, 1))
    critic.fit_normalizer({"obs/bead/place": places, "action/commanded": pushes[:, None]})
    return critic


def make_batch(rows: int = 64, groups: int = 20, scale: float = 1.0, shift: float = 0.0) -> dict[str, Tensor]:
    """Equal numbers of all ROWS, [G, B, ...]; pushes are held for both steps of a chunk, and vary a little."""
    which = np.tile(np.arange(rows) % len(ROWS), (groups, 1))
    place, push, reward, goes_on, ahead, earned = (np.array([row[i] for row in ROWS])[which] for i in range(6))
    jitter = np.random.default_rng(0).uniform(-0.1, 0.1, (groups, rows, 2, 1))
    steps = 1.0 + DISCOUNT  # of shift in a chunk of two
    batch = {
        "obs/bead/place": place[:, :, None],
        "next/obs/bead/place": ahead[:, :, None],
        "action": push[:, :, None, None] + jitter,
        "reward": scale * reward + shift * steps,
        "bootstrap": DISCOUNT**2 * goes_on,
        "return": scale * earned + shift * steps,
    }
    return {key: torch.from_numpy(value.astype(np.float32)) for key, value in batch.items()}


def judged(critic: ChunkCritic) -> dict[str, list[float]]:
    """The members' mean of {place: [Q(left), Q(right)]}."""
    chunks = torch.tensor([LEFT, RIGHT]).view(1, 2, 1, 1).expand(1, 2, 2, 1)
    places = {"start": START, "middle": MIDDLE}
    seen = {name: {"bead/place": torch.tensor([[place]])} for name, place in places.items()}
    return {name: critic.values(obs, chunks).mean(dim=0)[0].tolist() for name, obs in seen.items()}
