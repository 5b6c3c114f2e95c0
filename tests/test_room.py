"""Stations become one set of Gaussians whose surfaces are single."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from omni_gen3d.config import Preset
from omni_gen3d.geometry import intrinsics_from_focal, look_at, rgb_to_sh_dc
from omni_gen3d.render import render
from omni_gen3d.room import Room
from omni_gen3d.room_floor import survey
from omni_gen3d.types import Cameras, Gaussians, Ground
from omni_gen3d.video.clearing import Clearing
from omni_gen3d.video.exploring import Anchor

HEIGHT, WIDTH, FOCAL = 32, 64, 48.0


def wall(depth: float, low: float, high: float, opacity: float = 1.0, half: float = 1.5) -> Gaussians:
    """Discs on the plane z = ``depth``, between two x, dense enough to be opaque."""
    spacing = 0.05
    x, y = torch.meshgrid(torch.arange(low, high, spacing), torch.arange(-half, half, spacing), indexing="ij")
    count = x.numel()
    return Gaussians(
        means=torch.stack([x.flatten(), y.flatten(), torch.full((count,), depth)], -1),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=torch.tensor([0.05, 0.05, 0.001]).expand(count, 3),
        opacities=torch.full((count,), opacity),
        sh=rgb_to_sh_dc(torch.rand(count, 1, 3, generator=torch.Generator().manual_seed(0))),
    )


def station(x: float = 0.0) -> Anchor:
    pose = torch.eye(4)
    pose[0, 3] = x
    nothing = torch.zeros(HEIGHT, WIDTH)
    return Anchor(nothing.expand(3, -1, -1), nothing, Ground(torch.tensor([0.0, -1, 0]), 1.0, nothing > 0), pose)


def clearing() -> Clearing:
    """1.8 m wide and from 0.9 m before the camera to 0.9 m behind it; the floor is 1 m below."""
    ahead_left_up = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    half = torch.tensor([0.9, 0.9])
    low, high = torch.cat([-half, torch.zeros(1)]), torch.cat([half, torch.tensor([1.4])])
    return Clearing(ahead_left_up, torch.tensor([0.0, 0, 1]), low, high)


def empty_room() -> Room:
    lens, settings = intrinsics_from_focal(FOCAL, WIDTH, HEIGHT), Preset(height=HEIGHT, width=WIDTH)
    return Room(lens, settings, clearing(), 1.0)


@pytest.fixture
def room() -> Room:
    """One station that sees a wall from x = -1 to 1 at z = 2; its picture reaches to x = 1.33 there."""
    room = empty_room()
    room.add(wall(2.0, -1.0, 1.0), station())
    return room


def kept_of(room: Room, later: Gaussians) -> int:
    before = len(room.pruned(10**6))
    room.add(later, station(0.3))
    return len(room.pruned(10**6)) - before


@pytest.mark.parametrize("depth", [1.0, 1.95, 2.0, 2.05])
def test_what_repeats_or_hides_a_surface_is_dropped(room: Room, depth: float) -> None:
    """A second sheet on the wall or before it, inside the first picture, adds nothing."""
    assert kept_of(room, wall(depth, -0.3, 0.3, half=0.25)) == 0


@pytest.mark.parametrize(("depth", "low", "high"), [(3.0, -0.5, 0.5), (2.0, 1.5, 2.5)])
def test_what_is_new_stays(room: Room, depth: float, low: float, high: float) -> None:
    """What lies behind the wall, or where no picture showed anything, stays."""
    assert kept_of(room, wall(depth, low, high)) == len(wall(depth, low, high))


def test_the_same_floor_at_a_grazing_angle_is_dropped() -> None:
    """Wide discs show a floor too near, by a tenth and more; that of a later station is the same all the same."""

    def floor(spacing: float, radius: float) -> Gaussians:
        x, z = torch.meshgrid(torch.arange(-1.5, 1.5, spacing), torch.arange(3.2, 8, spacing), indexing="ij")
        means = torch.stack([x.flatten(), torch.ones(x.numel()), z.flatten()], -1)
        return Gaussians(
            means=means,
            quats=torch.tensor([1.0, 0, 0, 0]).expand(len(means), 4),
            scales=torch.tensor([radius, 0.001, radius]).expand(len(means), 3),
            opacities=torch.ones(len(means)),
            sh=torch.zeros(len(means), 1, 3),
        )

    first = station()
    rows = torch.arange(HEIGHT)[:, None].expand(HEIGHT, WIDTH)
    shows_floor = rows >= HEIGHT // 2 + FOCAL / 8
    room = empty_room()
    room.add(floor(0.1, 0.2), replace(first, ground=replace(first.ground, pixels=shows_floor)))
    before = len(room.pruned(10**6))
    room.add(floor(0.25, 0.1), station(0.3))
    assert len(room.pruned(10**6)) == before


def test_pruning_keeps_what_the_stations_show(room: Room) -> None:
    """The budget is kept; what a station sees of a wall stays, and what lies hidden behind it goes."""
    room.add(wall(3.0, -0.5, 0.5), station(0.3))
    everything = room.pruned(10**6)
    seen = (everything.means[:, 2] == 2.0) & (everything.means[:, 1].abs() < 0.6)
    pruned = room.pruned(len(everything) // 2)
    assert len(pruned) == len(everything) // 2
    assert int(((pruned.means[:, 2] == 2.0) & (pruned.means[:, 1].abs() < 0.6)).sum()) == int(seen.sum())


def test_holes_in_walls_are_closed() -> None:
    """A round wall around the camera, as high as the eyes and with a hole, goes on upwards and over the hole."""
    green = torch.tensor([0.0, 1.0, 0.0])
    x, z = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40), indexing="ij")
    floor = torch.stack([x, torch.ones_like(x), z], -1).reshape(-1, 3)
    angle, height = torch.meshgrid(torch.linspace(0, math.tau, 400), torch.linspace(-0.1, 0.95, 40), indexing="ij")
    outside = ((angle - 2.0).abs() > 0.05) | ((height - 0.6).abs() > 0.1)
    angle, height = angle[outside], height[outside]
    round_wall = torch.stack([2 * angle.sin(), 1 - height, 2 * angle.cos()], -1)
    means = torch.cat([floor, round_wall])
    room = empty_room()
    room.add(
        Gaussians(
            means=means,
            quats=torch.tensor([1.0, 0, 0, 0]).expand(len(means), 4),
            scales=torch.full((len(means), 3), 0.03),
            opacities=torch.ones(len(means)),
            sh=rgb_to_sh_dc(green.expand(len(means), 1, 3)),
        ),
        station(),
    )
    room.close()
    everything = room.pruned(10**6)
    built = everything.means[len(means) :]
    built = built[built[:, 1] < 0.5]
    assert len(built) > 0 and float((built[:, [0, 2]].norm(dim=1) - 2).abs().max()) < 0.15
    ahead = torch.tensor([[math.sin(a), 0.0, math.cos(a)] for a in (0.3, 2.0, 4.0)])
    level = look_at(torch.zeros(3, 3), ahead, (0.0, -1.0, 0.0))
    lens = intrinsics_from_focal(24.0, 48, 12).expand(3, 3, 3).contiguous()
    seen = render(everything, Cameras(level, lens, 48, 12))
    assert float(seen.alpha.min()) > 0.8
    torch.testing.assert_close(seen.color, green.expand_as(seen.color), atol=0.25, rtol=0)


def test_nothing_stands_in_the_clearing(room: Room) -> None:
    """What rises from its floor is dropped, from the first station on."""
    assert kept_of(room, blob := wall(-0.6, -0.3, 0.3, half=0.25)) == 0 and len(blob) > 0


def test_the_floor_is_laid_where_none_was_seen() -> None:
    """Inside a ring of red floor the hole becomes red floor on the same plane; seen floor stays."""
    room = empty_room()
    x, z = torch.meshgrid(torch.arange(-3, 3, 0.05), torch.arange(-3, 3, 0.05), indexing="ij")
    points = torch.stack([x, torch.ones_like(x), z], -1).reshape(-1, 3)
    points = points[points[:, [0, 2]].norm(dim=1) > 0.4]
    count = len(points)
    ring = Gaussians(
        means=points,
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=torch.tensor([0.05, 0.001, 0.05]).expand(count, 3),
        opacities=torch.ones(count),
        sh=rgb_to_sh_dc(torch.tensor([1.0, 0.0, 0.0]).expand(count, 1, 3)),
    )
    room.add(ring, station())
    room.close()
    laid = room.pruned(10**6)[count:]
    laid = laid[(laid.means[:, 1] - 1).abs() < 1e-4]
    assert len(laid) > 0
    torch.testing.assert_close(laid.means[:, 1], torch.ones(len(laid)))
    assert float(laid.means[:, [0, 2]].norm(dim=1).max()) < 0.5
    seen = render(room.pruned(10**6), survey(clearing(), 1.0, WIDTH, HEIGHT))
    below = seen.color[:, 3 * HEIGHT // 4 :]
    torch.testing.assert_close(below, torch.tensor([1.0, 0.0, 0.0]).expand_as(below), atol=0.1, rtol=0)


def test_the_survey_sees_the_whole_floor() -> None:
    """Every point of the clearing's floor and every place half a metre above it is in some picture."""
    box, cameras = clearing(), survey(clearing(), 1.0, WIDTH, HEIGHT)
    shares = torch.linspace(0.02, 0.98, 25)
    for height in (0.0, 0.5):
        points = torch.stack(torch.meshgrid(shares, shares, indexing="ij"), -1).reshape(-1, 2)
        local = torch.cat([box.low[:2] + points * (box.high - box.low)[:2], torch.full((len(points), 1), height)], 1)
        world = (local - box.translation) @ box.rotation
        seen = torch.einsum("cij,pj->cpi", cameras.world_to_camera[:, :3, :3], world)
        seen = seen + cameras.world_to_camera[:, None, :3, 3]
        pixel = seen[..., :2] / seen[..., 2:] * cameras.intrinsics[0, 0, 0] + cameras.intrinsics[0, :2, 2]
        inside = (seen[..., 2] > 0) & (pixel > 0).all(-1) & (pixel < torch.tensor([WIDTH, HEIGHT])).all(-1)
        assert bool(inside.any(0).all())
