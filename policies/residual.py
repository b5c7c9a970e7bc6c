"""Per-step residuals on the chunks of a frozen base (ResFiT, Ankile et al. 2025).

The base plans as it does alone; at every control step a small network adds to the action that is due, by what is seen
now. Whether it may is decided per episode (policies.arms) and, in there, per step by a gate on the critics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.arms import BASE, CLOSED, OPEN, RECORD, Arms, gate
from policies.base_steps import BaseSteps
from policies.correction_networks import CorrectionNetworks, unless_zero
from policies.features import Feature
from policies.frozen import Frozen
from policies.image_encoder import ImageEncoder
from policies.row_noise import RowNoise
from robot_rl.data.normalizer import Normalizer
from robot_rl.errors import ConfigError
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, ArraySpec, EnvSpec, PolicySpec

_NOISE_STREAM = 2


class ResidualPolicy:
    """``base`` with a residual; with a residual of 0 it is the base, bit for bit at equal batch shape.

    Args:
        env_spec: what is observed and commanded; kept in checkpoints.
        base: a Frozen, or a policy.
        critic: constructor of the ensemble that the gate goes by (QEnsemble).
        observation, features, cameras, history: of residual and critics, as for DiffusionPolicy; the base sees its own.
        hidden: widths of the residual network's hidden layers.
        fraction, least: the largest residual, see Tangent.
        noise: standard deviation of what exploring adds, as a share of the largest residual.
        deviations: of the critics' lower bound by which the gate opens; exploring goes by their mean.
        forced_open: every episode gets the residual, whatever hand-over and gate say.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: of the initial weights, of the exploration and of chance in choosing arms.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        base: Any,
        critic: Callable[..., nn.Module],
        *,
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
        self.env_spec, self.noise, self.deviations = env_spec, noise, deviations
        self.base = base if isinstance(base, Frozen) else Frozen(base)
        self.base.check(env_spec)
        self.networks = CorrectionNetworks(
            env_spec,
            critic,
            1,
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
        inner, own = self.base.policy.spec, self.networks.reads
        record = {"base_action": ArraySpec((env_spec.action.size,)), **RECORD}
        observed = {**inner.observation, **own.observation}
        self.spec = PolicySpec(
            observed, env_spec.action, max(inner.history, history), inner.execute, execute=1, record=record
        )
        self.arms = Arms(seed, forced_open)
        self._steps, self._noise = BaseSteps(self.base.policy), RowNoise(seed, _NOISE_STREAM)

    # --- Policy

    def reset(self, rows: Array, seeds: Array) -> None:
        """Batch rows ``rows`` [R] begin the episodes ``seeds`` [R]: base, arms and exploration start anew."""
        self._steps.reset(rows, seeds)
        self._noise.reset(rows, seeds)
        self.arms.reset(rows, seeds)

    @torch.no_grad()
    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> the base's plan in force [B, T_a, A], with a residual on what is due now and
        on what has ``begun``; ``record`` holds the base's own actions and who acted."""
        batch, networks = len(context.step), self.networks
        drawn = torch.from_numpy(self._noise.draw(batch, (networks.size,))).to(networks.device)
        reinforced = self.arms.reinforced(batch, context.explore)
        proposed = torch.from_numpy(self._steps.next(window, context)[:, None]).to(networks.device)
        arm, by = np.full(batch, BASE, dtype=np.uint8), torch.zeros_like(drawn)
        if reinforced.any():
            seen = {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in networks.reads.observation}
            acts = torch.from_numpy(reinforced).to(networks.device)
            deviations = 0.0 if context.explore else self.deviations
            by, opened = self._residual(networks.features(seen), proposed, deviations)
            if context.explore:
                by = (by + self.noise * drawn.clamp(-2.0, 2.0)).clamp(-1.0, 1.0)
            by = torch.where(acts[:, None], by, 0.0)
            arm = np.where(reinforced, np.where(opened.cpu().numpy(), OPEN, CLOSED), BASE).astype(np.uint8)
        actions = unless_zero(by[:, None], networks.corrected(proposed, by), proposed)
        plans, base_plans, begun = self._steps.changed(actions[:, 0])
        record = {"base_action": base_plans, "arm": np.repeat(arm[:, None], plans.shape[1], axis=1)}
        return ActionChunk(plans, 1, record=record, decision=self._steps.decision(batch), begun=begun)

    def _residual(self, features: Tensor, proposed: Tensor, deviations: float) -> tuple[Tensor, Tensor]:
        """Residuals [B, R] of proposals [B, 1, A], 0 where the gate is closed, and where it is open [B]."""
        networks = self.networks
        proposal = networks.seen(proposed)
        by = networks.actor(features, proposal)
        if self.arms.forced:
            return by, torch.ones(len(by), dtype=torch.bool, device=by.device)
        outcome = networks.seen(networks.corrected(proposed, by))
        values, base_values = networks.critic(features, outcome), networks.critic(features, proposal)
        opened = gate(values, base_values, deviations)
        return torch.where(opened[:, None], by, 0.0), opened

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
