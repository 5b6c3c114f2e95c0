"""Pure draws from ranges: the same ranges, environments, seed and index, the same sample."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_gen3d.envs.entry import Description, Entry, Pose
from omni_gen3d.envs.ranges import (
    MAX_PARTS,
    AppearanceRanges,
    CameraRanges,
    ContactRanges,
    LightRanges,
    MotionRanges,
    PlacementRanges,
    Randomization,
)
from omni_gen3d.envs.sample import Appearance, CameraChange, Contact, Light, Motion, Placement, Sample, Thing
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from omni_gen3d.envs.clutter import Pool
    from omni_gen3d.types import FreeSpace

# Numbers of the streams of random numbers that a sample is drawn from.
_CHOICE, _SPAWN, _APPEARANCE, _CONTACT, _PLACEMENT, _CAMERA, _MOTION, _LIGHT, _CLUTTER, _SHARE = range(10)
# Ranges that leave a part as it is: nothing need be drawn.
_AS_IS, _STILL, _AS_BUILT, _AS_FILMED = AppearanceRanges(), PlacementRanges(), CameraRanges(), MotionRanges()


def pool_of(ranges: Randomization, pool: Pool | None = None) -> Pool | None:
    """The pool that was passed, else the one that ``ranges`` name, read once; None where no clutter is wanted.

    Raises:
        InputError: Clutter is wanted and there is no pool, or it cannot be read.
    """
    if ranges.clutter is None or pool is not None:
        return pool
    if not ranges.clutter.pool:
        raise InputError("clutter is wanted, but no meshes are named; set clutter.pool to their folder or pass a pool.")
    return _read_pool(ranges.clutter.pool)


@lru_cache(maxsize=8)
def _read_pool(folder: str) -> Pool:
    from omni_gen3d.envs.clutter import Pool

    return Pool.read(folder)


def draw(
    ranges: Randomization, environments: Sequence[Description], *, seed: int, index: int = 0, pool: Pool | None = None
) -> Sample:
    """Draw sample ``index`` of the series that ``seed`` begins; no other sample need be drawn for it.

    Args:
        ranges: What varies.
        environments: As ``Registry.entries`` returned them, in any order; those that ``ranges`` wants may be drawn.
        seed: At least 0.
        index: At least 0.
        pool: Of the clutter, where ``ranges`` want any; where None the one that they name.

    Raises:
        InputError: No environment is wanted, a number is negative, or clutter is wanted without a pool or in an
            environment without a floor.
    """
    return draw_among(ranges, eligible(ranges, environments), seed=seed, index=index, pool=pool)


def eligible(ranges: Randomization, environments: Sequence[Description]) -> list[Any]:
    """The environments that ``ranges`` wants, in the order that draws refer to.

    Raises:
        InputError: There is none.
    """
    wanted = sorted((entry for entry in environments if ranges.environments.accepts(entry)), key=lambda entry: entry.id)
    if not wanted:
        raise InputError(
            f"none of {len(environments)} environments is wanted by {ranges.environments}; add some to the library or "
            "ask for less."
        )
    return wanted


def draw_among(
    ranges: Randomization, wanted: Sequence[Description], *, seed: int, index: int, pool: Pool | None = None
) -> Sample:
    """What ``draw`` draws, from environments that ``eligible`` returned: for many draws from the same ones.

    Raises:
        InputError: A number is negative, or clutter is wanted and cannot be drawn.
    """
    if seed < 0 or index < 0:
        raise InputError(f"the seed is {seed} and the index {index}; both must be at least 0.")
    stream, ranges = partial(_stream, seed, index), _varied(ranges, seed, index)
    entry = wanted[int(stream(_CHOICE).integers(len(wanted)))]
    start = _draw_spawn(entry, stream(_SPAWN)) if ranges.spawn else None
    clear = () if start is None else (start.position[:2],)
    placed = Placement() if ranges.placement == _STILL else _draw_placement(ranges.placement, stream(_PLACEMENT))
    return Sample(
        environment=entry.id,
        digest=entry.digest,
        seed=seed,
        index=index,
        appearance=(
            Appearance() if ranges.appearance == _AS_IS else _draw_appearance(ranges.appearance, stream(_APPEARANCE))
        ),
        contact=None if ranges.contact is None else _draw_contact(ranges.contact, stream(_CONTACT)),
        placement=placed,
        spawn=None if start is None else placed.move(start),
        camera=CameraChange() if ranges.camera == _AS_BUILT else _draw_camera(ranges.camera, stream(_CAMERA)),
        motion=Motion() if ranges.motion == _AS_FILMED else _draw_motion(ranges.motion, stream(_MOTION)),
        light=None if ranges.light is None else _draw_light(ranges.light, stream(_LIGHT)),
        clutter=draw_clutter(ranges, entry, clear, seed=seed, index=index, pool=pool),
    )


def draw_clutter(
    ranges: Randomization,
    entry: Description,
    clear: Sequence[tuple[float, float]],
    *,
    seed: int,
    index: int,
    pool: Pool | None = None,
) -> tuple[Thing, ...]:
    """The clutter of sample ``index`` of the series of ``seed``, for whoever decides later where a robot goes.

    Args:
        ranges: What varies; without clutter there is none.
        entry: The environment of the sample, from a library.
        clear: Places that stay free, in the scene as it was written [m].
        seed, index, pool: As of ``draw``.

    Raises:
        InputError: Clutter is wanted, but there is no pool or the environment has no floor.
    """
    from omni_gen3d.envs.clutter import strew

    ranges = _varied(ranges, seed, index)
    meshes, clutter = pool_of(ranges, pool), ranges.clutter
    if clutter is None or meshes is None:
        return ()
    if not isinstance(entry, Entry):
        raise InputError(f"clutter needs the files of {entry.id}; draw from the entries of a library.")
    space, floor = _free_space(entry.folder, entry.digest)
    rng, shade = _stream(seed, index, _CLUTTER), clutter.brightness
    wanted = [
        (clutter.scale.draw(rng), clutter.yaw.draw(rng), (shade.draw(rng), shade.draw(rng), shade.draw(rng)))
        for _ in range(round(clutter.count.draw(rng)))
    ]
    return strew(meshes, space, floor, wanted, rng, [(x, y, clutter.clearance) for x, y in clear])


def _varied(ranges: Randomization, seed: int, index: int) -> Randomization:
    """What varies in a sample: ``ranges``, or with the rest of their share nothing."""
    if ranges.share == 1 or _stream(seed, index, _SHARE).random() < ranges.share:
        return ranges
    return Randomization(environments=ranges.environments, spawn=ranges.spawn)


def _stream(seed: int, index: int, part: int) -> np.random.Generator:
    """A stream for each part, made where it is used: a range that is added to one leaves the others' draws alone."""
    import numpy as np

    return np.random.default_rng(np.random.SeedSequence((seed, index), spawn_key=(part,)))


