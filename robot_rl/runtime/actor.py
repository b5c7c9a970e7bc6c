"""The acting side of a session: episodes one after another, each decision with the newest weights there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from robot_rl.interfaces import Env, Listener, Policy, Weights
from robot_rl.runtime.handover import Handover
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, EpisodeEnd, PolicySpec

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any


class WeightsInbox(Protocol):
    """Where the newest acting state lies, e.g. an ActorTransport; never waits."""

    def latest(self) -> Weights | None:
        """The newest acting state there is, None before the first."""
        ...


class Reloadable(Policy, Protocol):
    """A policy that takes weights while it is in use."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class NewestPolicy:
    """A policy that takes the newest weights before each decision and stamps their version on what it decides.

    Taking them is a copy within memory: fetching and unpacking are the inbox's work, on another thread. A version
    that was in force keeps being so while there is no newer one.
    """

    def __init__(self, policy: Reloadable, inbox: WeightsInbox) -> None:
        self.policy, self._inbox = policy, inbox
        self.version = -1  # until there are weights

    @property
    def spec(self) -> PolicySpec:
        return self.policy.spec

    def reset(self, rows: Array, seeds: Array) -> None:
        """Forget batch rows ``rows`` [R] and reseed them with ``seeds`` [R]."""
        self.policy.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """The wrapped policy's chunk, stamped."""
        self.take()
        return replace(self.policy.act(window, context), version=self.version)

    def take(self) -> int:
        """Take the newest weights; returns their version, -1 while there are none."""
        weights = self._inbox.latest()
        if weights is None or weights.version == self.version:
            return self.version
        import torch

        # copied: what is published is read-only, and the policy keeps some of it
        self.policy.load_state_dict({name: torch.tensor(value) for name, value in weights.tensors.items()})
        self.version = weights.version
        return self.version


class Actor:
    """Runs exploring episodes; the seed counts up from one to the next.

    Args:
        env, policy: as for ``run_episode``.
        listeners: the recorder first, so that others can rely on what it wrote.
        next_seed: of the next episode's start.
        human: who may take over.
    """

    def __init__(
        self,
        env: Env,
        policy: Policy,
        listeners: Sequence[Listener],
        *,
        next_seed: int = 0,
        human: Handover | None = None,
    ) -> None:
        self.env, self.policy, self.listeners, self.next_seed = env, policy, list(listeners), next_seed
        self.human = human

    def run_episode(self) -> EpisodeEnd:
        """One more episode. Raises what ``run_episode`` raises; the seed is then used up all the same."""
        seed, self.next_seed = self.next_seed, self.next_seed + 1
        return run_episode(self.env, self.policy, self.listeners, seed=seed, explore=True, human=self.human)
