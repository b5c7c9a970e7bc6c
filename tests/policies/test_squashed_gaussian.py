"""The squashed Gaussian's density against torch's own."""

from __future__ import annotations

import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from policies.squashed_gaussian import SquashedGaussian


def test_actions_and_density_are_those_of_a_transformed_normal() -> None:
    actor = SquashedGaussian(3, 2, hidden=(8,), log_std=(-1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    features, noise = torch.randn((5, 3), generator=generator), torch.randn((4, 5, 2), generator=generator)
    action, log_density = actor(features, noise)
    mean, raw = actor.body(features).chunk(2, dim=-1)
    normal = Normal(mean, torch.tanh(raw).exp())  # from -1 to 1 is tanh itself
    reference = TransformedDistribution(normal, [TanhTransform(cache_size=1)])
    torch.testing.assert_close(action, torch.tanh(normal.mean + normal.stddev * noise))
    torch.testing.assert_close(log_density, reference.log_prob(action).sum(dim=-1), atol=1e-3, rtol=1e-3)
