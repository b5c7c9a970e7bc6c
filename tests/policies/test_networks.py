"""The denoisers: shapes, modulation, and what the split of the modulation promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from policies.chunk_mlp import ChunkMlp
from policies.concat_mlp import ConcatMlp
from policies.timestep_embedding import timestep_embedding
from policies.unet1d import ChunkUnet
from robot_rl.errors import ConfigError


def make_mlp(horizon: int = 8) -> ChunkMlp:
    torch.manual_seed(0)
    return ChunkMlp(horizon, 3, 10, width=32, blocks=2, condition_width=16, time_size=16)


def make_unet(horizon: int = 8) -> ChunkUnet:
    torch.manual_seed(0)
    return ChunkUnet(horizon, 3, 10, channels=(16, 32), groups=8, time_size=16)


def make_concat(horizon: int = 8) -> ConcatMlp:
    torch.manual_seed(0)
    return ConcatMlp(horizon, 3, 10, width=32, layers=3, time_size=16)


NETWORKS = {"mlp": make_mlp, "unet": make_unet, "concat": make_concat}


def woken(network: Any) -> Any:
    """Zero initialisations replaced, so that every path counts."""
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    return network.eval()


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    return woken(NETWORKS[request.param]())


def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    x, cond = torch.randn(batch, 8, 3, generator=draw), torch.randn(batch, 10, generator=draw)
    return x, torch.arange(batch) * 7, cond


def test_output_has_the_shape_of_the_chunk_and_rows_do_not_mix(network: Any) -> None:
    x, t, cond = inputs(4)
    out = network(x, t, cond)
    assert out.shape == x.shape
    for row in range(4):
        alone = network(x[row : row + 1], t[row : row + 1], cond[row : row + 1])
        torch.testing.assert_close(alone[0], out[row], atol=1e-5, rtol=1e-5)


def test_the_modulation_is_a_sum_of_time_and_condition(network: Any) -> None:
    x, t, cond = inputs(3)
    tabulated = network.time(torch.arange(50))[t] + network.condition(cond)
    torch.testing.assert_close(network.denoise(x, tabulated), network(x, t, cond), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changed", ["x", "t", "cond"])
def test_the_output_depends_on_every_input(network: Any, changed: str) -> None:
    given: dict[str, torch.Tensor] = dict(zip(("x", "t", "cond"), inputs(2), strict=True))
    before = network(**given)
    given[changed] = given[changed] + 1
    assert not torch.allclose(before, network(**given), atol=1e-4)


def test_gradients_reach_every_parameter(network: Any) -> None:
    network(*inputs(4)).square().mean().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None and value.grad.abs().max() > 0, name


def test_mlp_starts_as_the_zero_function() -> None:
    assert torch.count_nonzero(make_mlp()(*inputs(2))) == 0


def test_film_by_hand_in_one_mlp_block() -> None:
    """With identity layers the block is h + silu(norm(h) (1 + scale) + shift)."""
    network = ChunkMlp(1, 2, 1, width=2, blocks=1, condition_width=2, time_size=4)
    with torch.no_grad():
        for layer in (network.chunk_in, network.rise[0], network.fall[0], network.chunk_out):
            layer.weight.copy_(torch.eye(2))  # type: ignore[operator]
            layer.bias.zero_()  # type: ignore[operator]
    modulation = torch.tensor([[0.5, 0.0, 0.0, 2.0, 0.0, 0.0]])  # scale, shift, added input
    out = network.denoise(torch.tensor([[[1.0, -1.0]]]), modulation)
    silu_first, silu_second = 1.5 / (1 + 2.718281828**-1.5), 1.0 / (1 + 2.718281828**-1.0)
    assert silu_second > 0
    h = torch.tensor([1.0 + silu_first, -1.0 + silu_second])
    expected = (h - h.mean()) / (h.var(unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(out[0, 0], expected, atol=1e-4, rtol=0)


def test_default_unet_is_the_small_one_of_the_reference() -> None:
    parameters = sum(value.numel() for value in ChunkUnet(16, 2, 20).parameters())
    assert 4.2e6 < parameters < 5.6e6


def test_unet_refuses_what_does_not_halve() -> None:
    with pytest.raises(ConfigError, match="divisible by 4"):
        ChunkUnet(10, 2, 4, channels=(16, 32, 64))
    with pytest.raises(ConfigError, match="channels by 8"):
        ChunkUnet(8, 2, 4, channels=(12, 24))


def test_timestep_embedding_by_hand() -> None:
    found = timestep_embedding(torch.tensor([0, 2]), 4)
    expected = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.909297, 0.0002, -0.416147, 1.0]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_plain_mlp_is_one_over_the_concatenated_inputs() -> None:
    """Its first layer in three parts is the linear layer with their weights side by side."""
    network = woken(make_concat())
    x, t, cond = inputs(4)
    embedded = timestep_embedding(t, 16)
    embedded = network.time_out(torch.nn.functional.mish(network.time_in(embedded)))
    weight = torch.cat((network.from_chunk.weight, network.from_time.weight, network.from_condition.weight), dim=1)
    h = torch.cat((x.flatten(1), embedded, cond), dim=1) @ weight.T + network.from_chunk.bias
    for layer in network.hidden:
        h = layer(torch.nn.functional.mish(h))
    out = network.chunk_out(torch.nn.functional.mish(h)).view(4, 8, 3)
    torch.testing.assert_close(network(x, t, cond), out, atol=1e-5, rtol=1e-5)
    assert [tuple(layer.weight.shape) for layer in network.hidden] == [(32, 32)] * 2  # three hidden layers in all
