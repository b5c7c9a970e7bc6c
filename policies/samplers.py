"""Reverse diffusion with the start noise as an argument: DDPM (ancestral) and DDIM (deterministic).

A sampler visits falling timesteps. One step is a linear map of the clean estimate x0, the noisy chunk x and, for DDPM,
fresh noise; its coefficients are Python floats, worked out once. ``predict(x, index)`` is the network at
``timesteps[index]``. Warm starts (RTI) sample ``along`` a short list of timesteps, from the shifted last chunk;
real-time chunking passes ``guide``, which may change every clean estimate before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from policies.noise_schedules import NoiseSchedule
from robot_rl.errors import ConfigError, valid_choices

Predict = Callable[[Tensor, int], Tensor]
Guide = Callable[[Tensor, int], Tensor]
PREDICTIONS = ("epsilon", "sample", "velocity")


@dataclass(frozen=True)
class Step:
    """x_prev = clean * x0 + noisy * x + predicted * epsilon + fresh * N(0, I), after clipping x0."""

    signal: float  # sqrt(alpha_bar_t)
    sigma: float  # sqrt(1 - alpha_bar_t)
    clean: float
    noisy: float = 0.0
    predicted: float = 0.0
    fresh: float = 0.0


class Sampler(Protocol):
    """What a policy needs of a sampler."""

    @property
    def timesteps(self) -> Sequence[int]: ...

    @property
    def prediction(self) -> str:
        """What its network predicts: epsilon, sample, velocity or flow."""
        ...

    def along(self, timesteps: Sequence[int]) -> Self:
        """The same sampler on other timesteps, falling."""
        ...

    def noise_shape(self, chunk: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the noise of one sample whose chunk has shape ``chunk``."""
        ...

    def starting(self, x: Tensor, noise: Tensor) -> Tensor:
        """What to pass as ``noise`` to begin at ``x`` [B, T_p, A]; later draws are those of ``noise``, which may be
        that of a longer list of timesteps."""
        ...

    def sample(self, predict: Predict, noise: Tensor, guide: Guide | None = None) -> Tensor:
        """Normalised chunks [B, T_p, A] from [B, *noise_shape]; deterministic in the noise."""
        ...


