"""A track as a rigid part: one set of Gaussians in its own frame, and where that frame is at each time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation, Slerp

from omni_gen3d.geometry import sh_dc_to_rgb, transform_gaussians
from omni_gen3d.mesh.sampling import covered_area
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.following import follow
from omni_gen3d.motion.hulls import collider_hulls
from omni_gen3d.motion.registration import Freedom, Model, Registration
from omni_gen3d.motion.tracks import Track
from omni_gen3d.types import Gaussians, MovingPart

# A thing must be seen at so many times before it is followed.
_MIN_TIMES = 3
_MAX_POINTS = 500
# Turning must explain the points better than shifting by this share of the cost, or it is noise.
_GAIN_OF_TURNING = 0.85
_FREEDOMS: tuple[Freedom, ...] = ("shift", "yaw", "turn")
# What is this well explained at the middle time is rigid.
_MIN_INLIERS = 0.6
# A thing is found where it looks no more different than this [of 2]; it is rigid if it is found at half of the times.
_MAX_COLOR_ERROR = 0.13
# A thing is seen best in the middle of its way, unless more of it is seen elsewhere: all of it against nothing is worth
# this share of the way.
_WORTH_OF_SIGHT = 0.5
# A Gaussian of another time joins the part where nothing is within this many links, if that many times agree.
_MIN_WITNESSES = 3
# What belongs to a rigid thing lies within its outline, give or take some pixels, at this share of the times.
_WITHIN_SHARE, _OUTLINE_MARGIN_PX = 0.6, 2


def rigid_part(
    track: Track, frames: Sequence[Gaussians], name: str, link: float, film: Film | None = None
) -> MovingPart | None:
    """Follow a track as a rigid part; None where it is none, or was not seen often enough.

    Args:
        track: Which of the Gaussians it is at each time.
        frames: The moving Gaussians of each time.
        name: Of the part.
        link: How far apart neighbours on one surface may be [m].
        film: What was filmed at each time; then its pictures tell the way, else the Gaussians' places and colours do.
    """
    times = sorted(track.members)
    if len(times) < _MIN_TIMES:
        return None
    seen = {time: frames[time][torch.from_numpy(track.members[time])] for time in times}
    found = _onto_by_shape(seen, link) if film is None else _onto_by_pictures(seen, film)
    if found is None:
        return None
    reference, onto = found
    times = sorted(onto)
    seen = {time: seen[time] for time in times}
    body = _body(seen, onto, reference, link, film)
    if not len(body):
        return None
    centre = (body.means.amin(0) + body.means.amax(0)).double().numpy() / 2
    to_world = {time: np.linalg.inv(matrix) for time, matrix in onto.items()}
    placed = _at_every_time(to_world, len(frames), centre)
    present = np.zeros(len(frames), np.bool_)
    present[times[0] : times[-1] + 1] = True
    gaussians = transform_gaussians(body, torch.eye(3), torch.from_numpy(-centre).float())
    return MovingPart(name, gaussians, placed, present, collider_hulls(gaussians, placed[present], link))


def _onto_by_shape(seen: dict[int, Gaussians], link: float) -> tuple[int, dict[int, np.ndarray]] | None:
    """The time at which most is seen, and each time's motion onto it ``(4, 4)``; None where none is rigid."""
    reference = max(sorted(seen), key=lambda time: float(covered_area(seen[time]).sum()))
    fits = _register(seen, reference, link)
    if float(np.median([fit.inliers for fit in fits.values()])) < _MIN_INLIERS:
        return None
    return reference, {time: fit.matrix for time, fit in fits.items()}


def _onto_by_pictures(seen: dict[int, Gaussians], film: Film) -> tuple[int, dict[int, np.ndarray]] | None:
    """The time at which it is seen best, and the motions onto it at the times at which the film shows it there."""
    times = sorted(seen)
    covers = {time: float(covered_area(seen[time]).sum()) for time in times}
    most, way = max(covers.values()), times[-1] - times[0]
    middle = (times[0] + times[-1]) / 2
    reference = min(times, key=lambda time: abs(time - middle) - _WORTH_OF_SIGHT * way * covers[time] / most)
    followed = follow(film, seen[reference].means.numpy().astype(np.float64), reference, times)
    onto = {
        time: np.linalg.inv(motion)
        for time, motion in followed.motions.items()
        if followed.errors[time] <= _MAX_COLOR_ERROR
    }
    return (reference, onto) if len(onto) >= max(_MIN_TIMES, len(times) / 2) else None


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


