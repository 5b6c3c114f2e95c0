"""The anchor that turns: cameras, what is known from them, pictures that continue it, depths that fit."""

from __future__ import annotations

import math

import pytest
import torch

from omni_gen3d.errors import CancelledError
from omni_gen3d.geometry import intrinsics_from_focal, pixel_rays
from omni_gen3d.types import Ground
from omni_gen3d.video.cache3d import Warp
from omni_gen3d.video.clearing import Clearing, find_clearing
from omni_gen3d.video.exploring import (
    RING_DEG,
    Anchor,
    complete_pictures,
    explore,
    known_from,
    on_floor,
    settle_depth,
    sketch,
    turn,
)
from omni_gen3d.video.text import TEXT_CHANNELS

HEIGHT, WIDTH = 32, 64
UP = torch.tensor([0.0, -0.8, -0.6])


def lens() -> torch.Tensor:
    return intrinsics_from_focal(0.75 * WIDTH, WIDTH, HEIGHT)


def ground() -> Ground:
    return Ground(UP, 1.0, torch.zeros(HEIGHT, WIDTH, dtype=torch.bool))


def first_anchor() -> Anchor:
    picture = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Anchor(picture, torch.full((HEIGHT, WIDTH), 2.0), ground(), torch.eye(4))


def seeing_floor() -> Anchor:
    return on_floor(first_anchor(), clearing(), lens())


def clearing() -> Clearing:
    return find_clearing(first_anchor().depth, ground(), lens(), 2.0, 5.0)


@pytest.mark.parametrize("degrees", [0, 45, -90, 180])
def test_turns_keep_the_vertical(degrees: int) -> None:
    """A turned camera sees the same floor normal and stands where it stood; a full turn's ring faces all around."""
    camera = turn(degrees, ground())
    torch.testing.assert_close(camera[:3, :3].T @ UP, UP)
    torch.testing.assert_close(camera[:3, :3] @ camera[:3, :3].T, torch.eye(3))
    assert bool((camera[:3, 3] == 0).all())
    ahead, start = (axis - (axis @ UP) * UP for axis in (camera[:3, 2], torch.eye(3)[2]))
    cosine = float(ahead @ start / ahead.norm() / start.norm())
    assert cosine == pytest.approx(math.cos(math.radians(degrees)), abs=1e-5)


def test_the_ring_closes() -> None:
    """The stations stand a constant turn apart all around, and both neighbours of the last are known by then."""
    around = sorted([0, *(degrees % 360 for degrees in RING_DEG)])
    assert {b - a for a, b in zip(around, [*around[1:], 360], strict=True)} == {45}
    assert {(RING_DEG[-1] + 45) % 360 - 360, (RING_DEG[-1] - 45) % 360} <= set(RING_DEG[:-1])


def test_a_picture_knows_what_its_neighbours_see() -> None:
    """Turned a little, a part of the picture is known; turned around, a picture knows nothing and is left out."""
    anchor = first_anchor()
    share = float(known_from([anchor], lens(), turn(30, ground())[None]).mask.mean())
    assert 0.2 < share < 0.8
    behind = Anchor(anchor.picture, anchor.depth, ground(), turn(180, ground()))
    both = known_from([anchor, behind], lens(), turn(30, ground())[None])
    assert float(both.mask.mean()) == pytest.approx(share)
    halved = known_from([anchor], lens(), torch.eye(4)[None], unit=0.5)
    torch.testing.assert_close(halved.depth[halved.mask > 0], torch.full_like(halved.depth, 4.0)[halved.mask > 0])