class DDIM:
    """Song et al. 2021, eq. 12 with eta = 0: a deterministic map from the start noise to the chunk.

    ``recompute_epsilon`` derives epsilon from the clipped x0 (``use_clipped_model_output`` in diffusers); without it
    the network's own epsilon sets the direction.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        steps: int = 16,
        grid: str = "linspace",
        prediction: str = "epsilon",
        clip: float | None = 1.0,
        recompute_epsilon: bool = True,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        self.timesteps = list(timesteps) if timesteps is not None else schedule.timesteps(steps, grid)
        self.prediction, self.clip = _checked(prediction), clip
        self.steps = [_ddim_step(*pair, recompute_epsilon) for pair in _alpha_pairs(schedule, self.timesteps)]
        self._schedule, self._recompute_epsilon = schedule, recompute_epsilon

    def along(self, timesteps: Sequence[int]) -> DDIM:
        return DDIM(
            self._schedule,
            prediction=self.prediction,
            clip=self.clip,
            recompute_epsilon=self._recompute_epsilon,
            timesteps=timesteps,
        )

    def noise_shape(self, chunk: tuple[int, ...]) -> tuple[int, ...]:
        return chunk

    def starting(self, x: Tensor, noise: Tensor) -> Tensor:
        return x

    def step(self, index: int, x: Tensor, output: Tensor, guide: Guide | None = None) -> Tensor:
        """One step from ``timesteps[index]`` to the next one (clean data after the last)."""
        step = self.steps[index]
        x0 = clean_estimate(step, x, output, self.prediction, self.clip)
        x0 = x0 if guide is None else guide(x0, index)
        if step.predicted:
            return step.clean * x0 + step.predicted * _epsilon(step, x, output, self.prediction)
        return step.clean * x0 + step.noisy * x

    def sample(self, predict: Predict, noise: Tensor, guide: Guide | None = None) -> Tensor:
        x = noise
        for index in range(len(self.steps)):
            x = self.step(index, x, predict(x, index), guide)
        return x


class DDPM:
    """Ho et al. 2020, eq. 7, variance ``fixed_small``: beta_t (1 - alpha_bar_prev) / (1 - alpha_bar_t).

    The noise of one sample is [steps, T_p, A]: the start, then one draw for every step but the last.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        steps: int = 100,
        grid: str = "linspace",
        prediction: str = "epsilon",
        clip: float | None = 1.0,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        self.timesteps = list(timesteps) if timesteps is not None else schedule.timesteps(steps, grid)
        self.prediction, self.clip = _checked(prediction), clip
        self.steps = [_ddpm_step(*pair) for pair in _alpha_pairs(schedule, self.timesteps)]
        self._schedule = schedule

    def along(self, timesteps: Sequence[int]) -> DDPM:
        return DDPM(self._schedule, prediction=self.prediction, clip=self.clip, timesteps=timesteps)

    def noise_shape(self, chunk: tuple[int, ...]) -> tuple[int, ...]:
        return (len(self.timesteps), *chunk)

    def starting(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.cat((x[:, None], noise[:, 1 : len(self.timesteps)]), dim=1)

    def step(self, index: int, x: Tensor, output: Tensor, fresh: Tensor | None, guide: Guide | None = None) -> Tensor:
        """One step; ``fresh`` is the N(0, I) draw of this step, None at the last one."""
        step = self.steps[index]
        x0 = clean_estimate(step, x, output, self.prediction, self.clip)
        x0 = x0 if guide is None else guide(x0, index)
        mean = step.clean * x0 + step.noisy * x
        return mean if fresh is None else mean + step.fresh * fresh

    def sample(self, predict: Predict, noise: Tensor, guide: Guide | None = None) -> Tensor:
        x, last = noise[:, 0], len(self.steps) - 1
        for index in range(len(self.steps)):
            fresh = noise[:, index + 1] if index < last else None
            x = self.step(index, x, predict(x, index), fresh, guide)
        return x


def clean_estimate(step: Step, x: Tensor, output: Tensor, prediction: str, clip: float | None) -> Tensor:
    """x0 from the network's output (Salimans and Ho 2022 for velocity), clipped to [-clip, clip]."""
    if prediction == "epsilon":
        x0 = (x - step.sigma * output) / step.signal
    elif prediction == "sample":
        x0 = output
    else:
        x0 = step.signal * x - step.sigma * output
    return x0 if clip is None else x0.clamp(-clip, clip)


def _epsilon(step: Step, x: Tensor, output: Tensor, prediction: str) -> Tensor:
    if prediction == "epsilon":
        return output
    if prediction == "sample":
        return (x - step.signal * output) / step.sigma
    return step.signal * output + step.sigma * x


def check_falling(timesteps: Sequence[int], steps: int) -> None:
    """Raise ConfigError unless ``timesteps`` fall, within 0 to ``steps`` - 1."""
    inside = all(0 <= t < steps for t in timesteps)
    if not timesteps or not inside or sorted(set(timesteps), reverse=True) != list(timesteps):
        raise ConfigError(f"timesteps {list(timesteps)}", limit=f"at least one, falling, within 0 to {steps - 1}")


def _alpha_pairs(schedule: NoiseSchedule, timesteps: Sequence[int]) -> list[tuple[float, float]]:
    if not hasattr(schedule, "alphas_cumprod"):
        raise ConfigError(
            f"DDIM and DDPM cannot follow a {type(schedule).__name__}", remedy="Use policies.flow_matching.Euler"
        )
    check_falling(timesteps, schedule.steps)
    alphas = [float(schedule.alphas_cumprod[t]) for t in timesteps]
    return list(zip(alphas, [*alphas[1:], 1.0], strict=True))


def _ddim_step(alpha: float, alpha_prev: float, recompute_epsilon: bool) -> Step:
    signal, sigma = math.sqrt(alpha), math.sqrt(1 - alpha)
    direction = math.sqrt(1 - alpha_prev)
    if not recompute_epsilon:
        return Step(signal, sigma, clean=math.sqrt(alpha_prev), predicted=direction)
    return Step(signal, sigma, clean=math.sqrt(alpha_prev) - direction * signal / sigma, noisy=direction / sigma)


def _ddpm_step(alpha: float, alpha_prev: float) -> Step:
    ratio = alpha / alpha_prev
    beta = 1 - ratio
    return Step(
        math.sqrt(alpha),
        math.sqrt(1 - alpha),
        clean=math.sqrt(alpha_prev) * beta / (1 - alpha),
        noisy=math.sqrt(ratio) * (1 - alpha_prev) / (1 - alpha),
        fresh=math.sqrt(max((1 - alpha_prev) / (1 - alpha) * beta, 1e-20)),
    )


def _checked(prediction: str) -> str:
    if prediction not in PREDICTIONS:
        raise ConfigError(f"no prediction '{prediction}'", remedy=valid_choices(prediction, PREDICTIONS))
    return prediction
