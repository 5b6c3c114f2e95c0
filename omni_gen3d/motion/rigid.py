"""A track as a rigid part: one set of Gaussians in its own frame, and where that frame is at each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation, Slerp

from omni_gen3d.geometry import sh_dc_to_rgb, transform_gaussians
from omni_gen3d.mesh.convex import convex_hull
from omni_gen3d.mesh.sampling import covered_area
from omni_gen3d.motion.balls import Ball, find_ball, onto_ball, points_on_ball
from omni_gen3d.motion.carving import carved_hull, stay_within
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.following import follow
from omni_gen3d.motion.hulls import collider_hulls
from omni_gen3d.motion.limbs import limbs_shown
from omni_gen3d.motion.registration import Freedom, Model, Registration
from omni_gen3d.motion.tracks import Track
from omni_gen3d.types import Gaussians, MovingPart, TriMesh

# A thing must be seen at so many times before it is followed.
_MIN_TIMES = 3
# Fewer Gaussians are no sight of a limb.
_MIN_SEEN = 12
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


def rigid_parts(
    track: Track,
    frames: Sequence[Gaussians],
    name: str,
    link: float,
    film: Film | None = None,
    outlines: np.ndarray | None = None,
) -> tuple[list[MovingPart], dict[int, np.ndarray]]:
    """Follow a track as a rigid part, or as several where a film shows its joints; and those of its Gaussians by time
    that are of no part: all, where it is none, or was not seen often enough.

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
    if len(times) < _MIN_TIMES:
        return [], track.members
    seen = {time: frames[time][torch.from_numpy(track.members[time])] for time in times}
    if film is not None and outlines is not None:
        parts, left = _outlined(seen, name, link, len(frames), film, outlines)
        return parts, {time: track.members[time][which] for time, which in left.items()} if parts else track.members
    found = _onto_by_shape(seen, link) if film is None else _onto_by_pictures(seen, film)
    if found is None:
        return [], track.members
    reference, onto = found
    body = _body(_moved(seen, onto), reference, link)
    hulls = collider_hulls(body, np.stack([np.linalg.inv(onto[time]) for time in sorted(onto)]), link)
    return [_part(name, body, hulls, onto, len(frames))], {}


def _outlined(
    seen: dict[int, Gaussians], name: str, link: float, num_times: int, film: Film, outlines: np.ndarray
) -> tuple[list[MovingPart], dict[int, np.ndarray]]:
    """The parts of a thing whose outlines a film tells: a ball, or bodies that they carve; and what stays, or is of a
    body whose way is not found."""
    ball = find_ball(outlines, film)
    if ball is not None:
        part = _rolling(ball, seen, name, num_times, film)
        return [] if part is None else [part], {}
    reference = _seen_best(seen)
    shown = limbs_shown(film, _points(seen[reference]), reference, sorted(seen), outlines)
    parts: list[MovingPart] = []
    lost = outlines & (shown == 0)
    for number in range(1, int(shown.max()) + 1):
        limb = shown == number
        own = {
            time: gaussians[torch.from_numpy(_under(gaussians, film, time, limb))] for time, gaussians in seen.items()
        }
        own = {time: gaussians for time, gaussians in own.items() if len(gaussians) >= _MIN_SEEN}
        label = f"{name}_{number}" if parts else name
        part = _carved(own, label, link, num_times, film, limb) if len(own) >= _MIN_TIMES else None
        if part is None:
            lost |= limb
        else:
            parts.append(part)
    return parts, {time: _under(gaussians, film, time, lost) for time, gaussians in seen.items()}


def _under(gaussians: Gaussians, film: Film, time: int, outlines: np.ndarray) -> np.ndarray:
    """Indices of the Gaussians that are seen within the outline ``(T, H, W)`` of one time."""
    row, column, inside = film.seen(_points(gaussians), time)
    at = np.flatnonzero(inside)
    return at[outlines[time, np.rint(row[at]).astype(int), np.rint(column[at]).astype(int)]]


def _carved(
    seen: dict[int, Gaussians], name: str, link: float, num_times: int, film: Film, outlines: np.ndarray
) -> MovingPart | None:
    """A rigid body that outlines carve; None where its way is not found."""
    found = _onto_by_pictures(seen, film)
    if found is None:
        return None
    reference, onto = found
    moved = _within(_moved(_as_far(seen, onto, reference, film), onto), onto, film, outlines)
    if reference not in moved:
        return None
    body = _body(moved, reference, link)
    hull = carved_hull(_points(Gaussians.joined(list(moved.values()))), onto, film, outlines)
    return _part(name, body, () if hull is None else (hull,), onto, num_times)


