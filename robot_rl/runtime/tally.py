"""How an episode goes, counted step by step."""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.types import EpisodeEnd, StepResult


@dataclass
class EpisodeTally:
    """Length, rewards and, once it has ended, the reason (``success``, ``failure``, ``time_limit``, ``fault: ...``)."""

    length: int = 0
    total_reward: float = 0.0
    best_reward: float = 0.0
    success: bool = False
    reason: str = ""

    def add(self, result: StepResult) -> None:
        """Count one control step."""
        self.best_reward = max(self.best_reward, result.reward) if self.length else result.reward
        self.length += 1
        self.total_reward += result.reward
        self.success |= result.success
        if result.terminated:
            self.reason = "success" if result.success else "failure"
        elif result.truncated:
            self.reason = f"fault: {result.info['fault']}" if "fault" in result.info else "time_limit"

    def end(self) -> EpisodeEnd:
        """The end the env gave it."""
        return EpisodeEnd(self.reason, self.success, self.length, self.total_reward)

    def broken_off(self, error: BaseException) -> EpisodeEnd:
        """The end of an episode that ``error`` broke off: nobody judged it, unless it had succeeded before."""
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "operator" if interrupted else f"fault: {type(error).__name__}: {error}"
        return EpisodeEnd(reason, self.success or None, self.length, self.total_reward)
