"""Small images to vectors: shifts that can be told by hand, what is frozen, what is refused."""

from __future__ import annotations

import pytest
import torch

from policies.conv_encoder import ConvEncoder
from policies.random_shift import random_shift
from robot_rl.errors import ConfigError, InvalidArrayError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator())


def make_encoder(**options: bool | int) -> ConvEncoder:
    torch.manual_seed(0)
    return ConvEncoder(height=16, width=16, channels=(8, 8), size=6, **options)  # type: ignore[arg-type]


def test_a_shift_moves_the_picture_and_repeats_its_edge() -> None:
    """Pixel (row, column) holds 10 row + column; every picture is found among the 9 shifts by one, made by padding."""
    picture = (10 * torch.arange(4)[:, None] + torch.arange(4)).to(torch.uint8)[None, :, :, None]
    padded = torch.nn.functional.pad(picture[0, :, :, 0][None].float(), (1, 1, 1, 1), mode="replicate")[0]
    crops = {(r, c): padded[r : r + 4, c : c + 4].to(torch.uint8) for r in range(3) for c in range(3)}
    moved = random_shift(picture.expand(200, -1, -1, -1), 1, generator())[..., 0]
    found = [next(place for place, crop in crops.items() if torch.equal(crop, one)) for one in moved]
    assert set(found) == set(crops)  # each picture has a draw of its own, and all shifts occur


def test_no_shift_leaves_the_picture() -> None:
    assert torch.equal(random_shift(images(3), 0, generator()), images(3))


def test_bytes_in_vector_out_and_images_do_not_mix() -> None:
    encoder, batch = make_encoder(), images(3)
    out = encoder(batch)
    assert out.shape == (3, 6) and bool((out.abs() < 1).all())
    torch.testing.assert_close(encoder(batch[1:2])[0], out[1], atol=1e-6, rtol=1e-5)


def test_acting_leaves_the_image_and_training_shifts_it() -> None:
    encoder, batch = make_encoder(shift=2), images(2)
    assert torch.equal(encoder(batch), encoder(batch))
    assert torch.equal(encoder(batch, generator(1)), encoder(batch, generator(1)))
    assert not torch.equal(encoder(batch, generator(1)), encoder(batch))
    assert torch.equal(make_encoder(shift=0)(batch, generator(1)), encoder(batch))


def test_frozen_convolutions_get_no_gradient_and_the_read_out_does() -> None:
    encoder = make_encoder(frozen=True)
    encoder(images(2)).square().sum().backward()
    assert all(value.grad is None for value in encoder.convolutions.parameters())
    assert all(value.grad is not None for value in encoder.out.parameters())
    learning = make_encoder()
    learning(images(2)).square().sum().backward()
    assert all(value.grad is not None for value in learning.parameters())


@pytest.mark.parametrize("options", [{"channels": ()}, {"channels": (8, 8, 8, 8)}, {"shift": 16}, {"shift": -1}])
def test_what_leaves_no_picture_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        ConvEncoder(**{"height": 16, "width": 16, **options})  # type: ignore[arg-type]


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(InvalidArrayError, match=r"limit: \[16, 16, 3\]"):
        make_encoder()(images(1, side=20))
