"""Bullet time: the static network with zeros added, one pass a time, one count for all times."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from omni_gen3d.decoder.bullet_time import decode_times, lasting_slots
from omni_gen3d.decoder.mini import MiniDecoder, decode, time_code
from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.types import Cameras, MovingCache, VideoLatents
from omni_gen3d.video.trajectories import six_trajectories

VIEWS, LATENT_FRAMES, ROWS, COLUMNS, TIMES = 6, 3, 4, 6, 3


@pytest.fixture
def network() -> MiniDecoder:
    torch.manual_seed(0)
    return MiniDecoder(16, 64, 1, token_rows=2, token_columns=3, knows_time=True).eval()


@pytest.fixture
def video() -> VideoLatents:
    generator = torch.Generator().manual_seed(0)
    poses = six_trajectories(17, generator, "cpu").flatten(0, 1)
    lens = intrinsics_from_focal(40.0, 8 * COLUMNS, 8 * ROWS).float().repeat(len(poses), 1, 1)
    depth = torch.rand(VIEWS, LATENT_FRAMES, 4 * ROWS, 4 * COLUMNS, generator=generator) + 0.5
    latents = torch.randn(VIEWS, 16, LATENT_FRAMES, ROWS, COLUMNS, generator=generator)
    return VideoLatents(latents, depth, Cameras(torch.linalg.inv(poses), lens, 8 * COLUMNS, 8 * ROWS), 17)


@pytest.fixture
def cache(video: VideoLatents) -> MovingCache:
    generator = torch.Generator().manual_seed(1)
    rgb = torch.rand(TIMES, VIEWS, LATENT_FRAMES, 3, 4 * ROWS, 4 * COLUMNS, generator=generator)
    return MovingCache(torch.tensor([0.0, 0.25, 1.0]), video.cache_depth.repeat(TIMES, 1, 1, 1, 1), rgb)


# So many that no rule of pruning matters.
EVERY_ONE = 10**6


def _awake(network: MiniDecoder) -> MiniDecoder:
    """The same network with its time layers no longer silent."""
    generator = torch.Generator().manual_seed(2)
    for layer in (network.moment_stem, network.moment_detail, network.source_time, network.target_time):
        with torch.no_grad():
            layer.weight.copy_(0.3 * torch.randn(layer.weight.shape, generator=generator))
    return network


def test_new_layers_change_nothing_at_first(network, video, cache):
    """Fresh time layers are silent: a pass for any time is the static pass, and so is a network without them."""
    static = decode(network, video, EVERY_ONE)
    for frame in decode_times(network, video, cache, EVERY_ONE, 8.0).frames:
        assert torch.equal(frame.means, static.means) and torch.equal(frame.opacities, static.opacities)
    unknown = MovingCache(cache.times, torch.zeros_like(cache.depth), cache.rgb)
    blind = replace(video, cache_depth=torch.zeros_like(video.cache_depth))
    for frame in decode_times(network, video, unknown, EVERY_ONE, 8.0).frames:
        assert torch.equal(frame.sh, decode(network, blind, EVERY_ONE).sh)
    older = MiniDecoder(16, 64, 1, token_rows=2, token_columns=3).eval()
    state = {name: value for name, value in network.state_dict().items() if name in older.state_dict()}
    older.load_state_dict(state)
    assert torch.equal(decode(older, video, EVERY_ONE).means, static.means)


def test_a_static_request_never_sees_the_time_layers(network, video):
    """Whatever they have learned, a scene that stands still is decoded without them."""
    before = decode(network, video, 500)
    assert torch.equal(decode(_awake(network), video, 500).means, before.means)


def test_slots_keep_their_place(network, video, cache):
    """All times have one count and one order, which the greatest opacity over the times decides."""
    sequence = decode_times(_awake(network), video, cache, 400, 8.0)
    assert len(sequence) == TIMES and {len(frame) for frame in sequence.frames} == {400}
    alone = [
        decode_times(
            network, video, MovingCache(cache.times[[s]], cache.depth[[s]], cache.rgb[[s]]), 10**6, 8.0
        ).frames[0]
        for s in range(TIMES)
    ]
    keep = lasting_slots(torch.stack([frame.opacities for frame in alone]), 400)
    for together, single in zip(sequence.frames, alone, strict=True):
        assert torch.equal(together.means, single.means[keep])
    assert not torch.equal(sequence.frames[0].sh, sequence.frames[2].sh)


def test_the_most_opaque_slots_last():
    """A slot that is opaque once outlives one that is half opaque always; ties go to the earlier."""
    opacities = torch.tensor([[0.5, 0.9, 0.1, 0.9], [0.5, 0.1, 0.2, 0.3]])
    assert lasting_slots(opacities, 2).tolist() == [1, 3]
    assert lasting_slots(opacities, 3).tolist() == [0, 1, 3]
    assert lasting_slots(torch.ones(2, 4), 2).tolist() == [0, 1]


def test_time_codes_tell_times_apart():
    """Seven numbers each, all within [-1, 1], different at all seventeen times."""
    codes = time_code(torch.linspace(0, 1, 17))
    assert codes.shape == (17, 7) and float(codes.abs().max()) <= 1.0
    assert float((torch.cdist(codes, codes) + 9 * torch.eye(17)).min()) > 0.1
