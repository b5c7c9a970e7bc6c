"""What makes demonstrations worse, around any policy: noise, a constant bias, a delay.

White noise makes them diverse: each action is wrong, their mean is right, and the states visited are spread. Bias and
delay make what is learned from them weak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.interfaces import Policy
from robot_rl.types import ActContext, ActionChunk, ActionKind, ActionSpec, Array, Arrays, PolicySpec

_TRANSLATED = (ActionKind.TCP_POSE, ActionKind.TCP_POSITION, ActionKind.TCP_DELTA, ActionKind.TCP_POSITION_DELTA)


class Noisy:
    """Normal noise of standard deviation ``noise_m`` on each axis of the TCP's translation, drawn by (seed, step)."""

    def __init__(self, policy: Policy, noise_m: float) -> None:
        if not 0.0 <= noise_m < np.inf:
            raise ConfigError(f"noise of the action is {noise_m} m", limit=">= 0")
        self._policy, self._noise = policy, noise_m
        self._translation = _translation(policy.spec.action)
        self._seeds: dict[int, int] = {}

    @property
    def spec(self) -> PolicySpec:
        return self._policy.spec

    def reset(self, rows: Array, seeds: Array) -> None:
        """Reset the policy and reseed the noise of batch rows ``rows``."""
        self._seeds.update({int(row): int(seed) for row, seed in zip(rows, seeds, strict=True)})
        self._policy.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """The policy's chunk [B, H, A] with noise, clipped to the limits of the action."""
        chunk = self._policy.act(window, context)
        noise = [self._draw(row, int(context.step[row]), chunk.actions.shape[1]) for row in range(len(chunk.actions))]
        return _shifted(self.spec.action, chunk, self._translation, self._noise * np.stack(noise))

    def _draw(self, row: int, step: int, length: int) -> Array:
        rng = np.random.default_rng([self._seeds.get(row, 0), step])
        return rng.standard_normal((length, len(self._translation)))


class Biased:
    """``bias_m`` [3] m, the same at every step, on the TCP's translation."""

    def __init__(self, policy: Policy, bias_m: Sequence[float]) -> None:
        self._policy, bias = policy, np.asarray(bias_m, dtype=np.float64)
        if bias.shape != (3,) or not np.isfinite(bias).all():
            raise ConfigError(f"bias of the action is {list(bias_m)} m", limit="three finite numbers")
        self._translation = _translation(policy.spec.action)
        self._bias = np.tile(bias, len(self._translation) // 3)

    @property
    def spec(self) -> PolicySpec:
        return self._policy.spec

    def reset(self, rows: Array, seeds: Array) -> None:
        """Reset the policy."""
        self._policy.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """The policy's chunk [B, H, A] with the bias, clipped to the limits of the action."""
        return _shifted(self.spec.action, self._policy.act(window, context), self._translation, self._bias)


class Delayed:
    """The policy sees each observation ``delay_steps`` control steps late, and the first one until then."""

    def __init__(self, policy: Policy, delay_steps: int) -> None:
        if delay_steps < 0:
            raise ConfigError(f"the policy is delayed by {delay_steps} steps", limit=">= 0")
        if delay_steps and policy.spec.execute != 1:
            raise ConfigError(f"a delayed policy acts every {policy.spec.execute} steps", limit="every step")
        self._policy, self._delay = policy, delay_steps
        self._seen: dict[int, list[Arrays]] = {}

    @property
    def spec(self) -> PolicySpec:
        return self._policy.spec

    def reset(self, rows: Array, seeds: Array) -> None:
        """Reset the policy and forget what batch rows ``rows`` have seen."""
        for row in rows:
            self._seen.pop(int(row), None)
        self._policy.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """The policy's chunk [B, H, A] from the window of ``delay_steps`` calls ago."""
        late = [self._late({name: value[row] for name, value in window.items()}, row) for row in range(_batch(window))]
        return self._policy.act({name: np.stack([each[name] for each in late]) for name in window}, context)

    def _late(self, now: Arrays, row: int) -> Arrays:
        seen = self._seen.setdefault(row, [])
        seen.append(now)
        del seen[: -self._delay - 1]
        return seen[0]


def degraded(
    policy: Policy, noise_m: float = 0.0, delay_steps: int = 0, bias_m: Sequence[float] = (0.0, 0.0, 0.0)
) -> Policy:
    """``policy`` in those of the wrappers that do something."""
    if delay_steps:
        policy = Delayed(policy, delay_steps)
    if np.any(np.asarray(bias_m)):
        policy = Biased(policy, bias_m)
    return Noisy(policy, noise_m) if noise_m else policy


def _translation(action: ActionSpec) -> Array:
    """Where the action holds translations of a TCP, three numbers each. Raises ConfigError when nowhere."""
    found = [action.slices[part.name].start for part in action.parts if part.kind in _TRANSLATED]
    if not found:
        raise ConfigError(
            f"no part of the action moves a TCP: {[part.name for part in action.parts]}",
            remedy="Noise and bias in m need action=tcp_position_delta or the like",
        )
    return np.concatenate([np.arange(start, start + 3) for start in found])


def _shifted(action: ActionSpec, chunk: ActionChunk, where: Array, by: Array) -> ActionChunk:
    actions = chunk.actions.astype(np.float64)
    actions[..., where] += by
    return replace(chunk, actions=np.clip(actions, action.low, action.high).astype(np.float32))


def _batch(window: Arrays) -> int:
    return len(next(iter(window.values())))
