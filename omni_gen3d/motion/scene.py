"""From Gaussians at several times to a scene of a static part, rigid moving parts and a rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import KDTree

from omni_gen3d.geometry import transform_gaussians
from omni_gen3d.motion.film import Film, join_films
from omni_gen3d.motion.joining import with_same_numbers
from omni_gen3d.motion.limbs import MAX_LIMBS
from omni_gen3d.motion.rigid import rigid_parts
from omni_gen3d.motion.sightings import Sightings
from omni_gen3d.motion.split import Split, split_sequence
from omni_gen3d.motion.sweeping import clear_way
from omni_gen3d.motion.tracks import Track, find_tracks, link_length
from omni_gen3d.types import Cameras, DynamicScene, Gaussians, GaussianSequence, MovingPart

MAX_PARTS = 16


def dynamic_scene(
    sequence: GaussianSequence,
    cameras: Cameras,
    film: torch.Tensor | None = None,
    sightings: Sightings | None = None,
) -> DynamicScene:
    """Take a levelled, metric sequence apart.

    Args:
        sequence: Z-up, floor at z = 0, the same Gaussians in the same order at every time.
        cameras: Cameras that stand in the scene at every time; the first is always asked what it sees through.
        film: See ``split_sequence``.
        sightings: See there.
    """
    return assemble_scene([split_sequence(sequence, cameras, film, sightings=sightings)], sequence.frames_per_second)


def assemble_scene(windows: Sequence[Split], frames_per_second: float, *, camera_moves: bool = False) -> DynamicScene:
    """One scene of windows in time that follow each other and overlap by one time.

    What stands still is that of the first window, so that nothing jumps where two meet; what moves is followed across
    all of them.

    Args:
        windows: At least one.
        frames_per_second: Of all of them.
        camera_moves: Whether later windows see what earlier ones do not: then what of them stands still away from that
            of the earlier ones is added.
    """
    windows = with_same_numbers(windows)
    moving = list(windows[0].moving)
    for window in windows[1:]:
        moving += window.moving[1:]
    things = None
    if all(window.things is not None for window in windows):
        things = [number for i, window in enumerate(windows) for number in (window.things or ())[min(i, 1) :]]
    films = [window.film for window in windows if window.film is not None]
    film = join_films(films) if len(films) == len(windows) else None
    link = link_length(moving)
    parts: list[MovingPart] = []
    tracks = find_tracks(moving, things)
    rest = _untracked(tracks, moving, things)
    for track in tracks:
        left = track.members
        if len(parts) + MAX_LIMBS <= MAX_PARTS:
            name = f"part_{len(parts):02}"
            found, left = rigid_parts(track, moving, name, link, film, _outlines(track, things, film))
            parts += found
        for time, which in left.items():
            rest[time][torch.from_numpy(which)] = True
    residual = tuple(frame[torch.nonzero(which).ravel()] for frame, which in zip(moving, rest, strict=True))
    # A camera that walks has seen behind what moves; one that stands has not.
    if camera_moves:
        static = _everywhere([window.static for window in windows])
    else:
        static = clear_way(windows[0].static, parts, windows[0].witnessed)
    return DynamicScene(
        static=static,
        parts=tuple(parts),
        residual=residual if any(map(len, residual)) else None,
        frames_per_second=frames_per_second,
        num_frames=len(moving),
    )


def _untracked(
    tracks: Sequence[Track], moving: Sequence[Gaussians], things: Sequence[np.ndarray] | None
) -> list[torch.Tensor]:
    """Which Gaussians no track took and the film shows, by time, ``(N,)``, bool; other crumbs are a decoder's noise."""
    left = [np.zeros(len(frame), np.bool_) for frame in moving] if things is None else [which > 0 for which in things]
    for track in tracks:
        for time, members in track.members.items():
            left[time][members] = False
    return [torch.from_numpy(which) for which in left]


def _outlines(track: Track, things: Sequence[np.ndarray] | None, film: Film | None) -> np.ndarray | None:
    """Where the film shows a track, ``(T, H, W)``, bool; None where it does not tell."""
    if things is None or film is None or film.shown is None:
        return None
    outlines = np.zeros(film.shown.shape, np.bool_)
    for time, members in track.members.items():
        outlines[time] = np.isin(film.shown[time], np.unique(things[time][members]))
    return outlines


def _everywhere(sets: Sequence[Gaussians]) -> Gaussians:
    """The first set, and of each other one what lies where none before it has anything."""
    everything = sets[0]
    for other in sets[1:]:
        reach = link_length([everything])
        distance, _ = KDTree(everything.means.numpy()).query(other.means.numpy(), distance_upper_bound=reach)
        everything = Gaussians.joined([everything, other[torch.from_numpy(np.flatnonzero(np.isinf(distance)))]])
    return everything


def gaussians_at(scene: Gaussians | GaussianSequence | DynamicScene, frame: int) -> Gaussians:
    """All Gaussians of a scene at one of its times, in the world."""
    if isinstance(scene, Gaussians):
        return scene
    if isinstance(scene, GaussianSequence):
        return scene.frames[frame]
    sets = [scene.static]
    for part in scene.parts:
        if part.present[frame]:
            matrix = torch.from_numpy(part.to_world[frame])
            sets.append(transform_gaussians(part.gaussians, matrix[:3, :3], matrix[:3, 3]))
    if scene.residual is not None and len(scene.residual[frame]):
        sets.append(scene.residual[frame])
    return Gaussians.joined(sets)