def _rolling(ball: Ball, seen: dict[int, Gaussians], name: str, num_times: int, film: Film) -> MovingPart | None:
    """A ball as a part that slides: which side of it is up is not told."""
    times = [time for time in sorted(seen) if time in ball.centres]
    if len(times) < _MIN_TIMES:
        return None
    reference = max(times, key=lambda time: float(covered_area(seen[time]).sum()))
    onto = {time: np.eye(4) for time in ball.centres}
    for time, centre in ball.centres.items():
        onto[time][:3, 3] = ball.centres[reference] - centre
    hull = convex_hull(points_on_ball(ball.centres[reference], ball.radius))
    body = onto_ball(seen[reference], ball, reference, film)
    return _part(name, body, () if hull is None else (hull,), onto, num_times)


def _part(
    name: str, body: Gaussians, hulls: tuple[TriMesh, ...], onto: dict[int, np.ndarray], num_times: int
) -> MovingPart:
    """A part of Gaussians and hulls that are where they are at the reference time, in a frame in their middle."""
    times = sorted(onto)
    centre = (body.means.amin(0) + body.means.amax(0)).double().numpy() / 2
    to_world = _at_every_time({time: np.linalg.inv(matrix) for time, matrix in onto.items()}, num_times, centre)
    present = np.zeros(num_times, np.bool_)
    present[times[0] : times[-1] + 1] = True
    gaussians = transform_gaussians(body, torch.eye(3), torch.from_numpy(-centre).float())
    own = tuple(replace(hull, vertices=(hull.vertices - centre).astype(np.float32)) for hull in hulls)
    return MovingPart(name, gaussians, to_world, present, own)


def _onto_by_shape(seen: dict[int, Gaussians], link: float) -> tuple[int, dict[int, np.ndarray]] | None:
    """The time at which most is seen, and each time's motion onto it ``(4, 4)``; None where none is rigid."""
    reference = max(sorted(seen), key=lambda time: float(covered_area(seen[time]).sum()))
    fits = _register(seen, reference, link)
    if float(np.median([fit.inliers for fit in fits.values()])) < _MIN_INLIERS:
        return None
    return reference, {time: fit.matrix for time, fit in fits.items()}


def _seen_best(seen: dict[int, Gaussians]) -> int:
    """The time at which a thing is seen best."""
    times = sorted(seen)
    covers = {time: float(covered_area(seen[time]).sum()) for time in times}
    most, way = max(covers.values()), times[-1] - times[0]
    middle = (times[0] + times[-1]) / 2
    return min(times, key=lambda time: abs(time - middle) - _WORTH_OF_SIGHT * way * covers[time] / most)


def _onto_by_pictures(seen: dict[int, Gaussians], film: Film) -> tuple[int, dict[int, np.ndarray]] | None:
    """The time at which it is seen best, and the motions onto it at the times at which the film shows it there."""
    reference, times = _seen_best(seen), sorted(seen)
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


def _moved(seen: dict[int, Gaussians], onto: dict[int, np.ndarray]) -> dict[int, Gaussians]:
    """What was seen at the times of which the motion is known, where it is at the reference time."""
    return {
        time: transform_gaussians(seen[time], torch.from_numpy(matrix[:3, :3]), torch.from_numpy(matrix[:3, 3]))
        for time, matrix in sorted(onto.items())
    }


def _as_far(
    seen: dict[int, Gaussians], onto: dict[int, np.ndarray], reference: int, film: Film
) -> dict[int, Gaussians]:
    """What was seen at each time, as far from the camera as the thing of the reference time is then.

    A network's guess of how far away a thing is wavers from time to time.
    """
    points, placed = _points(seen[reference]), {}
    for time in onto:
        gaussians = seen[time]
        eye = film.cameras.positions[time]
        then = (points - onto[time][:3, 3]) @ onto[time][:3, :3] - eye.double().numpy()
        found = np.linalg.norm(_points(gaussians) - eye.double().numpy(), axis=1)
        factor = float(np.median(np.linalg.norm(then, axis=1)) / np.median(found))
        placed[time] = transform_gaussians(gaussians, torch.eye(3), (1 - factor) * eye, factor)
    return placed


def _within(
    moved: dict[int, Gaussians], onto: dict[int, np.ndarray], film: Film, outlines: np.ndarray
) -> dict[int, Gaussians]:
    """What stays within the outlines when it moves as the thing does; the rest is not of it."""
    kept = stay_within(_points(Gaussians.joined(list(moved.values()))), onto, film, outlines)
    ends = np.cumsum([len(gaussians) for gaussians in moved.values()])
    return {
        time: gaussians[torch.from_numpy(np.flatnonzero(which))]
        for (time, gaussians), which in zip(moved.items(), np.split(kept, ends[:-1]), strict=True)
        if which.any()
    }


def _body(moved: dict[int, Gaussians], reference: int, link: float) -> Gaussians:
    """The Gaussians of the reference time, and of others where it shows nothing and enough of them agree."""
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


def _points(gaussians: Gaussians) -> np.ndarray:
    return gaussians.means.numpy().astype(np.float64)


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
