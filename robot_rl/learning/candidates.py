"""The one rule by which a candidate is preferred to what the base would do: in acting, in a gate and in targets."""

from __future__ import annotations

from torch import Tensor


def sure_gain(values: Tensor, deviations: float) -> Tensor:
    """What each of C candidates gains over candidate 0, the base's own, by members' values [E, ..., C]: [..., C].

    The mean of the members' differences less ``deviations`` of their standard deviations, since members err alike and
    their differences tell more: where members see no reason, they differ in what they prefer by chance.
    """
    gain = values - values[..., :1]
    return gain.mean(dim=0) - deviations * gain.std(dim=0, unbiased=False)


def best_candidate(values: Tensor, deviations: float) -> Tensor:
    """Index [...] of the best of C candidates by their ``sure_gain``; where none gains it is candidate 0."""
    return sure_gain(values, deviations).argmax(dim=-1)
