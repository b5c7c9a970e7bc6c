"""What a critic of chunks is worth, told by episodes that it has not learnt from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from robot_rl.learning.critic_training import ChunkValues, observed
from robot_rl.learning.returns import RETURN, WithReturns
from robot_rl.types import Array

MOST = 20_000  # transitions that are looked at


def report_values(critic: ChunkValues, held_out: WithReturns) -> dict[str, float]:
    """Of every (s, chunk) in ``held_out``, by the members' mean:

    ``q_minus_return``        over-estimation: mean of Q minus what the episode earned from there on
    ``rank_correlation``      Spearman's, of Q with that return
    ``rank_between_episodes`` the same of their first quarters, one mean each: progress through an episode, which any
                              critic sees, does not count
    ``dq_da``                 mean length of dQ/da per deviation of the actions in the data; 0 judges by the state alone
    ``disagreement``          mean standard deviation between members
    """
    count = len(held_out)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(np.int64))
    batch = held_out.gather(chosen)
    values, slopes = _asked(critic, {key: torch.from_numpy(value) for key, value in batch.items()})
    q, earned = values.mean(axis=0), batch[RETURN].astype(np.float64)
    early_q, early_return = _first_quarters(q, earned, batch["episode"], batch["row"])
    return {
        "q_minus_return": float((q - earned).mean()),
        "return": float(earned.mean()),
        "rank_correlation": rank_correlation(q, earned),
        "rank_between_episodes": rank_correlation(early_q, early_return),
        "dq_da": float(slopes.mean()),
        "disagreement": float(values.std(axis=0).mean()),
    }


def rank_correlation(first: Array, second: Array) -> float:
    """Spearman's, with the mean rank of ties; 0 where one of them does not vary."""
    a, b = _ranks(first), _ranks(second)
    spread = a.std() * b.std()
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0.0 else 0.0


def _ranks(values: Array) -> Array:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2.0)[place]


def _asked(critic: ChunkValues, batch: Mapping[str, Tensor], rows: int = 2048) -> tuple[Array, Array]:
    """Values [E, N], and the length of the mean value's slope along what the critics see of a chunk [N]."""
    values, slopes = [], []
    for first in range(0, len(batch["action"]), rows):
        part = {key: value[first : first + rows] for key, value in batch.items()}
        with torch.no_grad():
            features = critic.features(observed(critic.spec, part))
        seen = critic.chunk(part["action"]).requires_grad_(True)
        q = critic.ensemble(features, seen)
        (slope,) = torch.autograd.grad(q.mean(dim=0).sum(), seen)
        values.append(q.detach().cpu().double())
        slopes.append(slope.norm(dim=-1).cpu().double())
    return torch.cat(values, dim=1).numpy(), torch.cat(slopes).numpy()


def _first_quarters(q: Array, earned: Array, episode: Array, row: Array) -> tuple[Array, Array]:
    """Means of both over the first quarter of each episode, [episodes]."""
    early_q, early_return = [], []
    for each in np.unique(episode):
        own = episode == each
        early = own & (row <= row[own].max() / 4.0)
        early_q.append(q[early].mean())
        early_return.append(earned[early].mean())
    return np.array(early_q), np.array(early_return)
