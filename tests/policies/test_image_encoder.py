from __future__ import annotations

import pytest
import torch

from policies.image_encoder import ImageEncoder, SpatialSoftmax
from robot_rl.errors import ConfigError, InvalidArrayError


def make_encoder(**options: int) -> ImageEncoder:
    torch.manual_seed(0)
    sizes = {"height": 40, "width": 48, "crop_height": 36, "crop_width": 44, "channels": 8, "keypoints": 4, "size": 6}
    return ImageEncoder(**{**sizes, **options}).eval()


def images(count: int, height: int = 40, width: int = 48) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_bytes_in_vector_out_and_images_do_not_mix() -> None:
    encoder, batch = make_encoder(), images(3)
    out = encoder(batch)
    assert out.shape == (3, 6)
    torch.testing.assert_close(encoder(batch[1:2])[0], out[1], atol=1e-5, rtol=1e-5)


def test_spatial_softmax_finds_the_bright_spot() -> None:
    """One channel, identity selection, a peak at row 3 of 5 and column 0 of 9: x = -1, y = 0.5."""
    softmax = SpatialSoftmax(1, 1)
    with torch.no_grad():
        softmax.select.weight.fill_(1.0)
        softmax.select.bias.zero_()  # type: ignore[union-attr]
    maps = torch.zeros(1, 1, 5, 9)
    maps[0, 0, 3, 0] = 100.0
    torch.testing.assert_close(softmax(maps), torch.tensor([[[-1.0, 0.5]]]), atol=1e-5, rtol=0)


def test_acting_crops_the_centre_and_training_crops_at_random() -> None:
    encoder = make_encoder()
    batch = torch.arange(40 * 48 * 3, dtype=torch.int32).view(1, 40, 48, 3).remainder(251).to(torch.uint8)
    assert torch.equal(encoder._cropped(batch, None), batch[:, 2:38, 2:46])
    many = batch.expand(50, -1, -1, -1)
    crops = encoder._cropped(many, torch.Generator().manual_seed(1))
    again = encoder._cropped(many, torch.Generator().manual_seed(1))
    assert crops.shape == (50, 36, 44, 3)
    assert torch.equal(crops, again)
    places = {crop.numpy().tobytes() for crop in crops}
    windows = {batch[0, i : i + 36, j : j + 44].numpy().tobytes() for i in range(5) for j in range(5)}
    assert places <= windows
    assert len(places) > 10


def test_images_of_another_size_are_refused() -> None:
    """Resized in here they would not be what was trained on: libraries differ in what area means."""
    with pytest.raises(InvalidArrayError, match=r"\[80, 96, 3\]"):
        make_encoder()(images(2, 80, 96))


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="40 x 48"):
        make_encoder(crop_width=50)
    with pytest.raises(ConfigError, match="33 pixels"):
        make_encoder(crop_height=32)


def test_default_is_resnet18() -> None:
    trunk = [v.numel() for n, v in ImageEncoder().named_parameters() if not n.startswith(("softmax", "out"))]
    assert abs(sum(trunk) - 11.18e6) < 0.05e6
