"""Edited chunks of a frozen base (EXPO, Dong et al. 2025): of K samples and an edit of each, the best one acts.

Learning asks no gradient of the base and does not sample it: the candidates of every decision are recorded and serve as
the candidates of the targets that end there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.arms import BASE, CLOSED, OPEN, RECORD, Arms
from policies.chosen import Candidates
from policies.correction_networks import CorrectionNetworks
from policies.features import Feature
from policies.frozen import Frozen
from policies.image_encoder import ImageEncoder
from policies.row_noise import RowNoise
from robot_rl.data.normalizer import Normalizer
from robot_rl.errors import ConfigError
from robot_rl.learning.candidates import best_candidate
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, ArraySpec, EnvSpec, PolicySpec

_NOISE_STREAM = 3


class EditedPolicy:
    """``base`` acting by the best of ``candidates`` of its chunks and of their edits; see best_candidate.

    Args:
        env_spec: what is observed and commanded; kept in checkpoints.
        base: a Frozen, or a policy that makes chunks from noise.
        critic: constructor of the ensemble that judges chunks (QEnsemble).
        candidates: K; the first has the noise that the base would act with.
        observation, features, cameras, history: of edits and critics, as for DiffusionPolicy; the base sees its own.
        hidden: widths of the editing network's hidden layers.
        fraction, least: the largest edit of a component, see Tangent.
        noise: standard deviation of what exploring adds to edits, as a share of the largest.
        deviations: of the lower bound by which candidates are preferred to the base's own chunk; exploring goes by
            the mean.
        forced_open: every episode is edited, whatever the hand-over says, and the mean value decides.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: of the initial weights, of the exploration and of chance in choosing arms.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        base: Any,
        critic: Callable[..., nn.Module],
        *,
        candidates: int = 8,
        observation: Mapping[str, str] | None = None,
        features: Sequence[Feature] = (),
        cameras: Mapping[str, Callable[[], ImageEncoder]] | None = None,
        history: int = 1,
        hidden: Sequence[int] = (256, 256),
        fraction: float = 0.3,
        least: float = 0.0,
        noise: float = 0.2,
        deviations: float = 1.0,
        forced_open: bool = False,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if noise < 0.0 or deviations < 0.0:
            raise ConfigError(f"noise={noise}, deviations={deviations}", limit="0 or more")
        self.env_spec, self.noise, self.candidates = env_spec, noise, candidates
        self.deviations = deviations
        self.base = base if isinstance(base, Frozen) else Frozen(base)
        self.base.check(env_spec)
        self._samples = Candidates(self.base.sampler, candidates)
        inner = self._samples.spec
        self.networks = CorrectionNetworks(
            env_spec,
            critic,
            inner.execute,
            observation=observation,
            features=features,
            cameras=cameras,
            history=history,
            hidden=hidden,
            fraction=fraction,
            least=least,
            device=device,
            seed=seed,
        )
        record = {"candidates": ArraySpec((candidates, inner.execute, env_spec.action.size)), **RECORD}
        observed = {**inner.observation, **self.networks.reads.observation}
        self.spec = PolicySpec(
            observed, env_spec.action, max(inner.history, history), inner.horizon, inner.execute, record
        )
        self.arms, self._noise = Arms(seed, forced_open), RowNoise(seed, _NOISE_STREAM)

    # --- Policy

    def reset(self, rows: Array, seeds: Array) -> None:
        """Batch rows ``rows`` [R] begin the episodes ``seeds`` [R]: samples, arms and exploration start anew."""
        self._samples.reset(rows, seeds)
        self._noise.reset(rows, seeds)
        self.arms.reset(rows, seeds)

    @torch.no_grad()
    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A]; ``record`` holds the base's candidates and who acted."""
        batch, networks, execute = len(context.step), self.networks, self.spec.execute
        seen = {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in self.spec.observation}
        chunks, noise = self._drawn(window, seen, batch)
        drawn = torch.from_numpy(self._noise.draw(batch, (self.candidates, networks.size)))
        reinforced = self.arms.reinforced(batch, context.explore)
        proposals = chunks[:, :, :execute]
        chosen, arm = chunks[:, 0], np.full(batch, BASE, dtype=np.uint8)
        if reinforced.any():
            explored = self.noise * drawn.clamp(-2.0, 2.0) if context.explore else torch.zeros_like(drawn)
            sure = 0.0 if context.explore or self.arms.forced else self.deviations
            every, index = self._preferred(networks.features(seen), proposals, explored, sure)
            index = torch.where(torch.from_numpy(reinforced), index.cpu(), 0)
            row, sample = torch.arange(batch), index % self.candidates
            chosen = torch.cat((every[row, index], chunks[row, sample, execute:]), dim=1)
            noise = noise[row.numpy(), sample.numpy()]
            arm = np.where(reinforced, np.where(index.numpy() > 0, OPEN, CLOSED), BASE).astype(np.uint8)
        else:
            noise = noise[:, 0]
        steps = self.spec.horizon
        record = {
            "candidates": np.repeat(proposals.numpy()[:, None], steps, axis=1),
            "arm": np.repeat(arm[:, None], steps, axis=1),
        }
        return ActionChunk(chosen.numpy(), execute, record=record, decision={"noise": noise})

    def _drawn(self, window: Arrays, seen: Mapping[str, Tensor], batch: int) -> tuple[Tensor, Array]:
        """Chunks [B, K, T_p, A] and their noise. The first is the base's own, to the bit: drawn in its batch shape."""
        history = self.base.sampler.spec.history
        inner = {key: window[key][:, -history:] for key in self.base.sampler.spec.observation}
        chunks, noise, _ = self._samples.draw(inner, batch)
        if self.candidates > 1:
            own = {key: seen[key][:, -history:] for key in inner}
            chunks[:, 0] = self.base.sampler.sample(own, torch.from_numpy(noise[:, 0])).cpu()
        return chunks, noise

    def _preferred(
        self, features: Tensor, proposals: Tensor, explored: Tensor, deviations: float
    ) -> tuple[Tensor, Tensor]:
        """All candidates [B, 2K, h, A], the base's [B, K, h, A] and their edits, and the index [B] of the best."""
        networks = self.networks
        edited = networks.edited(networks.actor, features, proposals, explored.to(networks.device))
        every = torch.cat((proposals.to(networks.device), edited), dim=1)
        values = networks.values(networks.critic, features, every)
        return every.cpu(), best_candidate(values, deviations)

    # --- what learners and sessions use

    @property
    def normalizer(self) -> Normalizer:
        """Of what is learnt; the base has its own."""
        return self.networks.normalizer

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) that training images are brought to; None without cameras."""
        return self.networks.image_size

    def fit_normalizer(self, rows: Arrays) -> None:
        """Statistics from rows {array path: [N, D]} of demonstrations, frozen for the run; the base has its own."""
        self.networks.fit_normalizer(rows)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, statistics and the arms' shares; the base's are where it is."""
        return {**self.networks.state_dict(), **self.arms.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.networks.load_state_dict(state)
        self.arms.load_state_dict(state)
