"""Worlds: drawn repeatably, furnished without collisions, seen consistently."""

from __future__ import annotations

import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.training.layout import Footprints, overlaps
from omni_gen3d.training.worlds import (
    WORLD_KINDS,
    WorldFrames,
    Worlds,
    distance_to_nearest,
    render_worlds,
    sample_worlds,
    start_cameras,
    world_generator,
)

HEIGHT, WIDTH, FOCAL = 18, 32, 24.0


def _worlds_and_cameras(count: int, seed: int = 0) -> tuple[Worlds, torch.Tensor]:
    generator = world_generator(seed, "train", "cpu")
    worlds = sample_worlds(count, generator, "cpu")
    return worlds, start_cameras(worlds, generator)[:, None]


def _render(worlds: Worlds, cameras: torch.Tensor, supersample: int = 1) -> WorldFrames:
    return render_worlds(worlds, cameras, torch.full((len(worlds),), FOCAL), HEIGHT, WIDTH, supersample)


def _surface_points(depth: torch.Tensor, cameras: torch.Tensor) -> torch.Tensor:
    """Unproject depth ``(B, T, H, W)`` pixel by pixel: world points ``(B, T, H, W, 3)``."""
    v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    rays = torch.stack([(u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, torch.ones_like(u)], -1)
    turned = torch.einsum("btij,hwj->bthwi", cameras[..., :3, :3], rays)
    return cameras[:, :, None, None, :3, 3] + turned * depth[..., None]


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Two generators of one seed and split lead to equal worlds, cameras and pictures."""
    first, second = _worlds_and_cameras(3, seed=5), _worlds_and_cameras(3, seed=5)
    assert torch.equal(first[1], second[1])
    a, b = _render(*first), _render(*second)
    assert torch.equal(a.rgb, b.rgb) and torch.equal(a.depth, b.depth) and torch.equal(a.surface, b.surface)


def test_splits_never_share_a_stream() -> None:
    """Over many seeds, no held-out generator starts like any training generator."""
    starts = {
        split: {tuple(torch.rand(4, generator=world_generator(s, split, "cpu")).tolist()) for s in range(200)}
        for split in ("train", "heldout")
    }
    assert len(starts["train"]) == len(starts["heldout"]) == 200
    assert not starts["train"] & starts["heldout"]


@pytest.mark.parametrize(("seed", "split"), [(-1, "train"), (2**62, "train"), (0, "validation")])
def test_an_unknown_split_or_seed_is_refused(seed: int, split: str) -> None:
    """The error names the value."""
    with pytest.raises(InputError, match=str(seed) if split == "train" else split):
        world_generator(seed, split, "cpu")  # type: ignore[arg-type]


def test_every_kind_is_drawn_and_furnished() -> None:
    """All six kinds occur, every room holds something, and the piece that tells the kind always finds a place."""
    worlds = sample_worlds(120, world_generator(0, "train", "cpu"), "cpu")
    assert set(worlds.kind.tolist()) == set(range(len(WORLD_KINDS)))
    assert (worlds.object_type >= 0).any(1).all()
    assert (worlds.object_type[:, 0] >= 0).float().mean() > 0.95


def test_furniture_stays_apart_and_inside() -> None:
    """No two parts of different objects interpenetrate and no corner of a part leaves the room."""
    solids = sample_worlds(80, world_generator(0, "train", "cpu"), "cpu").solids
    present = solids.box_half[..., 0] > 0
    yaw = torch.atan2(solids.box_axis[..., 1], solids.box_axis[..., 0])
    rectangles = Footprints(solids.box_center[..., :2], solids.box_half[..., :2], yaw, present)
    slot = torch.arange(present.shape[1]) // 6
    assert not (overlaps(rectangles, rectangles) & (slot[:, None] != slot)).any()
    cos, sin = solids.box_axis.abs().unbind(-1)
    half_x, half_y, half_z = solids.box_half.unbind(-1)
    reach = torch.stack([half_x * cos + half_y * sin, half_x * sin + half_y * cos], -1)
    inside = solids.box_center[..., :2].abs() + reach <= solids.half_extents[:, None] + 1e-4
    low, high = solids.box_center[..., 2] - half_z, solids.box_center[..., 2] + half_z
    assert inside.all(-1)[present].all()
    assert (low[present] > -1e-4).all() and (high <= solids.height[:, None])[present].all()


def test_rectangles_overlap_as_their_points_do() -> None:
    """The separating-axis test agrees with brute force: some grid point of one rectangle lies in the other."""
    generator = torch.Generator().manual_seed(1)
    a, b = (
        Footprints(
            torch.rand(1, 12, 2, generator=generator) * 2,
            0.1 + 0.4 * torch.rand(1, 12, 2, generator=generator),
            6.28 * torch.rand(1, 12, generator=generator),
            torch.ones(1, 12, dtype=torch.bool),
        )
        for _ in range(2)
    )
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 41))
    found = overlaps(a, b)[0]
    for i in range(12):
        for j in range(12):
            local = grid * a.half[0, i]
            cos, sin = a.yaw[0, i].cos(), a.yaw[0, i].sin()
            points = a.center[0, i] + torch.stack(
                [local[:, 0] * cos - local[:, 1] * sin, local[:, 0] * sin + local[:, 1] * cos], -1
            )
            offset = points - b.center[0, j]
            cos, sin = b.yaw[0, j].cos(), b.yaw[0, j].sin()
            inside = ((offset[:, 0] * cos + offset[:, 1] * sin).abs() < b.half[0, j, 0]) & (
                (offset[:, 1] * cos - offset[:, 0] * sin).abs() < b.half[0, j, 1]
            )
            if inside.any():
                assert found[i, j]
            elif found[i, j]:
                larger = b.half[0, j] + 0.04
                near = ((offset[:, 0] * cos + offset[:, 1] * sin).abs() < larger[0]) & (
                    (offset[:, 1] * cos - offset[:, 0] * sin).abs() < larger[1]
                )
                assert near.any()


def test_first_cameras_are_upright_and_clear() -> None:
    """Half a metre of air around every camera, eyes at 0.6-1.7 m, a gaze slightly down, a right-handed frame."""
    worlds, cameras = _worlds_and_cameras(40)
    cameras = cameras[:, 0]
    assert (distance_to_nearest(worlds, cameras[:, None, :3, 3]) >= 0.5).all()
    assert ((cameras[:, 2, 3] >= 0.6) & (cameras[:, 2, 3] <= 1.7)).all()
    pitch = torch.asin(cameras[:, 2, 2])
    assert ((pitch > -0.301) & (pitch < -0.049)).all()
    assert torch.allclose(cameras[:, 2, 0], torch.zeros(40), atol=1e-6)
    assert torch.allclose(torch.linalg.det(cameras[:, :3, :3]), torch.ones(40), atol=1e-5)


def test_depth_lands_on_surfaces() -> None:
    """Depths from two cameras of the same worlds unproject to points at distance zero from something solid."""
    worlds, cameras = _worlds_and_cameras(6)
    moved = cameras.clone()
    moved[..., :3, 3] += 0.3 * cameras[..., :3, 0]
    both = torch.cat([cameras, moved], 1)
    points = _surface_points(_render(worlds, both).depth, both).flatten(1, 3)
    assert distance_to_nearest(worlds, points).abs().max() < 5e-3


def test_nothing_solid_before_the_first_hit() -> None:
    """Marching along the rays meets no surface before the depth that was rendered."""
    worlds, cameras = _worlds_and_cameras(6)
    depth = _render(worlds, cameras).depth
    for fraction in torch.linspace(0.05, 0.97, 24):
        points = _surface_points(depth * fraction, cameras).flatten(1, 3)
        assert (distance_to_nearest(worlds, points) > 0).all()


def test_surfaces_name_what_was_hit() -> None:
    """A point labelled floor is at z = 0, a wall at the room's extent, and no pixel shows an empty slot."""
    worlds, cameras = _worlds_and_cameras(12)
    frames = _render(worlds, cameras)
    points, surface = _surface_points(frames.depth, cameras)[:, 0], frames.surface[:, 0].long()
    assert points[surface == 13][:, 2].abs().max() < 1e-3
    to_x_wall = (points[..., 0].abs() - worlds.half_extents[:, None, None, 0]).abs()
    assert to_x_wall[(surface == 9) | (surface == 10)].max() < 1e-3
    shown = surface.clamp(max=8).flatten(1)
    is_object = (surface <= 8).flatten(1)
    assert (torch.gather(worlds.object_type, 1, shown)[is_object] >= 0).all()


def test_supersampling_keeps_shape_and_mean() -> None:
    """More rays per pixel change neither the shapes nor the geometry, and the colours only a little."""
    worlds, cameras = _worlds_and_cameras(2)
    one, two = _render(worlds, cameras, 1), _render(worlds, cameras, 2)
    assert one.rgb.shape == two.rgb.shape == (2, 3, 1, HEIGHT, WIDTH)
    assert two.depth.shape == two.surface.shape == (2, 1, HEIGHT, WIDTH)
    assert torch.equal(one.depth, two.depth) and two.surface.dtype == torch.int16
    assert (one.rgb - two.rgb).abs().mean() < 0.05


def test_pictures_are_finite_even_from_outside() -> None:
    """A camera pulled back through the wall, through the floor or far away still sees finite values."""
    worlds, cameras = _worlds_and_cameras(4)
    shifts = torch.tensor([[0.0, 0, 0], [30, 0, 0], [-30, 5, 0], [0, 0, -3], [0, 0, 20]])
    cameras = cameras.repeat(1, len(shifts), 1, 1)
    cameras[..., :3, 3] += shifts
    frames = _render(worlds, cameras)
    assert torch.isfinite(frames.rgb).all() and (frames.rgb >= 0).all() and (frames.rgb <= 1).all()
    assert torch.isfinite(frames.depth).all() and (frames.depth > 0).all()


def test_focal_length_belongs_to_each_world() -> None:
    """Rendering a batch with two focal lengths equals rendering each world with its own."""
    worlds, cameras = _worlds_and_cameras(2)
    focal = torch.tensor([20.0, 32.0])
    batch = render_worlds(worlds, cameras, focal, HEIGHT, WIDTH, 1)
    single = render_worlds(worlds[1:], cameras[1:], focal[1:], HEIGHT, WIDTH, 1)
    assert torch.allclose(batch.rgb[1:], single.rgb, atol=1e-6) and torch.equal(batch.surface[1:], single.surface)


def test_cameras_must_fit_the_worlds() -> None:
    """A batch of another size is refused by name."""
    worlds, cameras = _worlds_and_cameras(2)
    with pytest.raises(InputError, match="2 worlds"):
        render_worlds(worlds, cameras[:1], torch.tensor([20.0, 20.0]), HEIGHT, WIDTH)


def test_distances_are_signed() -> None:
    """Positive in the air, negative inside a box and outside the room, exact under the ceiling."""
    worlds, cameras = _worlds_and_cameras(30)
    centers = worlds.solids.box_center[:, :1]
    standing = worlds.object_type[:, 0] >= 0
    assert (distance_to_nearest(worlds, centers)[standing] < 0).all()
    outside = torch.cat([worlds.half_extents + 0.5, torch.ones(30, 1)], 1)[:, None]
    assert torch.allclose(distance_to_nearest(worlds, outside), torch.full((30, 1), -0.5), atol=1e-5)
    high = cameras[..., :3, 3].clone()
    high[..., 2] = worlds.height[:, None] - 0.01
    assert torch.allclose(distance_to_nearest(worlds, high), torch.full((30, 1), 0.01), atol=1e-5)
