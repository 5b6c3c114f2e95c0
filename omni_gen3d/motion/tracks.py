"""Things followed through time: clusters of Gaussians at each time, joined with those at the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from omni_gen3d.mesh.sampling import covered_area
from omni_gen3d.motion.sighted import SIGHTED
from omni_gen3d.types import Gaussians

# Gaussians of one thing overlap: neighbours are no farther apart than this many of their larger radii.
_LINK_SIGMA, _LINK_M = 4.0, (0.06, 0.25)
# Fewer Gaussians, or less surface, than this is a crumb that no body stands for.
_MIN_COUNT, _MIN_COVER_M2 = 12, 0.003
# How far a thing may move between two times beyond where its speed takes it [m], besides half its own size.
_SURPRISE_M = 0.35
# A thing may be out of sight for so many times and still be the same.
_MAX_GAP = 2


@dataclass
class Track:
    """A thing as it was seen: indices into the Gaussians of each time at which it was."""

    members: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max(self.members)


def link_length(frames: Sequence[Gaussians]) -> float:
    """How far apart neighbours on one surface may be [m]."""
    scales = np.concatenate([frame.scales.numpy().max(1) for frame in frames])
    return float(np.clip(_LINK_SIGMA * np.median(scales), *_LINK_M)) if len(scales) else _LINK_M[0]


def find_tracks(frames: Sequence[Gaussians], things: Sequence[np.ndarray] | None = None) -> list[Track]:
    """Follow every cluster through time, the one that covers most first; crumbs are left out.

    Args:
        frames: What moves, at each time.
        things: The number of the thing that each is of, 0 where it is of none; then the things are followed, not
            clusters, and each number of a sighted body is a track.
    """
    link = link_length(frames)
    points = [frame.means.numpy().astype(np.float64) for frame in frames]
    covers = [covered_area(frame) for frame in frames]
    tracks: list[Track] = []
    bodies: dict[int, Track] = {}
    for time in range(len(frames)):
        if things is None:
            clusters = _clusters(points[time], covers[time], link)
        else:
            clusters = _numbered(np.where(things[time] > SIGHTED, 0, things[time]), covers[time])
            for cluster in _numbered(np.where(things[time] > SIGHTED, things[time], 0), covers[time]):
                bodies.setdefault(int(things[time][cluster[0]]), Track()).members[time] = cluster
        _extend(tracks, time, clusters, points, link)
    tracks += bodies.values()
    total = {id(track): sum(covers[t][which].sum() for t, which in track.members.items()) for track in tracks}
    return sorted(tracks, key=lambda track: -total[id(track)])


def _clusters(points: np.ndarray, covers: np.ndarray, link: float) -> list[np.ndarray]:
    """Groups of points no farther than ``link`` from each other, the largest first."""
    if len(points) == 0:
        return []
    pairs = KDTree(points).query_pairs(link, output_type="ndarray")
    graph = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), (len(points), len(points)))
    labels = sparse.csgraph.connected_components(graph, directed=False)[1]
    groups = [np.flatnonzero(labels == label) for label in np.flatnonzero(np.bincount(labels) >= _MIN_COUNT)]
    groups = [group for group in groups if covers[group].sum() >= _MIN_COVER_M2]
    return sorted(groups, key=lambda group: -covers[group].sum())


def _numbered(things: np.ndarray, covers: np.ndarray) -> list[np.ndarray]:
    """Groups of one number, the first first."""
    groups = [np.flatnonzero(things == number) for number in np.unique(things[things > 0])]
    return [group for group in groups if len(group) >= _MIN_COUNT and covers[group].sum() >= _MIN_COVER_M2]


def _extend(
    tracks: list[Track], time: int, clusters: list[np.ndarray], points: Sequence[np.ndarray], link: float
) -> None:
    """Give each cluster of one time to a track: to one that leads there, to one that it touches, or to a new one."""
    centres = [points[time][cluster].mean(0) for cluster in clusters]
    candidates = [track for track in tracks if time - track.last <= _MAX_GAP + 1]
    taken: set[int] = set()
    if candidates and clusters:
        cost = np.full((len(candidates), len(clusters)), np.inf)
        for i, track in enumerate(candidates):
            expected, size = _expected(track, time, points)
            reach = _SURPRISE_M + 0.5 * size
            for j, centre in enumerate(centres):
                distance = float(np.linalg.norm(centre - expected))
                if distance <= reach:
                    cost[i, j] = distance
        # Without a finite choice the solver refuses; far pairs are taken out again.
        rows, columns = linear_sum_assignment(np.where(np.isfinite(cost), cost, 1e6))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            if np.isfinite(cost[i, j]):
                candidates[i].members[time] = clusters[j]
                taken.add(j)
    for j, cluster in enumerate(clusters):
        if j in taken:
            continue
        near = _touched(tracks, time, points[time][cluster], points, 2 * link)
        if near is None:
            tracks.append(Track({time: cluster}))
        else:
            near.members[time] = np.concatenate([near.members[time], cluster])


def _expected(track: Track, time: int, points: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Where a track leads [m], and the diagonal of what was last seen of it [m]."""
    seen = points[track.last][track.members[track.last]]
    centre = seen.mean(0)
    earlier = sorted(track.members)[:-1]
    if earlier:
        before = points[earlier[-1]][track.members[earlier[-1]]].mean(0)
        centre = centre + (centre - before) * (time - track.last) / (track.last - earlier[-1])
    return centre, float(np.linalg.norm(np.ptp(seen, axis=0)))


def _touched(
    tracks: list[Track], time: int, cluster: np.ndarray, points: Sequence[np.ndarray], reach: float
) -> Track | None:
    for track in tracks:
        if time in track.members:
            distance, _ = KDTree(points[time][track.members[time]]).query(cluster)
            if distance.min() <= reach:
                return track
    return None
