"""Value-guided re-ranking (V-GPS, Nakamoto et al. 2024) of a base's own chunks.

Published re-ranking falls when K grows, since an arg-max finds the critic's errors. Here whole chunks are judged, only
where the base itself often goes, and one is preferred to the base's own for what it surely gains over it: of critics
that know nothing each has a direction of its own that an arg-max would follow, but they do not agree on one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from policies.chosen import Candidates, in_limits, taken
from policies.chunk_critic import ChunkCritic
from policies.diffusion import DiffusionPolicy
from robot_rl.errors import ConfigError
from robot_rl.interfaces import ChunkSampler
from robot_rl.learning.candidates import sure_gain
from robot_rl.learning.checkpoint import load_checkpoint
from robot_rl.types import ActContext, ActionChunk, Array, Arrays


class Reranked:
    """``base`` acting by the one of its ``candidates`` samples that ``critic`` prefers; one candidate is the base.

    Args:
        base: a policy or a sampler of chunks: all that is asked of it is samples.
        critic: of chunks, or the run or checkpoint that holds it (robot-rl train algorithm=iql|calql).
        candidates: K.
        temperature: of a soft choice, in units of Q; 0 takes the best.
        deviations: of the members, by which a candidate has to gain over the base's own chunk; see sure_gain.
        support: share of the candidates that may be chosen: those in the densest part of what the base proposes, and
            the base's own.
        other_base: accept a critic that was trained to judge another base, as a steered policy is to its base's.
    """

    def __init__(
        self,
        base: DiffusionPolicy | ChunkSampler,
        critic: ChunkCritic | str,
        candidates: int = 16,
        *,
        temperature: float = 0.0,
        deviations: float = 3.0,
        support: float = 0.75,
        other_base: bool = False,
    ) -> None:
        if temperature < 0.0 or deviations < 0.0 or not 0.0 < support <= 1.0:
            given = f"temperature={temperature}, deviations={deviations}, support={support}"
            raise ConfigError(given, limit="at least 0, at least 0, above 0 and at most 1")
        self._candidates = Candidates(base, candidates)
        self._critic = _loaded(critic) if isinstance(critic, str) else critic
        self._temperature, self._deviations, self._support = temperature, deviations, support
        own = self._candidates.spec
        self.spec = replace(own, observation={**own.observation, **self._critic.spec.observation})
        self._check(other_base)

    def _check(self, other_base: bool) -> None:
        spec, critic = self._candidates.spec, self._critic
        if (spec.action, spec.execute) != (critic.spec.action, critic.horizon):
            raise ConfigError(
                f"the critic judges {critic.horizon} steps, the base executes {spec.execute}, or their actions differ",
                remedy="Train one with base= this base",
            )
        if spec.history != critic.spec.history:
            raise ConfigError(f"the critic sees {critic.spec.history} observations, the base {spec.history}")
        if not other_base and critic.base_sha256 not in ("", self._candidates.sampler.spec.sha256):
            raise ConfigError(
                "the critic was trained to judge another base", remedy="Set policy.other_base=true to use it anyway"
            )

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the noise of batch rows ``rows`` [R] at decision 0 of the episodes ``seeds`` [R]."""
        self._candidates.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A].

        ``decision`` holds the chosen candidate's noise and every candidate's ``scores`` [B, K], 0 of the base's own.
        """
        chunks, noise, chance = self._candidates.draw(window, len(context.step))
        seen = {key: torch.from_numpy(window[key]) for key in self._critic.spec.observation}
        scores = sure_gain(self._critic.values(seen, chunks), self._deviations).cpu()
        executed = in_limits(chunks[:, :, : self.spec.execute], self.spec.action)
        allowed = supported(executed, self._support)
        allowed[:, 0] = True  # the base's own
        index = preferred(scores, allowed, chance, self._temperature)
        chunk = taken(chunks, noise, index, self.spec.execute)
        return replace(chunk, decision={**chunk.decision, "scores": scores.numpy()})


def supported(executed: Tensor, share: float) -> Tensor:
    """Of candidates [B, K, T_a, A] the ``share`` (rounded up) whose sqrt(K)-th neighbour is nearest, as bool [B, K].

    That distance is the base's own density at a candidate, up to a constant, as far as K samples tell it.
    """
    points = executed.flatten(2)
    many = points.shape[1]
    kept = math.ceil(share * many)
    if kept == many:
        return torch.ones(points.shape[:2], dtype=torch.bool)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    neighbour = distances.sort(dim=2).values[:, :, math.ceil(math.sqrt(many))]  # place 0 is the candidate itself
    order = neighbour.argsort(dim=1, stable=True)
    return torch.zeros_like(neighbour, dtype=torch.bool).scatter(1, order[:, :kept], True)


def preferred(scores: Tensor, allowed: Tensor, chance: Tensor, temperature: float) -> Tensor:
    """Index [B] of the best of the ``allowed`` by ``scores`` [B, K]; softmax(scores / temperature) by Gumbel's trick,
    with uniform numbers made of the N(0, I) draws ``chance``."""
    if temperature > 0.0:
        uniform = torch.special.ndtr(chance.double()).clamp(1e-12, 1.0 - 1e-12)
        scores = scores.double() / temperature - (-uniform.log()).log()
    return scores.masked_fill(~allowed, -torch.inf).argmax(dim=1)


def _loaded(path: str) -> ChunkCritic:
    """Raises CheckpointError for a checkpoint that holds none."""
    return load_checkpoint(Path(path), kind=ChunkCritic)
