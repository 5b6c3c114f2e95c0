"""The free space of an environment as a ROS occupancy map: ``map.pgm`` and ``map.yaml``, as map_server reads them.

In the picture 254 is free, 0 occupied and 205 unknown; its first row is the farthest along +Y; ``origin`` is the pose
of its lower left corner in the environment's frame. Thresholds are those of map_server, by which 205 stays unknown.
http://wiki.ros.org/map_server#Map_format
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy import ndimage

from omni_gen3d.errors import InputError
from omni_gen3d.mesh.free_space import traversable_floor
from omni_gen3d.types import FreeSpace
from omni_gen3d.usd.manifest import Manifest

FREE, OCCUPIED, UNKNOWN = 254, 0, 205
PICTURE_NAME, YAML_NAME = "map.pgm", "map.yaml"
_MAX_CELLS = 2**26


@dataclass(frozen=True)
class OccupancyMap:
    """Cells of a floor plan.

    Attributes:
        cells: ``FREE``, ``OCCUPIED`` or ``UNKNOWN``, the first axis along +X, the second along +Y, uint8, ``(X, Y)``.
        origin: The low corner of cell (0, 0) [m].
        resolution: Edge of a cell [m].
    """

    cells: np.ndarray
    origin: tuple[float, float]
    resolution: float

    @property
    def free_area_m2(self) -> float:
        """[m2]."""
        return float((self.cells == FREE).sum()) * self.resolution**2

    def write(self, directory: Path | str) -> Path:
        """Write ``map.pgm`` and ``map.yaml`` into a folder, which is created, and return the path of the latter.

        Raises:
            InputError: The folder cannot be written.
        """
        folder = Path(directory).expanduser()
        picture = np.flipud(self.cells.T)
        header = f"P5\n# resolution {self.resolution:g} m\n{picture.shape[1]} {picture.shape[0]}\n255\n"
        values = {
            "image": PICTURE_NAME,
            "mode": "trinary",
            "resolution": self.resolution,
            "origin": [*self.origin, 0.0],
            "negate": 0,
            "occupied_thresh": 0.65,
            "free_thresh": 0.196,
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _replace(folder / PICTURE_NAME, header.encode() + picture.tobytes())
            _replace(folder / YAML_NAME, yaml.safe_dump(values, sort_keys=False, default_flow_style=None).encode())
        except OSError as error:
            raise InputError(f"the map cannot be written to {folder}: {error.strerror}.") from error
        return folder / YAML_NAME


def occupancy_map(
    manifest: Manifest,
    *,
    robot_height: float = 0.6,
    robot_radius: float = 0.0,
    resolution: float | None = None,
) -> OccupancyMap:
    """The floor plan of an environment.

    A column is free where all of it from the floor to the robot's height is known to be empty. It is occupied where it
    is not, but some of it or a column beside it is empty there: what was not seen is solid in the collider, so a robot
    would bump into it. Everything else is unknown.

    Args:
        manifest: Of an environment with a collision proxy and a floor.
        robot_height: What must be empty above the floor [m].
        robot_radius: Free columns nearer than this to one that is not become occupied, as a robot's centre cannot be
            there [m]. 0 for navigation stacks, which inflate obstacles themselves.
        resolution: Edge of a cell [m], that of the free-space voxels where None. A larger cell is free only where all
            of it is.

    Raises:
        InputError: The environment has no free space or no floor, or an argument is out of range.
    """
    space, floor = manifest.free_space, manifest.floor_height_m
    if space is None or floor is None:
        raise InputError(
            f"'{manifest.title}' has no {'collision proxy' if space is None else 'floor'}, so there is no map of it; "
            "generate or convert it with a collider."
        )
    for name, value, least in (
        ("robot height", robot_height, space.voxel_size),
        ("robot radius", robot_radius, 0.0),
        ("resolution", space.voxel_size if resolution is None else resolution, 1e-3),
    ):
        if not (math.isfinite(value) and value >= least):
            raise InputError(f"the {name} is {value} m; it must be at least {least:g} m.")
    free, seen = _columns(space, floor, robot_height)
    # Neighbours over a corner count: a diagonal wall has no gaps.
    near = np.asarray(ndimage.binary_dilation(free, np.ones((3, 3), bool)))
    occupied = ~free & (seen | near)
    if robot_radius > 0:
        reachable, _ = traversable_floor(free, space.voxel_size, robot_radius)
        free, occupied = reachable, occupied | (free & ~reachable)
    step = space.voxel_size if resolution is None else resolution
    if step != space.voxel_size:
        free, occupied = _resampled(free, occupied, space.voxel_size, step)
    cells = np.full(free.shape, UNKNOWN, np.uint8)
    cells[free], cells[occupied] = FREE, OCCUPIED
    return OccupancyMap(cells, (float(space.origin[0]), float(space.origin[1])), float(step))


def _columns(space: FreeSpace, floor: float, robot_height: float) -> tuple[np.ndarray, np.ndarray]:
    """Where everything, and where anything, between the floor and the robot's height is empty, shapes ``(X, Y)``."""
    first = round((floor - float(space.origin[2])) / space.voxel_size)
    last = first + math.ceil(robot_height / space.voxel_size - 1e-6)
    within = space.free[:, :, max(first, 0) : last]
    is_covered = 0 <= first and last <= space.free.shape[2]
    free = within.all(2) if is_covered else np.zeros(within.shape[:2], bool)
    return np.asarray(free), np.asarray(within.any(2))


def _resampled(free: np.ndarray, occupied: np.ndarray, size: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns of edge ``size`` as cells of edge ``step``: free where all it touches is, occupied where anything is."""
    shape = [math.ceil(length * size / step - 1e-6) for length in free.shape]
    if math.prod(shape) > _MAX_CELLS:
        raise InputError(f"a resolution of {step} m makes {math.prod(shape)} cells; at most {_MAX_CELLS} are drawn.")
    spans = []
    for cells, columns in zip(shape, free.shape, strict=True):
        edges = np.arange(cells + 1) * (step / size)
        low = np.floor(edges[:-1] + 1e-6).astype(np.int64)
        spans.append((np.minimum(low, columns - 1), np.clip(np.ceil(edges[1:] - 1e-6).astype(np.int64), 1, columns)))

    def touched(mask: np.ndarray) -> np.ndarray:
        """How many columns of ``mask`` each cell touches, from sums over all columns below and left."""
        sums = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        (x0, x1), (y0, y1) = spans
        return sums[np.ix_(x1, y1)] - sums[np.ix_(x0, y1)] - sums[np.ix_(x1, y0)] + sums[np.ix_(x0, y0)]

    return touched(~free) == 0, touched(occupied) > 0


def _replace(path: Path, content: bytes) -> None:
    staging = path.with_name(f".{path.name}.new")
    staging.write_bytes(content)
    staging.replace(path)