def _draw_placement(ranges: PlacementRanges, rng: np.random.Generator) -> Placement:
    return Placement(scale=ranges.scale.draw(rng), yaw=ranges.yaw.draw(rng))


def _draw_appearance(ranges: AppearanceRanges, rng: np.random.Generator) -> Appearance:
    return Appearance(
        exposure=ranges.exposure.draw(rng),
        warmth=ranges.warmth.draw(rng),
        tint=ranges.tint.draw(rng),
        hue=ranges.hue.draw(rng),
        contrast=ranges.contrast.draw(rng),
    )


def _draw_contact(ranges: ContactRanges, rng: np.random.Generator) -> Contact:
    static = ranges.static_friction.draw(rng)
    return Contact(
        static_friction=static,
        dynamic_friction=static * ranges.dynamic_share.draw(rng),
        restitution=ranges.restitution.draw(rng),
    )


def _draw_spawn(entry: Description, rng: np.random.Generator) -> Pose | None:
    """In the scene as it was written."""
    return entry.spawn_poses[int(rng.integers(len(entry.spawn_poses)))] if entry.spawn_poses else None


def _draw_camera(ranges: CameraRanges, rng: np.random.Generator) -> CameraChange:
    shift, position, rotation = ranges.principal_shift, ranges.position, ranges.rotation
    return CameraChange(
        focal_scale=ranges.focal_scale.draw(rng),
        principal_shift=(shift.draw(rng), shift.draw(rng)),
        position=(position.draw(rng), position.draw(rng), position.draw(rng)),
        rotation=(rotation.draw(rng), rotation.draw(rng), rotation.draw(rng)),
        noise=ranges.noise.draw(rng),
        latency=ranges.latency.draw(rng),
    )


def _draw_motion(ranges: MotionRanges, rng: np.random.Generator) -> Motion:
    start, speed, stands = ranges.start.draw(rng), ranges.speed.draw(rng), rng.random() < ranges.freeze
    gone = rng.random(MAX_PARTS) < ranges.remove
    return Motion(
        start=start, speed=0.0 if stands else speed, removed=tuple(i for i, is_gone in enumerate(gone) if is_gone)
    )


def _draw_light(ranges: LightRanges, rng: np.random.Generator) -> Light:
    return Light(
        sky=ranges.sky.draw(rng),
        sun=ranges.sun.draw(rng),
        azimuth=ranges.azimuth.draw(rng),
        elevation=ranges.elevation.draw(rng),
        warmth=ranges.warmth.draw(rng),
    )


@lru_cache(maxsize=64)
def _free_space(folder: Path, digest: str) -> tuple[FreeSpace, float]:
    """The free space of an environment and the height of its floor [m]; ``digest`` tells contents apart."""
    from omni_gen3d.usd.manifest import Manifest
    from omni_gen3d.usd.target import MANIFEST_NAME

    manifest = Manifest.read(folder / MANIFEST_NAME)
    if manifest.free_space is None or manifest.floor_height_m is None:
        raise InputError(f"clutter cannot be put into {folder.name}: it has no floor that was seen, or no collider.")
    return manifest.free_space, manifest.floor_height_m
