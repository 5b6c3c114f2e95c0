"""From a first frame to what lies around it, with tiny random networks."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.video.depth import DepthNetwork
from omni_gen3d.video.diffusion import INPUT_CHANNELS
from omni_gen3d.video.imagine import (
    Imagined,
    VideoModel,
    draw_noise,
    imagine,
    latent_of_picture,
    nearest_in_cells,
    picture_from_text,
)
from omni_gen3d.video.tokenizer import accelerate_tokenizer, set_latent_moments, to_raw_domain

HEIGHT, WIDTH, VIEWS, FRAMES = 32, 32, 2, 9
LATENT_FRAMES = (FRAMES - 1) // 8 + 1


@pytest.fixture(scope="module")
def model() -> VideoModel:
    torch.manual_seed(0)
    tokenizer = AutoencoderKLCosmos(
        latent_channels=16,
        encoder_block_out_channels=(8, 8, 8, 16),
        decode_block_out_channels=(8, 8, 16, 16),
        attention_resolutions=(32,),
        resolution=128,
        num_layers=1,
        patch_size=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=8,
    ).eval()
    set_latent_moments(tokenizer, torch.zeros(16), torch.ones(16))
    denoiser = CosmosTransformer3DModel(
        in_channels=INPUT_CHANNELS,
        out_channels=16,
        num_attention_heads=1,
        attention_head_dim=64,
        num_layers=1,
        mlp_ratio=1.0,
        text_embed_dim=384,
        adaln_lora_dim=8,
        max_size=(16, 44, 80),
        patch_size=(1, 2, 2),
        rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    ).eval()
    depth = DepthNetwork(channels=(8, 32), num_attention_layers=1).eval()
    return VideoModel(accelerate_tokenizer(tokenizer), depth, denoiser)


def text() -> torch.Tensor:
    return torch.randn(1, 4, 384, generator=torch.Generator().manual_seed(1))


def noise(count: int, latent_frames: int, seed: int = 2) -> torch.Tensor:
    return draw_noise(count, latent_frames, HEIGHT, WIDTH, torch.Generator().manual_seed(seed))


def around(model: VideoModel, seed: int = 2, on_step=None) -> tuple[Imagined, torch.Tensor]:
    """A wall at depth 1 from a camera that stays and one that steps aside, and the first frame's latent."""
    picture = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3)) * 2 - 1
    poses = torch.eye(4).repeat(1, VIEWS, FRAMES, 1, 1)
    poses[0, 1, :, 0, 3] = torch.linspace(0, 0.4, FRAMES)
    first = latent_of_picture(model, picture)
    lens = intrinsics_from_focal(30.0, WIDTH, HEIGHT).float()[None]
    depth = torch.ones(1, HEIGHT, WIDTH)
    starts = noise(VIEWS, LATENT_FRAMES, seed)
    return imagine(model, picture, first, depth, lens, poses, text(), starts, steps=1, on_step=on_step), first


def test_picture_from_text(model):
    """Text and noise decide a picture in [-1, 1] and its latent; other noise gives another."""
    picture, latents = picture_from_text(model, text(), noise(1, 1), steps=2, guidance=2.0)
    assert picture.shape == (1, 3, HEIGHT, WIDTH) and latents.shape == (1, 16, 1, HEIGHT // 8, WIDTH // 8)
    assert float(picture.abs().max()) <= 1
    again, _ = picture_from_text(model, text(), noise(1, 1), steps=2, guidance=2.0)
    other, _ = picture_from_text(model, text(), noise(1, 1, seed=9), steps=2, guidance=2.0)
    assert torch.equal(picture, again) and not torch.equal(picture, other)


def test_every_trajectory_starts_at_the_first_frame(model):
    """Latents and cache have their shapes, begin with the first frame, and are the same for the same noise."""
    made, first = around(model)
    assert made.latents.shape == (1, VIEWS, 16, LATENT_FRAMES, HEIGHT // 8, WIDTH // 8)
    assert made.warped_depth.shape == (1, VIEWS, FRAMES, HEIGHT // 2, WIDTH // 2)
    raw = to_raw_domain(model.tokenizer, first)
    for view in range(VIEWS):
        torch.testing.assert_close(made.latents[:, view, :, :1], raw)
    assert torch.equal(made.latents, around(model)[0].latents)
    assert not torch.equal(made.latents[..., 1:, :, :], around(model, seed=9)[0].latents[..., 1:, :, :])


def test_cache_depth_follows_the_camera(model):
    """A camera that stays sees the wall all over; one that steps aside by 12 pixels uncovers 6 of 16 columns."""
    made, _ = around(model)
    torch.testing.assert_close(made.warped_depth[0, 0], torch.ones(FRAMES, HEIGHT // 2, WIDTH // 2))
    last = made.warped_depth[0, 1, -1]
    torch.testing.assert_close(last[:, :10], torch.ones(HEIGHT // 2, 10))
    assert bool((last[:, 10:] == 0).all())
    assert torch.equal(made.cache_depth, made.warped_depth[:, :, [0, 8]])


def test_on_step_may_stop(model):
    """What ``on_step`` raises comes out of both samplers."""

    def stop(step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        around(model, on_step=stop)
    with pytest.raises(KeyboardInterrupt):
        picture_from_text(model, text(), noise(1, 1), steps=1, guidance=1.0, on_step=stop)


def test_nearest_in_cells_equals_a_loop():
    """Each 2x2 cell keeps its smallest depth above 0, and 0 where it has none."""
    generator = torch.Generator().manual_seed(4)
    depth = 0.2 + 30 * torch.rand(2, 3, 6, 8, generator=generator)
    depth *= torch.rand(depth.shape, generator=generator) > 0.6
    expected = torch.zeros(2, 3, 3, 4)
    for b, frame, row, column in torch.cartesian_prod(*(torch.arange(n) for n in expected.shape)).tolist():
        cell = depth[b, frame, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        if bool((cell > 0).any()):
            expected[b, frame, row, column] = cell[cell > 0].min()
    assert bool((expected == 0).any())
    torch.testing.assert_close(nearest_in_cells(depth), expected)
