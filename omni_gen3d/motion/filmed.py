"""The rigid parts of a thing that a film shows: pictures tell its way, outlines its form where the camera stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from omni_gen3d.geometry import transform_gaussians
from omni_gen3d.mesh.convex import convex_hull
from omni_gen3d.mesh.sampling import covered_area
from omni_gen3d.motion.balls import Ball, find_ball, onto_ball, points_on_ball
from omni_gen3d.motion.bodies import body_of, moved_onto, part_of, points_of
from omni_gen3d.motion.carving import carved_hull, stay_within
from omni_gen3d.motion.embodied import Body, body_under
from omni_gen3d.motion.film import Film
from omni_gen3d.motion.following import Follower
from omni_gen3d.motion.limbs import limbs_shown
from omni_gen3d.motion.painting import painted
from omni_gen3d.motion.sighted import MIN_TIMES
from omni_gen3d.types import Gaussians, MovingPart

# Fewer Gaussians are no sight of a limb.
_MIN_SEEN = 12
# A thing is found where it looks no more different than this [of 2]; it is rigid if it is found at half of the times.
_MAX_COLOR_ERROR = 0.13
# A thing is seen best in the middle of its way, unless more of it is seen elsewhere: all of it against nothing is worth
# this share of the way.
_WORTH_OF_SIGHT = 0.5
# A thing of which less than this share stays within its outlines is not rigid.
_STAYS = 0.5
# What another time shows of a body is added where nothing is within so many radii.
_APART = 3.0
# So many times, all along a way, show what a body looks like.
_LOOKS = 17


def outlined_parts(
    seen: dict[int, Gaussians], name: str, link: float, num_times: int, film: Film, outlines: np.ndarray
) -> tuple[list[MovingPart], dict[int, np.ndarray]]:
    """The parts of a thing whose outlines a film tells: a ball, or bodies that they carve; and by time what stays, or
    is of a body whose way is not found then."""
    ball = find_ball(outlines, film)
    if ball is not None:
        part = _rolling(ball, seen, name, num_times, film)
        if part is None:
            return [], {}
        return [part], {time: np.arange(len(seen[time])) for time in absences(part, seen)}
    body = body_under(outlines, film)
    part = None if body is None else _sighted(body, name, num_times, film, outlines)
    if part is not None:
        return [part], {time: np.arange(len(seen[time])) for time in absences(part, seen)}
    reference = _seen_best(seen)
    shown = limbs_shown(film, points_of(seen[reference]), reference, sorted(seen), outlines)
    parts: list[MovingPart] = []
    lost = outlines & (shown == 0)
    for number in range(1, int(shown.max()) + 1):
        limb = shown == number
        own = {
            time: gaussians[torch.from_numpy(_under(gaussians, film, time, limb))] for time, gaussians in seen.items()
        }
        own = {time: gaussians for time, gaussians in own.items() if len(gaussians) >= _MIN_SEEN}
        label = f"{name}_{number}" if parts else name
        part = _carved(own, label, link, num_times, film, limb) if len(own) >= MIN_TIMES else None
        if part is None:
            lost |= limb
        else:
            parts.append(part)
            lost[~part.present] |= limb[~part.present]
    return parts, {time: _under(gaussians, film, time, lost) for time, gaussians in seen.items()}


def absences(part: MovingPart, times: Iterable[int]) -> list[int]:
    """Those of the times at which a part is not there."""
    return [time for time in times if not part.present[time]]


def _rolling(ball: Ball, seen: dict[int, Gaussians], name: str, num_times: int, film: Film) -> MovingPart | None:
    """A ball as a part that slides: which side of it is up is not told."""
    times = [time for time in sorted(seen) if time in ball.centres]
    if len(times) < MIN_TIMES:
        return None
    reference = max(times, key=lambda time: float(covered_area(seen[time]).sum()))
    onto = {time: np.eye(4) for time in ball.centres}
    for time, centre in ball.centres.items():
        onto[time][:3, 3] = ball.centres[reference] - centre
    hull = convex_hull(points_on_ball(ball.centres[reference], ball.radius))
    body = onto_ball(seen[reference], ball, reference, film)
    return part_of(name, body, () if hull is None else (hull,), onto, num_times)


def _sighted(body: Body, name: str, num_times: int, film: Film, outlines: np.ndarray) -> MovingPart | None:
    """A body that sightings tell of; None where nothing is seen of it, or it does not stay within what moves."""
    assert film.shown is not None, "outlines are known"
    times = sorted(body.to_world)
    seen = {time: painted(body, outlines, film, time) for time in _some(times)}
    seen = {time: gaussians for time, gaussians in seen.items() if len(gaussians) >= _MIN_SEEN}
    if not seen:
        return None
    reference = max(seen, key=lambda time: float(covered_area(seen[time]).sum()))
    there = body.to_world[reference]
    onto = {time: there @ np.linalg.inv(body.to_world[time]) for time in times}
    looked = {time: onto[time] for time in seen}
    # Other things may be before it then.
    moved = _within(moved_onto(seen, looked), looked, film, film.shown > 0)
    if reference not in moved:
        return None
    look = body_of(moved, reference, _APART * float(seen[reference].scales.median()))
    hull = convex_hull(body.corners @ there[:3, :3].T + there[:3, 3])
    return part_of(name, look, () if hull is None else (hull,), onto, num_times)


def _carved(
    seen: dict[int, Gaussians], name: str, link: float, num_times: int, film: Film, outlines: np.ndarray
) -> MovingPart | None:
    """A rigid body that outlines carve; None where its way is not found, or it does not stay within them."""
    found = onto_by_pictures(seen, film)
    if found is None:
        return None
    reference, onto = found
    looked = {time: onto[time] for time in sorted({*_some(sorted(onto)), reference})}
    moved = _within(moved_onto(_as_far(seen, looked, reference, film), looked), onto, film, outlines)
    if reference not in moved:
        return None
    body = body_of(moved, reference, link)
    hull = carved_hull(points_of(Gaussians.joined(list(moved.values()))), onto, film, outlines)
    return part_of(name, body, () if hull is None else (hull,), onto, num_times)


def _under(gaussians: Gaussians, film: Film, time: int, outlines: np.ndarray) -> np.ndarray:
    """Indices of the Gaussians that are seen within the outline ``(T, H, W)`` of one time."""
    row, column, inside = film.seen(points_of(gaussians), time)
    at = np.flatnonzero(inside)
    return at[outlines[time, np.rint(row[at]).astype(int), np.rint(column[at]).astype(int)]]


def _seen_best(seen: dict[int, Gaussians]) -> int:
    """The time at which a thing is seen best."""
    times = sorted(seen)
    covers = {time: float(covered_area(seen[time]).sum()) for time in times}
    most, way = max(covers.values()), times[-1] - times[0]
    middle = (times[0] + times[-1]) / 2
    return min(times, key=lambda time: abs(time - middle) - _WORTH_OF_SIGHT * way * covers[time] / most)


def onto_by_pictures(seen: dict[int, Gaussians], film: Film) -> tuple[int, dict[int, np.ndarray]] | None:
    """The time at which it is seen best, and the motions onto it at the times at which the film shows it there."""
    reference, times = _seen_best(seen), sorted(seen)
    followed = Follower(film).follow(points_of(seen[reference]), reference, times)
    onto = {
        time: np.linalg.inv(motion)
        for time, motion in followed.motions.items()
        if followed.errors[time] <= _MAX_COLOR_ERROR
    }
    return (reference, onto) if len(onto) >= max(MIN_TIMES, len(times) / 2) else None


def _as_far(
    seen: dict[int, Gaussians], onto: dict[int, np.ndarray], reference: int, film: Film
) -> dict[int, Gaussians]:
    """What was seen at each time, as far from the camera as the thing of the reference time is then.

    A network's guess of how far away a thing is wavers from time to time.
    """
    points, placed = points_of(seen[reference]), {}
    for time in onto:
        gaussians = seen[time]
        eye = film.cameras.positions[time]
        then = (points - onto[time][:3, 3]) @ onto[time][:3, :3] - eye.double().numpy()
        found = np.linalg.norm(points_of(gaussians) - eye.double().numpy(), axis=1)
        factor = float(np.median(np.linalg.norm(then, axis=1)) / np.median(found))
        placed[time] = transform_gaussians(gaussians, torch.eye(3), (1 - factor) * eye, factor)
    return placed


def _some(times: Sequence[int]) -> list[int]:
    """Those of the times that show what a body looks like."""
    return [times[i] for i in np.unique(np.linspace(0, len(times) - 1, _LOOKS).round().astype(int))]


def _within(
    moved: dict[int, Gaussians], onto: dict[int, np.ndarray], film: Film, outlines: np.ndarray
) -> dict[int, Gaussians]:
    """What stays within the outlines when it moves as the thing does; the rest is not of it. Nothing, where most does
    not: then the thing is not rigid, or not on this way."""
    kept = stay_within(points_of(Gaussians.joined(list(moved.values()))), onto, film, outlines)
    if kept.sum() < _STAYS * len(kept):
        return {}
    ends = np.cumsum([len(gaussians) for gaussians in moved.values()])
    return {
        time: gaussians[torch.from_numpy(np.flatnonzero(which))]
        for (time, gaussians), which in zip(moved.items(), np.split(kept, ends[:-1]), strict=True)
        if which.any()
    }
