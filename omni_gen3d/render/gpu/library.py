"""The compiled kernels: built with nvcc at first use, kept in the user's cache, called through ctypes.

The sources take no header of torch, so that a build takes seconds and one library serves every version of it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from omni_gen3d.errors import InputError, MissingDependencyError
from omni_gen3d.render.gpu import tables

SOURCES = Path(__file__).parent
# What can be wrong with cameras, by the bit that says so.
FLAWS = {
    1: "the cameras hold NaN or infinite values; all must be finite.",
    2: "the cameras' focal lengths must be positive and their skew 0.",
}
_FLAGS = ("-O3", "--use_fast_math", "-shared", "-Xcompiler", "-fPIC")


class Library:
    """The functions of ``library.cu``."""

    def __init__(self, path: Path) -> None:
        """Load a built library.

        Raises:
            InputError: It does not load, or its tables are laid out otherwise than ours.
        """
        try:
            self._functions = ctypes.CDLL(str(path))
        except OSError as error:
            raise InputError(f"{path} does not load ({error}); delete it to have it built again.") from error
        sizes = [self._functions.table_size(number) for number in range(len(tables.LAYOUTS))]
        if sizes != [layout.itemsize for layout in tables.LAYOUTS]:
            raise InputError(
                f"{path} lays out its tables otherwise than this version; delete it to have it built again."
            )

    def take_cameras(
        self, poses: torch.Tensor, lenses: torch.Tensor, near: float, far: float, flaw: torch.Tensor, stream: int
    ) -> torch.Tensor:
        """Rows of ``tables.CAMERA``, shape ``(C, 18)``; ``flaw`` gets the bits of ``FLAWS``."""
        rows = torch.empty(len(poses), 18, dtype=torch.float64, device=poses.device)
        doubles, count = ctypes.c_int(poses.dtype == torch.float64), ctypes.c_int(len(poses))
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (poses, lenses, rows, flaw)]
        limits = (ctypes.c_double(near), ctypes.c_double(far))
        code = self._functions.take_cameras(
            *pointers[:2], doubles, *limits, count, *pointers[2:], ctypes.c_void_p(stream)
        )
        _expect_started("take_cameras", code)
        return rows

    def find(self, call: np.ndarray, parts: int, stream: int) -> None:
        """List what every camera sees, and count the entries of every tile."""
        self._run("find", call, ctypes.c_int(parts), stream)

    def draw_meshes(self, call: np.ndarray, solid_faces: int, label_faces: int, stream: int) -> None:
        """Find the nearest face of every pixel."""
        self._run("draw_meshes", call, ctypes.c_int(solid_faces), ctypes.c_int(label_faces), stream)

    def draw(self, call: np.ndarray, parts: int, stream: int) -> None:
        """Fill the lists of the tiles, and the pictures."""
        self._run("draw", call, ctypes.c_int(parts), stream)

    def _run(self, name: str, call: np.ndarray, *arguments: ctypes.c_int | int) -> None:
        *numbers, stream = arguments
        code = getattr(self._functions, name)(ctypes.c_void_p(call.ctypes.data), *numbers, ctypes.c_void_p(int(stream)))
        _expect_started(name, code)


def _expect_started(name: str, code: int) -> None:
    if code != 0:
        raise RuntimeError(f"the kernels of '{name}' did not start: CUDA error {code}.")


def stream_of(device: torch.device) -> int:
    """Address of the stream on which torch works on a device."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


@cache
def library_for(device: torch.device) -> Library:
    """The library for a CUDA device, built if no earlier process has.

    Raises:
        MissingDependencyError: It has to be built and there is no nvcc.
        InputError: nvcc fails.
    """
    major, minor = torch.cuda.get_device_capability(device)
    return Library(build(f"sm_{major}{minor}"))


def available(device: torch.device) -> bool:
    """Whether ``library_for`` has a library for a CUDA device, or a compiler to build one."""
    major, minor = torch.cuda.get_device_capability(device)
    return _built(f"sm_{major}{minor}").exists() or _compiler() is not None


def build(architecture: str) -> Path:
    """Path of the library for an architecture, ``sm_90`` for example, built where it is not there."""
    built = _built(architecture)
    if built.exists():
        return built
    compiler = find_compiler()
    built.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=built.parent) as folder:
        made = Path(folder) / built.name
        command = [compiler, *_FLAGS, f"-arch={architecture}", "-o", str(made), str(SOURCES / "library.cu")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InputError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
        made.replace(built)
    return built


def _built(architecture: str) -> Path:
    digest = hashlib.sha256(architecture.encode())
    for source in sorted(SOURCES.glob("*.cu*")):
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
    return home / "omni_gen3d" / "kernels" / f"render-{architecture}-{digest.hexdigest()[:16]}.so"


def _compiler() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home) / "bin"))


def find_compiler() -> str:
    found = _compiler()
    if found is None:
        raise MissingDependencyError(
            "the cuda backend compiles its kernels at first use and finds no nvcc; install the CUDA toolkit, or set "
            "CUDA_HOME to where it is. backend 'cpu' needs none."
        )
    return found
