"""The steering latent against torch.distributions, and by integration."""

from __future__ import annotations

import torch
from torch.distributions import AffineTransform, Normal, TanhTransform, TransformedDistribution, kl_divergence

from policies.latent_gaussian import REACH, LatentGaussian, divergence, log_density, squashed

MEAN, LOG_STD = torch.tensor([[0.0, 1.5, -2.0]]), torch.tensor([[0.0, -1.0, 0.5]])


def test_density_is_that_of_the_transformed_gaussian() -> None:
    noise = torch.randn((500, 3), generator=torch.Generator().manual_seed(0))
    steps = [AffineTransform(0.0, 1.0 / REACH), TanhTransform(), AffineTransform(0.0, REACH)]
    reference = TransformedDistribution(Normal(MEAN, LOG_STD.exp()), steps)
    w = squashed(MEAN + LOG_STD.exp() * noise)
    torch.testing.assert_close(
        log_density(MEAN, LOG_STD, noise), reference.log_prob(w).sum(dim=-1), atol=2e-3, rtol=1e-4
    )


def test_density_in_w_integrates_to_one() -> None:
    w = torch.linspace(-REACH + 1e-4, REACH - 1e-4, 200_001, dtype=torch.float64)
    for mean, log_std in ((0.0, 0.0), (1.5, -1.0)):
        u = REACH * torch.atanh(w / REACH)
        mu, spread = torch.tensor([mean], dtype=torch.float64), torch.tensor([log_std], dtype=torch.float64)
        density = log_density(mu, spread, ((u - mu) / spread.exp())[:, None]).exp()
        assert abs(float(torch.trapezoid(density, w)) - 1.0) < 1e-3


def test_divergence_is_the_gaussians_and_that_of_what_is_within_reach() -> None:
    exact = divergence(MEAN, LOG_STD)
    reference = kl_divergence(Normal(MEAN, LOG_STD.exp()), Normal(0.0, 1.0)).sum(dim=-1)
    torch.testing.assert_close(exact, reference)
    draws = torch.randn((400_000, 3), generator=torch.Generator().manual_seed(1))
    u = MEAN + LOG_STD.exp() * draws
    prior = log_density(torch.zeros(1, 3), torch.zeros(1, 3), u)  # of the same w, under mean 0 and std 1
    torch.testing.assert_close((log_density(MEAN, LOG_STD, draws) - prior).mean(), exact[0], rtol=0.02, atol=0.0)


def test_an_untrained_one_is_the_prior_within_reach() -> None:
    network = LatentGaussian(5, 4)
    features, noise = torch.randn(64, 5), torch.randn(64, 4)
    mean, log_std = network.moments(features)
    assert not mean.any()
    torch.testing.assert_close(log_std, torch.zeros_like(log_std), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(network(features, noise), squashed(noise), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(squashed(noise), noise, atol=0.5, rtol=0.2)
    assert squashed(torch.tensor([100.0])) <= REACH


def test_log_std_stays_within_its_bounds() -> None:
    network = LatentGaussian(1, 1, log_std=(-4.0, 1.0))
    last = network.body[-1]
    for bias, bound in ((-100.0, -4.0), (100.0, 1.0)):
        torch.nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
        assert network.moments(torch.zeros(1, 1))[1].tolist() == [[bound]]
