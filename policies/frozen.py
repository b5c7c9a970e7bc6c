"""The policy that another one gets better around: loaded once, never trained, never published, never saved twice."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from policies.black_box import as_sampler
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.interfaces import ChunkSampler, Policy
from robot_rl.learning.checkpoint import load_checkpoint
from robot_rl.types import EnvSpec


class Frozen:
    """A base. What acts around it holds weights of its own only; its checkpoint names this one by path and hash.

    Args:
        checkpoint: run or checkpoint of the base, one of a served policy included; or the policy itself.
        sha256: of the parameters that it must have; '' takes whatever is there.
        around: constructor of what acts around it, called with ``base``, such as a warm start.
        learning_precision: of the chunks that learners ask for by the thousand, where it has a precision to choose:
            ``bfloat16`` takes little more than half the time on a CPU that has it. None: the one that acts.
    """

    def __init__(
        self,
        checkpoint: str | Any,
        sha256: str = "",
        around: Callable[..., Policy] | None = None,
        learning_precision: str | None = None,
    ) -> None:
        if not checkpoint:
            raise ConfigError("there is no base", remedy="Name it: base=runs/<run of the base>")
        inner: Any = load_checkpoint(Path(checkpoint)) if isinstance(checkpoint, str) else checkpoint
        if not hasattr(inner, "sha256"):
            raise ConfigError(f"a {type(inner).__name__} has no hash to know it by", remedy="Give a trained policy")
        self._inner, self._checkpoint, self._learning_precision = inner, checkpoint, learning_precision
        self.sha256: str = inner.sha256()
        if sha256 and sha256 != self.sha256:
            raise CheckpointError(
                f"{checkpoint} holds policy {self.sha256[:12]}",
                limit=sha256[:12],
                remedy="Point to the base that was meant: +changes.base.checkpoint=<run>",
            )
        self.policy: Policy = inner if around is None else around(base=inner)

    @cached_property
    def sampler(self) -> ChunkSampler:
        """What makes its chunks from noise. Raises ConfigError where nothing does."""
        return as_sampler(self.policy)

    @cached_property
    def teacher(self) -> ChunkSampler:
        """As ``sampler``, in the precision of learning. Raises as that, and CheckpointError where there is none to
        choose."""
        if self._learning_precision is None or not isinstance(self._checkpoint, str):
            return self.sampler
        return as_sampler(load_checkpoint(Path(self._checkpoint), changes={"precision": self._learning_precision}))

    @property
    def unchanged(self) -> bool:
        """Whether its parameters are still those that were loaded."""
        return self._inner.sha256() == self.sha256

    def check(self, env_spec: EnvSpec) -> None:
        """Raise ConfigError where the base commands another action than the env at hand takes."""
        if self.policy.spec.action != env_spec.action:
            raise ConfigError("the base was made for another action", remedy="Choose the task that it was trained for")
        missing = sorted(
            key
            for key, value in self.policy.spec.observation.items()
            if not key.startswith("images/") and env_spec.observation.get(key) != value
        )
        if missing:
            raise ConfigError(f"the base observes {', '.join(missing)}, which is not or differently observed here")
