"""The one rule by which a candidate is preferred to what the base would do: in acting, in a gate and in targets."""

from __future__ import annotations

from torch import Tensor


def best_candidate(values: Tensor, deviations: float) -> Tensor:
    """Index [...] of the best of C candidates by members' values [E, ..., C], of which candidate 0 is the base's.

    A candidate counts what it gains over candidate 0: the mean of the members' differences less ``deviations`` of their
    standard deviations, since members err alike and their differences tell more. Where none gains it is candidate 0.
    """
    gain = values - values[..., :1]
    return (gain.mean(dim=0) - deviations * gain.std(dim=0, unbiased=False)).argmax(dim=-1)
