"""How an episode goes, counted step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robot_rl.types import EpisodeEnd, EpisodeEvent, StepResult

DISCARDED, RERECORDED = "discarded", "rerecorded"
VOID = (DISCARDED, RERECORDED)  # nothing of such an episode is kept
OPERATOR = "operator"  # a person stopped the arm
NOBODY = "nobody"  # who judges where there is no rule and a person says nothing
_CUTS = {
    EpisodeEvent.DISCARD: (DISCARDED, "human"),
    EpisodeEvent.RERECORD: (RERECORDED, "human"),
    EpisodeEvent.STOP: (OPERATOR, NOBODY),
}


@dataclass
class EpisodeTally:
    """Length, rewards and, once it has ended, the reason (``success``, ``failure``, ``time_limit``, ``discarded``,
    ``rerecorded``, ``operator``, ``fault: ...``)."""

    length: int = 0
    total_reward: float = 0.0
    best_reward: float = 0.0
    success: bool = False
    reason: str = ""
    judged_by: str = "rule"

    def judged(self, result: StepResult, said: EpisodeEvent | None) -> StepResult:
        """``result`` after what a person ``said`` of the episode, which outweighs the rule: a success or a failure
        ends it, one that is discarded or stopped is cut off."""
        if said is None:
            return result
        if said in _CUTS:
            self.reason, self.judged_by = _CUTS[said]
            return replace(result, truncated=not result.terminated)
        self.judged_by = "human"
        success = said is EpisodeEvent.SUCCESS
        return replace(result, reward=float(success), success=success, terminated=True, truncated=False)

    def add(self, result: StepResult) -> None:
        """Count one control step."""
        self.best_reward = max(self.best_reward, result.reward) if self.length else result.reward
        self.length += 1
        self.total_reward += result.reward
        self.success = result.success or (self.success and self.judged_by == "rule")
        if self.reason:
            return
        if result.terminated:
            self.reason = "success" if result.success else "failure"
        elif result.truncated:
            self.reason = f"fault: {result.info['fault']}" if "fault" in result.info else "time_limit"

    def end(self) -> EpisodeEnd:
        """The end the env gave it."""
        success = None if self.judged_by == NOBODY else self.success
        return EpisodeEnd(self.reason, success, self.length, self.total_reward, self.judged_by)

    def broken_off(self, error: BaseException) -> EpisodeEnd:
        """The end of an episode that ``error`` broke off: nobody judged it, unless it had succeeded before."""
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = OPERATOR if interrupted else f"fault: {type(error).__name__}: {error}"
        return EpisodeEnd(reason, self.success or None, self.length, self.total_reward)
