"""The decoder's training at toy size, with a slow rasteriser in plain torch in gsplat's place (gsplat needs CUDA)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omni_gen3d.checkpoints import load_network, save_network
from omni_gen3d.decoder.mini import MiniDecoder
from omni_gen3d.geometry import quat_to_matrix
from omni_gen3d.training import decoder, distillation, scenes
from omni_gen3d.training.clips import Pool
from omni_gen3d.training.decoder import (
    gaussians_kept,
    kept_together,
    load_video_model,
    more_important_half,
    steadiness_loss,
    train_decoder,
)
from omni_gen3d.training.loop import Host
from omni_gen3d.training.rasterize import Rendered
from omni_gen3d.training.worlds import world_generator

HOST = Host(0, 1, torch.device("cpu"))
TOY = replace(
    decoder.DEFAULTS, batch_size=2, pool_size=2, height=16, width=32, num_frames=9, minutes=0.3, log_every_s=60.0
)


def slow_rasterize(gaussians, camera_to_first, intrinsics, height, width, background) -> Rendered:
    """Every Gaussian at every pixel, sorted by depth and blended front to back; differentiable."""
    views = []
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for b, cameras in enumerate(camera_to_first):
        rotation = quat_to_matrix(gaussians["quats"][b] / gaussians["quats"][b].norm(dim=-1, keepdim=True))
        spread = rotation @ torch.diag_embed(gaussians["scales"][b] ** 2) @ rotation.mT
        for camera in cameras:
            turn = camera[:3, :3].T
            local = (gaussians["means"][b] - camera[:3, 3]) @ camera[:3, :3]
            seen = local[:, 2].detach() > 0.05
            x, y, z = local.unbind(-1)
            z = z.clamp(min=0.05)
            focal = intrinsics[b, 0, 0]
            zero = torch.zeros_like(z)
            jacobian = torch.stack([1 / z, zero, -x / z**2, zero, 1 / z, -y / z**2], -1).unflatten(-1, (2, 3)) * focal
            flat = jacobian @ turn @ spread @ turn.T @ jacobian.mT + 0.3 * torch.eye(2)
            du = u[..., None] - (x / z * focal + intrinsics[b, 0, 2])
            dv = v[..., None] - (y / z * focal + intrinsics[b, 1, 2])
            inverse = torch.linalg.inv(flat)
            power = inverse[:, 0, 0] * du * du + 2 * inverse[:, 0, 1] * du * dv + inverse[:, 1, 1] * dv * dv
            alpha = (gaussians["opacities"][b] * torch.exp(-0.5 * power)).clamp(max=0.99) * seen
            order = z.argsort()
            alpha = alpha[..., order]
            through = torch.cumprod(torch.cat([torch.ones_like(alpha[..., :1]), 1 - alpha[..., :-1]], -1), -1)
            weight = alpha * through
            color = weight @ gaussians["rgb"][b][order] + (1 - weight.sum(-1, keepdim=True)) * background
            views.append((color, (weight @ z[order]) / weight.sum(-1).clamp(min=1e-6), weight.sum(-1)))
    shape = camera_to_first.shape[:2]
    return Rendered(*(torch.stack(parts).unflatten(0, shape) for parts in zip(*views, strict=True)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "rasterize", slow_rasterize)
    monkeypatch.setattr(decoder, "MAX_GAUSSIANS", 200)
    monkeypatch.setattr(decoder, "_REFRESH_STEPS", 2)
    monkeypatch.setattr(distillation, "_SCENES_PER_CHUNK", 1)
    monkeypatch.setattr(distillation, "_PICTURES_PER_CHUNK", 1)
    monkeypatch.setattr(distillation, "_PROMPTS_AT_ONCE", 1)
    monkeypatch.setattr(scenes, "PICTURE_STEPS", 2)
    monkeypatch.setattr(scenes, "VIDEO_STEPS", 1)


def test_a_static_checkpoint_learns_to_move(toy_weights: Path, tmp_path: Path, small: None) -> None:
    """Training goes on from a decoder without time layers, which it gains; they no longer are zero, all is finite."""
    torch.manual_seed(1)
    save_network(MiniDecoder(32, 64, 1, latent_frames=2, token_rows=1, token_columns=2), tmp_path / "old", "float16")
    folders = (toy_weights / "tokenizer", toy_weights / "depth", toy_weights / "diffusion")
    train_decoder(TOY, HOST, tmp_path / "new", tmp_path / "old", *folders)
    trained = load_network(MiniDecoder, tmp_path / "new")
    assert trained.config["knows_time"]
    assert all(bool(value.isfinite().all()) for value in trained.state_dict().values())
    assert float(trained.moment_stem.weight.abs().max()) > 0 and float(trained.target_time.weight.abs().max()) > 0
    last = json.loads((tmp_path / "new" / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < last["moving_psnr_db"] < 60 and 0 < last["fidelity_psnr_db"] < 60
    assert last["pool"] >= 1 and last["moving_pool"] >= 1


def test_one_decoder_learns_from_two_sizes(toy_weights: Path, tmp_path: Path, small: None) -> None:
    """Of scenes four times as large four times as many Gaussians are kept; the log has their figures beside."""
    torch.manual_seed(1)
    save_network(MiniDecoder(32, 64, 1, latent_frames=2, token_rows=1, token_columns=2), tmp_path / "old", "float16")
    folders = (toy_weights / "tokenizer", toy_weights / "depth", toy_weights / "diffusion")
    config = replace(TOY, minutes=0.5)
    train_decoder(
        config, HOST, tmp_path / "new", tmp_path / "old", *folders, films=False, larger=config.of_size(64, 32)
    )
    last = json.loads((tmp_path / "new" / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] >= 3 and last["larger_pool"] >= 1
    assert 0 < last["larger_fidelity_psnr_db"] < 60 and 0 < last["fidelity_psnr_db"] < 60
    assert gaussians_kept(352, 640) == 4 * gaussians_kept(176, 320)


def _maps(count: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "means": torch.rand(1, count, 3, generator=generator),
        "scales": torch.rand(1, count, 3, generator=generator) + 0.1,
        "opacities": torch.rand(1, count, generator=generator),
        "rgb": torch.rand(1, count, 3, generator=generator),
    }


def test_pairs_keep_the_same_slots() -> None:
    """Both times keep the slots whose greater opacity is greatest."""
    a, b = _maps(50, 0), _maps(50, 1)
    kept = kept_together([a, b], 20)
    best = torch.maximum(a["opacities"], b["opacities"])[0].argsort(descending=True)[:20]
    for gaussians, one in zip((a, b), kept, strict=True):
        assert torch.equal(one["means"][0], gaussians["means"][0, best])


def test_steadiness_counts_what_looks_the_same() -> None:
    """Change costs where both caches agree; where colour or depth differ, or one is unknown, it is free."""
    depth, rgb = torch.ones(1, 1, 1, 2, 2), torch.full((1, 1, 1, 3, 2, 2), 0.5)
    other_depth, other_rgb = depth.clone(), rgb.clone()
    other_depth[..., 0, 0] = 0.0
    other_depth[..., 0, 1] = 1.5
    other_rgb[..., 1, 0] = 0.9
    a = _maps(4, 0)
    b = {name: value.clone() for name, value in a.items()}
    b["rgb"][0, :3] += 0.3
    assert float(steadiness_loss([a, b], [(depth, rgb), (other_depth, other_rgb)])) == 0.0
    b["rgb"][0, 3] += 0.3
    assert float(steadiness_loss([a, b], [(depth, rgb), (other_depth, other_rgb)])) == pytest.approx(0.3, abs=1e-5)


def test_half_is_the_more_opaque_one_and_its_limit_is_soft() -> None:
    """Undisturbed it is the more opaque half as it is; a picture that wants more of them pulls hardest at the limit."""
    maps = _maps(40, 2)
    opacities = maps["opacities"].clone().requires_grad_()
    half = more_important_half(maps | {"opacities": opacities}, 0.0)
    best = opacities[0].argsort(descending=True)[:20]
    assert torch.equal(half["means"][0], maps["means"][0, best])
    assert torch.allclose(half["opacities"][0], opacities[0, best])
    half["opacities"].sum().backward()
    assert opacities.grad is not None
    pull = opacities.grad[0] * opacities.detach()[0] * (1 - opacities.detach()[0])  # of the logits
    bare = opacities.detach()[0] * (1 - opacities.detach()[0])
    assert float(pull[best[-1]] / maps["opacities"][0, best[-1]]) >= 0.25
    assert bool((pull[best] > bare[best]).all()) and float(pull.sum()) == pytest.approx(float(pull[best].sum()))


def test_disturbed_halves_differ_and_favour_the_opaque() -> None:
    """With noise other ones are chosen each time, the most opaque ones nearly always."""
    maps = {name: value[:, :200] for name, value in _maps(200, 3).items()}
    generator = torch.Generator().manual_seed(0)
    order = maps["opacities"][0].argsort(descending=True)
    chosen = torch.zeros(200)
    for _ in range(50):
        half = more_important_half(maps, 1.0, generator)
        chosen += torch.isin(maps["means"][0, :, 0], half["means"][0, :, 0]).float()
    assert float(chosen[order[:20]].mean()) > 45 and float(chosen[order[-20:]].mean()) < 5
    assert 5 < float(chosen[order[95:105]].mean()) < 45


def test_without_films_the_decoder_gains_no_layers_of_time(toy_weights: Path, tmp_path: Path, small: None) -> None:
    """Nothing moves in the pools, and a spent budget saves the checkpoint as it was."""
    torch.manual_seed(1)
    old = MiniDecoder(32, 64, 1, latent_frames=2, token_rows=1, token_columns=2)
    save_network(old, tmp_path / "old", "float16")
    folders = (toy_weights / "tokenizer", toy_weights / "depth", toy_weights / "diffusion")
    train_decoder(replace(TOY, minutes=0.01), HOST, tmp_path / "new", tmp_path / "old", *folders, films=False)
    trained = load_network(MiniDecoder, tmp_path / "new")
    assert not trained.config["knows_time"]
    assert torch.allclose(trained.head.weight, old.head.weight, atol=1e-3)
    last = json.loads((tmp_path / "new" / "log.jsonl").read_text().splitlines()[-1])
    assert last["pool"] >= 1 and last["moving_pool"] == 0


def test_turned_round_frames_come_with_their_cameras(toy_weights: Path, small: None) -> None:
    """Trajectory V + v is trajectory v backwards: its last frame is seen from the film's own camera."""
    model = load_video_model(toy_weights / "tokenizer", toy_weights / "depth", toy_weights / "diffusion", HOST.device)
    source = distillation.SceneSource(model, TOY, world_generator(0, "train", "cpu"), np.random.default_rng(0))
    films, ahead, back = source.moving()
    rows = distillation.moving_rows(films, ahead, back)
    cameras = rows["camera_to_first"]
    assert torch.allclose(cameras[:, 6:, -1], torch.eye(4), atol=1e-6)
    assert torch.equal(cameras[:, 6:].flip(2), cameras[:, :6])
    assert rows["teacher"].shape == (1, 12, 3, 9, 16, 32) and rows["warped_depth"].shape == (1, 12, 9, 8, 16)
    pool = Pool(2)
    pool.add(**rows)
    assert pool.draw(3)["frames"].shape == (3, 3, 9, 16, 32)
