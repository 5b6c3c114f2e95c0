"""What the pictures show is kept, however opaque the rest is."""

from __future__ import annotations

import torch

from omni_gen3d.decoder.pruning import most_shown
from omni_gen3d.geometry import intrinsics_from_focal
from omni_gen3d.types import Cameras, Gaussians

WIDTH, HEIGHT = 32, 24


def sheet(depth: float, opacity: float) -> Gaussians:
    """A wall that fills the picture."""
    reach = 0.6 * depth
    x, y = torch.meshgrid(torch.linspace(-reach, reach, 16), torch.linspace(-reach, reach, 16), indexing="ij")
    count = x.numel()
    return Gaussians(
        means=torch.stack([x.flatten(), y.flatten(), torch.full((count,), depth)], -1),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=(0.06 * depth * torch.tensor([1.0, 1.0, 0.01])).expand(count, 3),
        opacities=torch.full((count,), opacity),
        sh=torch.zeros(count, 1, 3),
    )


def camera() -> Cameras:
    return Cameras(torch.eye(4)[None], intrinsics_from_focal(32.0, WIDTH, HEIGHT)[None], WIDTH, HEIGHT)


def test_a_wall_outlasts_more_opaque_layers_behind_it() -> None:
    """Of a wall of opacity 0.99 nearly nothing is lost to two hidden sheets of opacity 1."""
    front, hidden = sheet(1.0, 0.99), Gaussians.joined([sheet(1.5, 1.0), sheet(2.0, 1.0)])
    both = Gaussians.joined([hidden, front])
    in_view = (front.means[:, 0].abs() < 0.5) & (front.means[:, 1].abs() < 0.375)
    kept = most_shown(both, camera(), len(front))
    assert torch.equal(kept, kept.sort().values) and len(kept.unique()) == len(front)
    lost = set((len(hidden) + in_view.nonzero()[:, 0]).tolist()) - set(kept.tolist())
    assert len(lost) < 0.05 * float(in_view.sum())


def test_what_nothing_shows_goes_by_opacity_and_place() -> None:
    """Behind the camera the more opaque stay, of equals the earlier; more than there are keeps all."""
    faint, solid = sheet(-1.0, 0.5), sheet(-2.0, 1.0)
    both = Gaussians.joined([faint, solid])
    assert torch.equal(most_shown(both, camera(), 10), len(faint) + torch.arange(10))
    assert torch.equal(most_shown(both, camera(), 10**6), torch.arange(len(both)))
