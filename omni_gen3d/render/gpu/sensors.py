"""Bent lenses, rolling shutters and noise: gsplat's unscented path, splats only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from omni_gen3d.errors import InputError, MissingDependencyError
from omni_gen3d.geometry import rgb_to_sh_dc, transform_gaussians
from omni_gen3d.render.gpu.scene import SplatsAt
from omni_gen3d.types import Gaussians
from omni_gen3d.usd.cameras import Sensor

SENSOR_AOVS = ("color", "depth", "alpha")
_DIRECTIONS = {
    "global": "GLOBAL",
    "topToBottom": "ROLLING_TOP_TO_BOTTOM",
    "leftToRight": "ROLLING_LEFT_TO_RIGHT",
    "bottomToTop": "ROLLING_BOTTOM_TO_TOP",
    "rightToLeft": "ROLLING_RIGHT_TO_LEFT",
}


def draw_with_sensor(
    placed: Sequence[SplatsAt],
    sensor: Sensor,
    camera: torch.Tensor,
    size: tuple[int, int],
    background: Sequence[float],
    seed: int,
) -> dict[str, torch.Tensor]:
    """What one camera sees, by name of picture; depth is the expected one where half of a pixel is covered.

    Args:
        placed: The sets of splats.
        sensor: Its lens and shutter, in metres.
        camera: Its row of ``view.camera_rows`` on the device.
        size: Width and height [pixels].
        background: RGB behind everything.
        seed: Of the noise.

    Raises:
        InputError: There is no splat, or a set is stretched unevenly or mirrored.
        MissingDependencyError: gsplat is not installed.
    """
    try:
        from gsplat import rasterization
        from gsplat.cuda._wrapper import RollingShutterType
    except ImportError as error:
        raise MissingDependencyError(
            "lens distortion and rolling shutters are drawn by gsplat; install it: pip install 'omni_gen3d[cuda]'"
        ) from error
    device = camera.device
    gaussians = join_placed(placed)
    lens = torch.eye(3, device=device)
    lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2] = camera[12:16].float()
    poses = [torch.from_numpy(pose).inverse().float().to(device)[None] for pose in (sensor.opened, sensor.closed)]
    rolls = sensor.shutter != "global"

    def row(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor([values], device=device)

    # gsplat draws three channels along bent rays and not a fourth, so that depth takes a call of its own.
    draw = partial(
        rasterization,
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        viewmats=poses[0],
        Ks=lens[None],
        width=size[0],
        height=size[1],
        near_plane=float(camera[16]),
        far_plane=float(camera[17]),
        packed=False,
        with_ut=True,
        with_eval3d=True,
        radial_coeffs=row(sensor.radial),
        tangential_coeffs=row(sensor.tangential),
        thin_prism_coeffs=row(sensor.thin_prism),
        rolling_shutter=getattr(RollingShutterType, _DIRECTIONS[sensor.shutter]),
        viewmats_rs=poses[1] if rolls else None,
    )
    pictures, alpha, _ = draw(colors=gaussians.sh, sh_degree=gaussians.sh_degree, backgrounds=row(background))
    color, alpha = pictures[0], alpha[0, ..., 0]
    depths = gaussians.means @ poses[0][0, 2, :3] + poses[0][0, 2, 3]
    depth = draw(colors=depths[:, None].repeat(1, 3))[0][0, ..., 0] / alpha.clamp_min(1e-10)
    if sensor.noise:
        dice = torch.Generator(device).manual_seed(seed)
        color = color + sensor.noise * torch.randn(color.shape, generator=dice, device=device)
    return {
        "color": color.clamp(0, 1),
        "depth": torch.where(alpha >= 0.5, depth, 0),
        "alpha": alpha,
    }


def join_placed(placed: Sequence[SplatsAt]) -> Gaussians:
    """All sets in the world, as one, without their merged levels; harmonics are filled up to the highest degree.

    Raises:
        InputError: There is none, or one is placed by more than a turn, a shift and a scale.
    """
    if not placed:
        raise InputError("the environment holds no visible splats.")
    return Gaussians.joined([_in_world(item) for item in placed])


def _in_world(item: SplatsAt) -> Gaussians:
    gaussians = item.splats.gaussians()
    matrix = torch.from_numpy(item.to_world)
    linear = matrix[:3, :3]
    scale = float(torch.linalg.det(linear).clamp_min(0)) ** (1 / 3)
    if scale == 0 or not torch.allclose(linear @ linear.T, scale**2 * torch.eye(3).double(), rtol=1e-4, atol=1e-9):
        raise InputError("a splat set is stretched unevenly or mirrored; no bent lens or rolling shutter sees it.")
    device = gaussians.means.device
    moved = transform_gaussians(gaussians, (linear / scale).to(device), matrix[:3, 3].to(device), scale)
    gain = torch.tensor(item.gain, device=device)
    sh = moved.sh * gain
    sh[:, 0] += rgb_to_sh_dc(0.5 * gain)
    return replace(moved, sh=sh)
