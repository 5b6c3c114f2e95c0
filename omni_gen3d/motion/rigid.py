"""A track as a rigid part: one set of Gaussians in its own frame, and where that frame is at each time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from omni_gen3d.geometry import sh_dc_to_rgb
from omni_gen3d.mesh.sampling import covered_area
from omni_gen3d.motion.bodies import body_of, moved_onto, part_of
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.filmed import absences, onto_by_pictures, outlined_parts
from omni_gen3d.motion.hulls import collider_hulls
from omni_gen3d.motion.registration import Freedom, Model, Registration
from omni_gen3d.motion.sighted import MIN_TIMES
from omni_gen3d.motion.tracks import Track
from omni_gen3d.types import Gaussians, MovingPart

_MAX_POINTS = 500
# Turning must explain the points better than shifting by this share of the cost, or it is noise.
_GAIN_OF_TURNING = 0.85
_FREEDOMS: tuple[Freedom, ...] = ("shift", "yaw", "turn")
# What is this well explained at the middle time is rigid.
_MIN_INLIERS = 0.6


def rigid_parts(
    track: Track,
    frames: Sequence[Gaussians],
    name: str,
    link: float,
    film: Film | None = None,
    outlines: np.ndarray | None = None,
) -> tuple[list[MovingPart], dict[int, np.ndarray]]:
    """Follow a track as a rigid part, or as several where a film shows its joints; and those of its Gaussians by time
    that are of no part: all, where it is none, or was not seen often enough; and at times at which it is not there.

    Args:
        track: Which of the Gaussians it is at each time.
        frames: The moving Gaussians of each time.
        name: Of the part; those of others begin with it.
        link: How far apart neighbours on one surface may be [m].
        film: What was filmed at each time; then its pictures tell the way, else the Gaussians' places and colours do.
        outlines: Of the track in that film, shape ``(T, H, W)``, bool; then they tell its form. None where the camera
            moved.
    """
    times = sorted(track.members)
    if len(times) < MIN_TIMES:
        return [], track.members
    seen = {time: frames[time][torch.from_numpy(track.members[time])] for time in times}
    if film is not None and outlines is not None:
        parts, left = outlined_parts(seen, name, link, len(frames), film, outlines)
        return parts, {time: track.members[time][which] for time, which in left.items()} if parts else track.members
    found = _onto_by_shape(seen, link) if film is None else onto_by_pictures(seen, film)
    if found is None:
        return [], track.members
    reference, onto = found
    body = body_of(moved_onto(seen, onto), reference, link)
    hulls = collider_hulls(body, np.stack([np.linalg.inv(onto[time]) for time in sorted(onto)]), link)
    part = part_of(name, body, hulls, onto, len(frames))
    return [part], {time: track.members[time] for time in absences(part, times)}


def _onto_by_shape(seen: dict[int, Gaussians], link: float) -> tuple[int, dict[int, np.ndarray]] | None:
    """The time at which most is seen, and each time's motion onto it ``(4, 4)``; None where none is rigid."""
    reference = max(sorted(seen), key=lambda time: float(covered_area(seen[time]).sum()))
    fits = _register(seen, reference, link)
    if float(np.median([fit.inliers for fit in fits.values()])) < _MIN_INLIERS:
        return None
    return reference, {time: fit.matrix for time, fit in fits.items()}


def _register(seen: dict[int, Gaussians], reference: int, link: float) -> dict[int, Registration]:
    """The motion of each time's Gaussians onto those of the reference time, followed outwards from it."""
    points = {time: _sampled(gaussians) for time, gaussians in seen.items()}
    model = Model(*points[reference])
    fits = {reference: Registration(np.eye(4), 0.0, 1.0)}
    ordered = sorted(seen)
    at = ordered.index(reference)
    for path in (ordered[at + 1 :], ordered[:at][::-1]):
        last = reference
        for time in path:
            shift = np.eye(4)
            shift[:3, 3] = points[last][0].mean(0) - points[time][0].mean(0)
            fits[time] = _best(model, points[time], [fits[last].matrix, fits[last].matrix @ shift], link)
            last = time
    return fits


def _best(model: Model, points: tuple[np.ndarray, np.ndarray], guesses: list[np.ndarray], link: float) -> Registration:
    """The simplest motion that explains the points."""
    best: Registration | None = None
    for freedom in _FREEDOMS:
        starts = guesses if best is None else [*guesses, best.matrix]
        fit = model.register(*points, starts, freedom, link)
        if best is None or fit.cost < _GAIN_OF_TURNING * best.cost:
            best = fit
    assert best is not None
    return best


def _sampled(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """At most ``_MAX_POINTS`` centres and colours, evenly out of the order in which they were decoded."""
    step = max(1, -(-len(gaussians) // _MAX_POINTS))
    chosen = gaussians[slice(None, None, step)]
    colors = sh_dc_to_rgb(chosen.sh[:, 0]).clamp(0, 1)
    return chosen.means.numpy().astype(np.float64), colors.numpy().astype(np.float64)
