"""The cameras of many robots, each in an environment and a look of its own: one call of the render delegate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from omni_gen3d.envs.applying import change_cameras, color_changes, light_terms
from omni_gen3d.envs.noise import key_of, normal_noise
from omni_gen3d.envs.sample import Appearance, Sample
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import intrinsics_from_fov, look_at
from omni_gen3d.render.aovs import Aov
from omni_gen3d.render.delegate import Frame, SplatRenderDelegate
from omni_gen3d.types import Cameras

if TYPE_CHECKING:
    from omni_gen3d.envs.clutter import Pool


@dataclass(frozen=True, kw_only=True)
class RobotCamera:
    """The camera that every robot carries, before a sample changes it.

    Attributes:
        size: Edge of its square pictures [pixels].
        fov: Across [rad].
        height: Above the floor [m].
        forward: Before the robot's axis [m].
        down: How far it looks below the horizon [rad].
    """

    size: int = 64
    fov: float = math.radians(90)
    height: float = 0.8
    forward: float = 0.1
    down: float = math.radians(15)

    def __post_init__(self) -> None:
        if self.size < 8 or not 0 < self.fov < math.pi or not self.height > 0:
            raise InputError(
                f"the camera has {self.size} pixels across {self.fov} rad at {self.height} m; at least 8 pixels, an "
                "angle between 0 and pi and a height above 0 are needed."
            )

    def on_robot(self) -> Cameras:
        """One camera in the frame of a robot that looks along +X."""
        eye = torch.tensor([[self.forward, 0.0, self.height]])
        target = eye + torch.tensor([[math.cos(self.down), 0.0, -math.sin(self.down)]])
        return Cameras(
            look_at(eye, target),
            intrinsics_from_fov(self.fov, self.size, self.size)[None].float(),
            self.size,
            self.size,
        )


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values of the host on a device, without waiting for what it is doing."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


class Eyes:
    """What N robots see of W environments.

    Pictures change with a sample as its splats would: blending is linear, so ``M c + b`` of every splat is
    ``M C + b A`` of a picture ``C`` over black with coverage ``A``, but for splats whose own colour was cut off at 0. A
    pixel that shows clutter keeps its colour: clutter has the sample's own, under the sample's light.
    """

    def __init__(
        self,
        folders: Sequence[Path | str],
        count: int,
        camera: RobotCamera,
        *,
        depth: bool,
        device: torch.device,
        step: float,
        furnished: bool = False,
        pool: Pool | None = None,
    ) -> None:
        """Open the environments.

        Args:
            folders: Of W environments.
            count: N.
            camera: That every robot carries.
            depth: Draw depth, too.
            device: ``cpu`` or ``cuda``; the delegate's backend.
            step: Time between two pictures [s]; a latency is rounded to whole steps.
            furnished: Show the light and the clutter of samples. Every robot then has a prim of its own on the stage,
                which refers to its world; the splats are shared all the same.
            pool: Of the clutter.

        Raises:
            InputError: An environment cannot be read.
        """
        from omni_gen3d.usd.worlds import FurnishedWorlds, gather_worlds

        stage, self._worlds = gather_worlds(folders)
        self._furnished = FurnishedWorlds(stage, self._worlds, count) if furnished else None
        self._pool, self._everybody = pool, torch.arange(count, dtype=torch.int32)
        self._delegate = SplatRenderDelegate(stage, "cuda" if device.type == "cuda" else "cpu")
        self._mounted = camera.on_robot()
        self._depth, self._device, self._step = depth, device, step
        # On the host, where the delegate looks into it without waiting for the device.
        self._world = torch.zeros(count, dtype=torch.int32)
        self._to_camera = self._mounted.world_to_camera.repeat(count, 1, 1).to(device)
        self._intrinsics = self._mounted.intrinsics.repeat(count, 1, 1).to(device)
        self._scale, self._yaw = torch.ones(count, device=device), torch.zeros(count, device=device)
        self._matrix = torch.eye(3, device=device).repeat(count, 1, 1)
        self._offset = torch.zeros(count, 3, device=device)
        self._noise = torch.zeros(count, device=device)
        self._lag = torch.zeros(count, dtype=torch.long, device=device)
        self._is_recolored = self._is_noisy = False
        self._longest = 0
        # What was seen one step ago, two steps ago, as far back as the longest latency reaches.
        self._before: list[dict[str, torch.Tensor]] = []
        # What the noise of a picture is made from.
        self._key, self._age = (torch.zeros(count, dtype=torch.long, device=device) for _ in range(2))
        self._is_thing = torch.zeros(0, dtype=torch.bool, device=device)

    def close(self) -> None:
        """Let go of the stage."""
        self._delegate.close()

    def splat_bytes(self) -> int:
        """Memory of the environments' splats [bytes]."""
        return self._delegate.shape_bytes()

    def adjust(self, robots: torch.Tensor, worlds: Sequence[int], samples: Sequence[Sample]) -> None:
        """Move robots into other worlds and looks.

        Args:
            robots: Which, ``(K,)``, int64, on the host.
            worlds: Which environment each is in.
            samples: How its world and camera differ.

        Raises:
            InputError: A sample has light or clutter and these eyes are not ``furnished``, or the pool lacks a mesh.
        """
        which, mounted = sent(robots, self._device), self._mounted
        for robot, world, sample in zip(robots.tolist(), worlds, samples, strict=True):
            self._furnish(robot, world, sample)
        alike = replace(
            mounted,
            world_to_camera=mounted.world_to_camera.repeat(len(samples), 1, 1),
            intrinsics=mounted.intrinsics.repeat(len(samples), 1, 1),
        )
        changed = change_cameras(alike, [sample.camera for sample in samples])
        self._world[robots] = torch.tensor(worlds, dtype=torch.int32)
        lags = [round(sample.camera.latency / self._step) for sample in samples]
        self._longest = max(self._longest, *lags)
        columns = torch.tensor(
            [
                (sample.placement.scale, sample.placement.yaw, sample.camera.noise, lag)
                for sample, lag in zip(samples, lags, strict=True)
            ]
        )
        # One transfer for all numbers of a row.
        row = torch.cat([columns, changed.world_to_camera.flatten(1), changed.intrinsics.flatten(1)], 1)
        numbers, poses, lenses = sent(row, self._device).split([4, 16, 9], 1)
        self._to_camera[which], self._intrinsics[which] = poses.unflatten(1, (4, 4)), lenses.unflatten(1, (3, 3))
        self._scale[which], self._yaw[which], self._noise[which] = numbers[:, :3].unbind(1)
        self._lag[which] = numbers[:, 3].long()
        self._is_noisy |= any(sample.camera.noise > 0 for sample in samples)
        if self._is_noisy:
            keys = [key_of(sample.seed, sample.index) for sample in samples]
            self._key[which] = sent(torch.tensor(keys), self._device)
            self._age[which] = 0
        if self._is_recolored or any(sample.appearance != Appearance() for sample in samples):
            self._is_recolored = True
            matrices, offsets = color_changes([sample.appearance for sample in samples])
            self._matrix[which] = sent(matrices.float(), self._device)
            self._offset[which] = sent(offsets.float(), self._device)

    def _furnish(self, robot: int, world: int, sample: Sample) -> None:
        wanted = sample.clutter or sample.light is not None
        if wanted and (self._furnished is None or (sample.clutter and self._pool is None)):
            raise InputError(
                "the sample has clutter or light, but the ranges of this environment have none; give ranges that do."
            )
        if self._furnished is not None:
            things = [] if self._pool is None else [(self._pool.place(thing), thing.color) for thing in sample.clutter]
            light = None if sample.light is None else light_terms(sample.light)
            self._furnished.furnish(robot, self._worlds[world], things, light)

    def look(self, pose: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pictures of all robots, as late as their latencies make them.

        Args:
            pose: ``(x, y, yaw)`` in their placed worlds [m, rad], ``(N, 3)``.

        Returns:
            ``rgb`` uint8 ``(N, H, W, 3)`` and, if wanted, ``depth`` along the optical axis [m] float32
            ``(N, H, W, 1)``, 0 where nothing is.
        """
        now = self._draw(pose, None)
        if not self._before:
            return now
        series = [now, *self._before]
        self._before = series[:-1]
        rows = torch.arange(len(pose), device=self._device)
        return {name: torch.stack([past[name] for past in series])[self._lag, rows] for name in now}

    def look_again(self, pose: torch.Tensor, robots: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pictures of some robots that were just moved elsewhere: the first that they see there.

        Args:
            pose: Of those robots, ``(K, 3)``.
            robots: Which, ``(K,)``, int64, on the host.
        """
        seen = self._draw(pose, robots)
        which = sent(robots, self._device)
        while len(self._before) < self._longest:
            # Deeper than any robot but these will look.
            shapes = {name: (len(self._lag), *picture.shape[1:]) for name, picture in seen.items()}
            self._before.append({name: seen[name].new_zeros(shape) for name, shape in shapes.items()})
        for past in self._before:
            for name, picture in seen.items():
                past[name][which] = picture
        return seen

    def _draw(self, pose: torch.Tensor, robots: torch.Tensor | None) -> dict[str, torch.Tensor]:
        everybody = slice(None)
        pick = everybody if robots is None else sent(robots, self._device)
        cameras = Cameras(
            self._seen_from(pose, pick), self._intrinsics[pick], self._mounted.width, self._mounted.height
        )
        aovs: list[Aov] = ["color"]
        if self._depth:
            aovs.append("depth")
        if self._is_recolored:
            aovs.append("alpha")
        if self._is_recolored and self._furnished is not None:
            aovs.append("prim_id")
        paths, numbers = (self._worlds, self._world)
        if self._furnished is not None:
            paths, numbers = (self._furnished.paths, self._everybody)
        looks_into = numbers[everybody if robots is None else robots]
        if self._device.type == "cuda":
            looks_into = looks_into.pin_memory()
        frame = self._delegate.render(cameras, aovs=aovs, environments=(paths, looks_into))
        pictures = frame.aovs
        color = torch.as_tensor(pictures["color"])
        if self._is_recolored:
            alpha = torch.as_tensor(pictures["alpha"])[..., None]
            shown = torch.einsum("khwc,kdc->khwd", color, self._matrix[pick]) + alpha * self._offset[pick, None, None]
            if "prim_id" in aovs:
                shown = torch.where(self._shows_thing(frame)[..., None], color, shown)
            color = shown
        if self._is_noisy:
            noise = normal_noise(self._key[pick], self._age[pick], color[0].numel()).view(color.shape)
            color = color + noise * self._noise[pick, None, None, None]
            self._age[pick] += 1
        seen = {"rgb": (color * 255).round_().clamp_(0, 255).to(torch.uint8)}
        if self._depth:
            seen["depth"] = (torch.as_tensor(pictures["depth"]) * self._scale[pick, None, None])[..., None]
        return seen

    def _shows_thing(self, frame: Frame) -> torch.Tensor:
        """Pixels that show clutter, ``(K, H, W)``."""
        if len(self._is_thing) != len(frame.prim_paths) + 1:
            assert self._furnished is not None
            named = [self._furnished.is_thing(path) for path in frame.prim_paths]
            # The last is what -1 refers to: nothing.
            self._is_thing = torch.tensor([*named, False], device=self._device)
        return self._is_thing[torch.as_tensor(frame.aovs["prim_id"]).long()]

    def _seen_from(self, pose: torch.Tensor, pick: slice | torch.Tensor) -> torch.Tensor:
        """World-to-camera transforms into the unplaced environments, ``(K, 4, 4)``.

        A point ``q`` of the environment is at ``s R(Y) q`` in the placed world; a camera whose own frame is shrunk by
        ``s``, too, sees the same picture.
        """
        x, y, yaw = pose.unbind(-1)
        cos, sin = torch.cos(yaw - self._yaw[pick]), torch.sin(yaw - self._yaw[pick])
        # Rotation from the environment into the robot's frame, and from the placed world for the position.
        rotation = torch.zeros(len(pose), 4, 4, device=self._device)
        rotation[:, 0, 0], rotation[:, 0, 1] = cos, sin
        rotation[:, 1, 0], rotation[:, 1, 1] = -sin, cos
        rotation[:, 2, 2] = rotation[:, 3, 3] = 1
        cos, sin = torch.cos(yaw), torch.sin(yaw)
        rotation[:, 0, 3], rotation[:, 1, 3] = -cos * x - sin * y, sin * x - cos * y
        to_camera = self._to_camera[pick] @ rotation
        to_camera[:, :3, 3] /= self._scale[pick, None]
        return to_camera