def _body(
    seen: dict[int, Gaussians], onto: dict[int, np.ndarray], reference: int, link: float, film: Film | None
) -> Gaussians:
    """The Gaussians of the reference time, and of others where it shows nothing and enough of them agree."""
    moved = {
        time: transform_gaussians(gaussians, torch.from_numpy(onto[time][:3, :3]), torch.from_numpy(onto[time][:3, 3]))
        for time, gaussians in seen.items()
    }
    if film is not None and film.shown is not None:
        every = np.concatenate([gaussians.means.numpy() for gaussians in moved.values()]).astype(np.float64)
        ends = np.cumsum([len(gaussians) for gaussians in moved.values()])
        within = np.split(_within_outlines(every, onto, film, film.shown), ends[:-1])
        moved = {
            time: gaussians[torch.from_numpy(np.flatnonzero(kept))]
            for (time, gaussians), kept in zip(moved.items(), within, strict=True)
            if kept.any() or time == reference
        }
    trees = {time: KDTree(gaussians.means.numpy()) for time, gaussians in moved.items()}
    kept = [moved[reference]]
    covered = moved[reference].means.numpy()
    for time in sorted(moved, key=lambda time: abs(time - reference)):
        if time == reference:
            continue
        points = moved[time].means.numpy()
        far = KDTree(covered).query(points)[0] > link
        if not far.any():
            continue
        witnesses = sum((tree.query(points)[0] <= link).astype(int) for tree in trees.values())
        new = np.flatnonzero(far & (witnesses >= _MIN_WITNESSES))
        if len(new):
            kept.append(moved[time][torch.from_numpy(new)])
            covered = np.concatenate([covered, points[new]])
    return Gaussians.joined(kept)


def _within_outlines(points: np.ndarray, onto: dict[int, np.ndarray], film: Film, shown: np.ndarray) -> np.ndarray:
    """Which of the points ``(N, 3)`` stay within the film's outlines ``shown (T, H, W)`` when they move as the thing
    does, ``(N,)``: others are not of it.

    At the ends of a way an outline also holds floor that the thing covers at most times, and one of a thing with joints
    holds limbs that go their own ways. Moved along, they leave the outlines of other times.
    """
    inside, asked = np.zeros(len(points)), np.zeros(len(points))
    for time, matrix in onto.items():
        turn, shift = matrix[:3, :3], matrix[:3, 3]
        row, column, seen = film.seen((points - shift) @ turn, time)
        near = ndimage.maximum_filter(shown[time], 2 * _OUTLINE_MARGIN_PX + 1) > 0
        at = np.flatnonzero(seen)
        asked[at] += 1
        inside[at] += near[np.rint(row[at]).astype(int), np.rint(column[at]).astype(int)]
    return inside >= _WITHIN_SHARE * asked


def _at_every_time(to_world: dict[int, np.ndarray], num_times: int, centre: np.ndarray) -> np.ndarray:
    """Matrices from the part's frame, whose origin is ``centre`` at the reference time, at every time.

    Between two times at which the part was seen it moves evenly; before and after it stays.
    """
    times = sorted(to_world)
    turns = Rotation.from_matrix(np.stack([to_world[time][:3, :3] for time in times]))
    origins = np.stack([to_world[time][:3, :3] @ centre + to_world[time][:3, 3] for time in times])
    every = np.clip(np.arange(num_times), times[0], times[-1])
    matrices = np.tile(np.eye(4), (num_times, 1, 1))
    matrices[:, :3, :3] = Slerp(times, turns)(every).as_matrix()
    matrices[:, :3, 3] = np.stack([np.interp(every, times, origins[:, axis]) for axis in range(3)], 1)
    return matrices
