"""The network as it acts: timestep modulation tabulated, precision chosen, optionally compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from policies.samplers import Guide, Predict, Sampler
from robot_rl.errors import ConfigError, valid_choices

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class ChunkNetwork(Protocol):
    """A denoiser whose modulation is the sum ``time(t) + condition(cond)``, both [B, M]."""

    def time(self, t: Tensor) -> Tensor: ...

    def condition(self, cond: Tensor) -> Tensor: ...

    def denoise(self, x: Tensor, modulation: Tensor) -> Tensor: ...


class DenoisingPlan:
    """Denoises from conditioning and noise with the fewest operations per network call.

    The modulation of the sampler's timesteps is computed once per set of weights, that of the observation once per
    decision. With ``bfloat16`` the weights are copied in that precision, the conditioning stays float32 up to the
    modulation and so does the sampler's arithmetic. Built anew whenever weights change.
    """

    def __init__(self, network: nn.Module, sampler: Sampler, precision: str, compiled: bool) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"no precision '{precision}'", remedy=valid_choices(precision, PRECISIONS))
        self.sampler, self.dtype = sampler, PRECISIONS[precision]
        self.network: Any = network
        device = next(network.parameters()).device
        with torch.no_grad():
            self.time = self.network.time(torch.tensor(list(sampler.timesteps), device=device)).to(self.dtype)
        acting = network if self.dtype == torch.float32 else copy.deepcopy(network).to(self.dtype)
        self._denoise: Callable[[Tensor, Tensor], Tensor] = acting.denoise  # type: ignore[assignment]
        if compiled:  # one network call, not the unrolled loop, which takes minutes to compile
            self._denoise = torch.compile(self._denoise, dynamic=False)

    def __call__(self, cond: Tensor, noise: Tensor, guide: Guide | None = None) -> Tensor:
        """[B, C] and [B, *noise_shape] -> normalised chunks [B, T_p, A]."""
        return self.sampler.sample(self.predictor(cond), noise, guide)

    def predictor(self, cond: Tensor) -> Predict:
        """The network at the sampler's timesteps under conditioning [B, C]."""
        condition = self.network.condition(cond).to(self.dtype)

        def predict(x: Tensor, index: int) -> Tensor:
            return self._denoise(x.to(self.dtype), self.time[index] + condition).to(x.dtype)

        return predict
