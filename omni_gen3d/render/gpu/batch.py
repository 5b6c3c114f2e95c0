"""Pictures of many cameras at once: memory for a call, and the kernels in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.render.gpu import tables
from omni_gen3d.render.gpu.library import FLAWS, Library, stream_of
from omni_gen3d.render.gpu.scene import Scene

# What one round of kernels works on; more cameras take several rounds.
MAX_PIXELS, MAX_ITEMS, MAX_PLACED, MAX_KEYS = 1 << 22, 1 << 25, 1 << 21, 1 << 28
_BLOCKS = 4096
# How much more room the lists get than they took last time.
_SPARE = 1.25

_CHANNELS = {"color": 3, "normal": 3, "motion": 2}
_IDS = ("prim_id", "instance_id", "semantic_id", "splat_index")


@dataclass
class ListLengths:
    """How long the lists of a camera's tiles were, so that the next call makes room before the device has told.

    Attributes:
        entries: Entries of all lists of one camera, on average.
    """

    entries: float = 0.0

    def room(self, cameras: int) -> int:
        """Entries for which a call makes room."""
        return min(int(_SPARE * self.entries * cameras), max(MAX_KEYS, int(self.entries)))


def draw_batch(
    library: Library,
    scene: Scene,
    cameras: torch.Tensor,
    worlds: torch.Tensor,
    size: tuple[int, int],
    wanted: Sequence[str],
    *,
    background: Sequence[float] = (0.0, 0.0, 0.0),
    pixels: float = 0.0,
    earlier: torch.Tensor | None = None,
    flaw: torch.Tensor | None = None,
    lengths: ListLengths | None = None,
) -> dict[str, torch.Tensor]:
    """Draw what every camera sees.

    Args:
        library: The kernels for the device of the cameras.
        scene: What there is to see.
        cameras: Rows of ``view.camera_rows``.
        worlds: Which world of the scene each looks into, shape ``(C,)``, int32.
        size: Width and height [pixels].
        wanted: Names of pictures, as in ``tables.PICTURES``.
        background: RGB behind everything.
        pixels: Detail finer than this is merged [pixels]; 0 draws every Gaussian.
        earlier: The cameras from where ``motion`` counts, like ``cameras``; without, it is 0.
        flaw: Bits of ``library.FLAWS`` about the cameras, int64, shape ``(1,)``; None where they are known to be fine.
        lengths: What earlier calls found; a first call works twice.

    Returns:
        By name, ``(C, H, W)`` or with channels behind: float32, ids int32.

    Raises:
        InputError: A flaw was found.
    """
    width, height = size
    device, count = cameras.device, len(cameras)
    shape = (count, height, width)
    pictures = {
        name: torch.empty(
            (*shape, _CHANNELS[name]) if name in _CHANNELS else shape,
            dtype=torch.int32 if name in _IDS else torch.float32,
            device=device,
        )
        for name in wanted
    }
    step = max(
        1,
        min(
            MAX_PIXELS // max(width * height, 4096),
            MAX_ITEMS // max(scene.max_entries, 1),
            MAX_PLACED // max(scene.max_splats, 1),
        ),
    )
    lengths = ListLengths() if lengths is None else lengths
    rounds = [(first, min(first + step, count)) for first in range(0, count, step)]
    while rounds:
        first, last = rounds.pop()
        chosen = slice(first, last)
        total = _draw_round(
            library,
            scene,
            cameras[chosen],
            worlds[chosen],
            size,
            {name: picture[chosen] for name, picture in pictures.items()},
            background,
            pixels,
            None if earlier is None else earlier[chosen],
            flaw,
            lengths.room(last - first),
        )
        if total > MAX_KEYS and last - first > 1:
            middle = (first + last) // 2
            rounds += [(first, middle), (middle, last)]
        elif total > lengths.room(last - first):
            rounds.append((first, last))
        lengths.entries = total / (last - first)
    return pictures


def _draw_round(
    library: Library,
    scene: Scene,
    cameras: torch.Tensor,
    worlds: torch.Tensor,
    size: tuple[int, int],
    pictures: dict[str, torch.Tensor],
    background: Sequence[float],
    pixels: float,
    earlier: torch.Tensor | None,
    flaw: torch.Tensor | None,
    capacity: int,
) -> int:
    """Fill pictures; return how many entries the lists of the tiles have. Nothing is drawn if ``capacity`` is less."""
    (width, height), count, device = size, len(cameras), cameras.device
    stream = stream_of(device)
    tiles_x, tiles_y = -(-width // tables.TILE), -(-height // tables.TILE)
    area = count * width * height

    def memory(length: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(length, dtype=dtype, device=device)

    placed = memory(count * scene.max_splats * tables.PLACED.itemsize, torch.uint8)
    items = memory(count * scene.max_entries * tables.ITEM.itemsize, torch.uint8)
    num_items = memory(count, torch.int32)
    bins = tiles_x * tiles_y * tables.DEPTHS
    parts = max(1, min(scene.max_entries // 4, _BLOCKS // count))
    depths = memory(2 * count, torch.float32)
    counts = torch.zeros(count * bins, dtype=torch.int32, device=device)
    shares = memory(count * parts * bins if bins <= tables.SHARED_BINS else 0, torch.int32)
    light, rest = memory(4 * area, torch.float32), memory(2 * area, torch.float32)
    call = np.zeros(1, tables.CALL)
    row = call[0]
    row["cameras"], row["camera_worlds"], row["worlds"] = cameras.data_ptr(), worlds.data_ptr(), scene.worlds
    row["earlier"] = 0 if earlier is None else earlier.data_ptr()
    row["placed"], row["items"], row["num_items"] = placed.data_ptr(), items.data_ptr(), num_items.data_ptr()
    row["depths"], row["counts"], row["shares"] = depths.data_ptr(), counts.data_ptr(), shares.data_ptr()
    row["light"], row["expected"] = light.data_ptr(), rest.data_ptr()
    row["surfaces"] = rest.data_ptr() + 4 * area
    row["background"], row["pixels"] = background, pixels
    row["num_cameras"], row["max_splats"], row["max_entries"] = count, scene.max_splats, scene.max_entries
    row["width"], row["height"], row["tiles_x"], row["tiles_y"] = width, height, tiles_x, tiles_y
    for name, picture in pictures.items():
        row["out"][name] = picture.data_ptr()
    kept = []
    faces = (scene.solid_faces, scene.label_faces if "semantic_id" in pictures else 0)
    for name, most in zip(("solid", "labels"), faces, strict=True):
        if most:
            kept.append(torch.full((area,), -1, dtype=torch.int64, device=device))
            row[name] = kept[-1].data_ptr()

    library.find(call, parts, stream)
    # The flaw rides along, so that the host asks the device one question.
    ends = memory(len(counts) + 1, torch.int64)
    torch.cumsum(counts, 0, dtype=torch.int64, out=ends[:-1])
    ends[-1:] = 0 if flaw is None else flaw
    row["ends"] = ends.data_ptr()
    if any(faces):
        library.draw_meshes(call, *faces, stream)
    answer = _ask(ends[-2:])
    keys = memory(capacity, torch.int64)
    row["keys"], row["capacity"] = keys.data_ptr(), capacity
    library.draw(call, parts, stream)
    total, found = answer()
    for bit, message in FLAWS.items():
        if found & bit:
            raise InputError(message)
    return total


def _ask(numbers: torch.Tensor) -> Callable[[], list[int]]:
    """A question to the device whose answer is waited for where it is needed, not where it is asked."""
    if not numbers.is_cuda:
        return numbers.tolist
    answer = torch.empty(len(numbers), dtype=numbers.dtype, pin_memory=True)
    answer.copy_(numbers, non_blocking=True)
    there = torch.cuda.Event()
    there.record()

    def wait() -> list[int]:
        there.synchronize()
        return answer.tolist()

    return wait