def test_pictures_show_what_is_known(model) -> None:
    """Away from the seam the known half is in every picture as it was; the candidates differ in the other half."""
    rgb = torch.rand(1, 3, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(1, 1, 1, HEIGHT, WIDTH)
    mask[..., : WIDTH // 2] = 1
    known = Warp(rgb * mask, mask, mask)
    text = torch.zeros(1, 4, TEXT_CHANNELS)
    generator = torch.Generator().manual_seed(1)
    made = complete_pictures(
        model, known, known, text, generator, count=2, steps=3, guidance=1.0, on_step=lambda share: None
    )
    kept = WIDTH // 2 - 8
    torch.testing.assert_close(made[:, :, :, :kept], rgb[:, :, 0, :, :kept].expand(2, -1, -1, -1))
    assert float((made[0] - made[1])[:, :, WIDTH // 2 :].abs().mean()) > 1e-3


def test_depth_continues_what_is_known_and_lies_on_the_floor() -> None:
    """An estimate 20 % too far is brought to the known depth beside it, and the floor's pixels onto its plane."""
    rays = pixel_rays(lens(), HEIGHT, WIDTH)
    up = torch.tensor([0.0, -1.0, 0.0])
    to_floor = torch.where(rays[..., 1] > 0, 1.0 / rays[..., 1].clamp(min=1e-6), 99.0)
    truth = to_floor.clamp(max=4.0)
    known = truth.clone()
    known[:, WIDTH // 2 :] = 0
    nowhere = torch.zeros_like(truth)
    depth, floor = settle_depth(1.2 * truth, known, nowhere, lens(), up, 1.0)
    beside = slice(WIDTH // 2, WIDTH // 2 + 8)
    assert float((depth / truth - 1)[:, beside].abs().max()) < 0.05
    assert float(floor.pixels.float().mean()) > 0.1
    torch.testing.assert_close((depth[..., None] * rays)[floor.pixels][:, 1], torch.ones(int(floor.pixels.sum())))
    untouched, _ = settle_depth(truth, nowhere, nowhere, lens(), up, 99.0)
    torch.testing.assert_close(untouched, truth)


def test_nothing_new_stands_in_the_clearing() -> None:
    """What would be nearer than the clearing reaches is moved to its border; what is known stays where it is."""
    estimate, known = torch.full((HEIGHT, WIDTH), 1.0), torch.zeros(HEIGHT, WIDTH)
    known[:, :8] = 1.0
    depth, _ = settle_depth(estimate, known, torch.full_like(estimate, 2.5), lens(), UP, 99.0)
    torch.testing.assert_close(depth[:, :8], known[:, :8])
    torch.testing.assert_close(depth[:, 8:], torch.full_like(depth[:, 8:], 2.5))


def test_the_floor_of_the_clearing_is_sketched_where_nothing_is_known() -> None:
    """Known pixels stay; beside them floor gets the colour of the floor that is known, or else the given one."""
    reach, through_floor = clearing().seen_by(turn(90, ground()), lens(), HEIGHT, WIDTH)
    assert 0 < int(through_floor.sum()) < HEIGHT * WIDTH
    nothing = torch.zeros(1, 1, 1, HEIGHT, WIDTH)
    blank, red = Warp(nothing.expand(-1, 3, -1, -1, -1), nothing, nothing), torch.tensor([1.0, -1.0, -1.0])
    drawn = sketch(blank, reach, through_floor, red)
    assert torch.equal(drawn.mask[0, 0, 0] > 0, through_floor)
    assert torch.equal(drawn.depth[0, 0, 0], reach * through_floor)
    assert bool((drawn.rgb[0, :, 0, through_floor] == red[:, None]).all())
    mask = nothing.clone()
    mask[..., : WIDTH // 2] = 1
    green = torch.tensor([-1.0, 1.0, -1.0]).reshape(1, 3, 1, 1, 1)
    known = Warp(green * mask, mask, mask * reach)
    beside = sketch(known, reach, through_floor, red)
    assert torch.equal(beside.rgb[..., : WIDTH // 2], known.rgb[..., : WIDTH // 2])
    right = through_floor.clone()
    right[:, : WIDTH // 2] = False
    torch.testing.assert_close(beside.rgb[0, :, 0, right], green.flatten()[:, None].expand(3, int(right.sum())))


def test_bumps_of_the_first_floor_are_floor() -> None:
    """What is 10 % off the floor inside the clearing counts as floor, a wall does not; depths stay as they are."""
    anchor = first_anchor()
    reach, through_floor = clearing().seen_by(torch.eye(4), lens(), HEIGHT, WIDTH)
    wall = 3 * reach.max()
    flat = on_floor(Anchor(anchor.picture, torch.where(through_floor, 0.9 * reach, wall), ground(), torch.eye(4)),
                    clearing(), lens())  # fmt: skip
    assert torch.equal(flat.ground.pixels, through_floor)
    torch.testing.assert_close(flat.depth[through_floor], 0.9 * reach[through_floor])


def test_exploring_is_repeatable_and_stops_when_asked(model) -> None:
    """All around once, the first picture kept as it was; the same noise gives the same pictures."""

    def all_around(on_step) -> list[Anchor]:
        return explore(
            model,
            seeing_floor(),
            clearing(),
            lens(),
            torch.zeros(1, 4, TEXT_CHANNELS),
            2.0,
            torch.Generator().manual_seed(0),
            candidates=1,
            steps=2,
            guidance=1.0,
            on_step=on_step,
        )

    shares: list[float] = []
    anchors = all_around(shares.append)
    assert len(anchors) == 1 + len(RING_DEG) and shares == sorted(shares) and shares[-1] < 1
    torch.testing.assert_close(anchors[0].picture, first_anchor().picture)
    again = all_around(lambda share: None)
    assert all(
        torch.equal(a.picture, b.picture) and torch.equal(a.depth, b.depth) for a, b in zip(anchors, again, strict=True)
    )

    def stop(share: float) -> None:
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        all_around(stop)
