"""From a PLY of random Gaussians to a USD layer: ours beside usd-convert-gsplat, in one run on one machine.

Each side is measured in a process of its own, once inside Python and once as the whole command that a user types.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Literal

from omni_gen3d.bench.report import Check, Report, Value, cpu_name
from omni_gen3d.errors import InputError, MissingDependencyError, OmniGen3DError

NUM_GAUSSIANS = (1, 5_000_000)
RIVAL = "usd-convert-gsplat"
Exporter = Literal["float", "half", "rival"]
_COEFFICIENTS = 16
_ROWS_AT_A_TIME = 50_000
_PROPERTIES = (
    ["x", "y", "z", "nx", "ny", "nz"]
    + [f"f_dc_{i}" for i in range(3)]
    + [f"f_rest_{i}" for i in range(3 * (_COEFFICIENTS - 1))]
    + ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
)


@dataclass(frozen=True)
class Measured:
    """What one process took.

    Attributes:
        seconds: Of each repeat.
        peak_gb: Most memory that the process held [10^9 bytes].
        usd_mb: Size of the layer of splats [10^6 bytes]; None where it was not looked at.
    """

    seconds: tuple[float, ...]
    peak_gb: float
    usd_mb: float | None

    def joined(self, other: Measured) -> Measured:
        """Both measurements as one."""
        return replace(self, seconds=self.seconds + other.seconds, peak_gb=max(self.peak_gb, other.peak_gb))

    def row(self, exporter: str, way: str) -> dict[str, Value]:
        return {
            "exporter": exporter,
            "way": way,
            "seconds": median(self.seconds),
            "fastest": min(self.seconds),
            "slowest": max(self.seconds),
            "runs": len(self.seconds),
            "peak_gb": self.peak_gb,
            "usd_mb": self.usd_mb,
        }


def run_export(num_gaussians: int = 500_000, repeats: int = 5, seed: int = 0) -> Report:
    """Measure both sides on one file of harmonics of degree 3.

    Args:
        num_gaussians: In the file.
        repeats: Of ours, inside Python and of the whole command; the rival runs once.
        seed: Of the Gaussians.

    Raises:
        InputError: ``num_gaussians`` or ``repeats`` is out of range.
        MissingDependencyError: The rival is not installed.
    """
    if not NUM_GAUSSIANS[0] <= num_gaussians <= NUM_GAUSSIANS[1] or repeats < 1:
        raise InputError(
            f"num_gaussians is {num_gaussians} and repeats {repeats}; allowed are {NUM_GAUSSIANS[0]} to "
            f"{NUM_GAUSSIANS[1]} Gaussians and at least 1 repeat."
        )
    _check_rival()
    with tempfile.TemporaryDirectory(prefix="omni_gen3d-bench-") as directory:
        ply = Path(directory, "splats.ply")
        write_random_ply(ply, num_gaussians, seed)
        ours_half = _measure_in_process("half", ply, repeats)
        # Ours before and after the rival: what else the machine does meanwhile falls on both.
        before = _measure_in_process("float", ply, (repeats + 1) // 2)
        rival = _measure_in_process("rival", ply, 1)
        ours_float = before if repeats == 1 else before.joined(_measure_in_process("float", ply, repeats // 2))
        our_command = _measure_command(_our_command, ply, repeats)
        rival_command = _measure_command(_rival_command, ply, 1)
    return make_report(ours_float, ours_half, rival, our_command, rival_command)


def make_report(
    ours_float: Measured, ours_half: Measured, rival: Measured, our_command: Measured, rival_command: Measured
) -> Report:
    """Rows and checks of what was measured; speed is the rival's time over the median of ours."""
    rows = [
        ours_float.row("omni_gen3d, float", "in process"),
        ours_half.row("omni_gen3d, half", "in process"),
        rival.row(RIVAL, "in process"),
        our_command.row("omni_gen3d convert --collision none", "command"),
        rival_command.row(RIVAL, "command"),
    ]
    checks = [
        Check("speedup_in_process", median(rival.seconds) / median(ours_float.seconds), ">=", 40),
        Check("speedup_command", median(rival_command.seconds) / median(our_command.seconds), ">=", 8),
        Check("peak_gb", max(ours_float.peak_gb, ours_half.peak_gb, our_command.peak_gb), "<=", 1),
        Check("usdc_mb_float", ours_float.usd_mb, "<=", 119),
        Check("usdc_mb_half", ours_half.usd_mb, "<=", 60),
    ]
    return Report(cpu_name(), rows, checks)


def write_random_ply(path: Path, num_gaussians: int, seed: int) -> None:
    """Random Gaussians in a room of 8 m x 6 m x 3 m, in the binary PLY of 3D Gaussian splatting, degree 3."""
    import numpy as np

    rng = np.random.default_rng(seed)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {num_gaussians}"]
    header += [*(f"property float {name}" for name in _PROPERTIES), "end_header"]
    scale = _PROPERTIES.index("scale_0")
    with path.open("wb") as file:
        file.write(("\n".join(header) + "\n").encode())
        for begin in range(0, num_gaussians, _ROWS_AT_A_TIME):
            rows = min(_ROWS_AT_A_TIME, num_gaussians - begin)
            values = rng.standard_normal((rows, len(_PROPERTIES)), dtype=np.float32)
            values[:, :3] = (rng.random((rows, 3), dtype=np.float32) - [0.5, 0.5, 0]) * [8, 6, 3]
            values[:, 3:6] = 0
            values[:, scale : scale + 3] -= 5
            file.write(values.tobytes())


def export(kind: Exporter, ply: Path, usd: Path) -> None:
    """Read ``ply`` and write ``usd``, one side's way."""
    if kind == "rival":
        from usd_convert_gsplat import read_ply, write_gaussian_splat_usd

        write_gaussian_splat_usd(read_ply(str(ply)), str(usd), source_file=str(ply), up_axis="Z")
        return
    from omni_gen3d.splat_file import read_splat_file
    from omni_gen3d.usd.splats import author_splats
    from omni_gen3d.usd.stage import new_stage, save_stage

    stage = new_stage("Splats")
    author_splats(stage, "/Splats", read_splat_file(ply), half=kind == "half")
    save_stage(stage, usd)


def measure(kind: Exporter, ply: Path, repeats: int) -> Measured:
    """Time ``export`` in this process, the libraries loaded before."""
    _load(kind)
    seconds, size = [], 0
    with tempfile.TemporaryDirectory(prefix="omni_gen3d-bench-") as directory:
        for i in range(repeats):
            usd = Path(directory, f"splats{i}.usdc")
            began = time.perf_counter()
            export(kind, ply, usd)
            seconds.append(time.perf_counter() - began)
            size = usd.stat().st_size
            usd.unlink()
    return Measured(tuple(seconds), _peak_gb(), size / 1e6)


def _load(kind: Exporter) -> None:
    if kind == "rival":
        import usd_convert_gsplat  # noqa: F401
    else:
        import omni_gen3d.splat_file
        import omni_gen3d.usd.splats  # noqa: F401


def _check_rival() -> None:
    if find_spec("usd_convert_gsplat") is None:
        raise MissingDependencyError(f"{RIVAL} is not installed; run: pip install 'omni_gen3d[bench]'")


def _measure_in_process(kind: Exporter, ply: Path, repeats: int) -> Measured:
    code = "import sys; from omni_gen3d.bench import export; export.work(*sys.argv[1:])"
    finished = subprocess.run(
        [sys.executable, "-c", code, kind, str(ply), str(repeats)], capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        raise OmniGen3DError(f"measuring '{kind}' failed: {finished.stderr.strip()[-2000:]}")
    values = json.loads(finished.stdout.splitlines()[-1])
    return Measured(tuple(values["seconds"]), values["peak_gb"], values["usd_mb"])


def work(kind: Exporter, ply: str, repeats: str) -> None:
    """The measuring process: one JSON object as the last line of standard output."""
    with contextlib.redirect_stdout(sys.stderr):
        measured = measure(kind, Path(ply), int(repeats))
    print(json.dumps(asdict(measured)))


def _our_command(ply: Path, folder: Path) -> Sequence[str]:
    main = "from omni_gen3d.cli import main; main()"
    return [sys.executable, "-c", main, "convert", str(ply), "--out", str(folder / "ours"), "--collision", "none"]


def _rival_command(ply: Path, folder: Path) -> Sequence[str]:
    main = "from usd_convert_gsplat.cli import main; main()"
    return [sys.executable, "-c", main, "-i", str(ply), "-o", str(folder / "rival.usdc"), "--up-axis", "Z"]


def _measure_command(command: Callable[[Path, Path], Sequence[str]], ply: Path, repeats: int) -> Measured:
    """Wall time of a command from its start to its end, into a new folder each time."""
    seconds, peak, size = [], 0.0, 0
    for _ in range(repeats):
        os.sync()  # what earlier runs wrote is not this run's work
        with tempfile.TemporaryDirectory(prefix="omni_gen3d-bench-") as directory:
            log = Path(directory, "log")
            began = time.perf_counter()
            with log.open("wb") as output:
                words = command(ply, Path(directory))
                process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds.append(time.perf_counter() - began)
            if process.returncode != 0:
                said = log.read_text(errors="replace").strip()[-2000:]
                raise OmniGen3DError(f"{words[3:]} failed with exit code {process.returncode}: {said}")
            peak = max(peak, usage.ru_maxrss * 1024 / 1e9)
            size = max((file.stat().st_size for file in Path(directory).rglob("*.usdc")), default=0)
    return Measured(tuple(seconds), peak, size / 1e6)


def _peak_gb() -> float:
    """Most memory that this process held; not what it inherited from its parent, which getrusage would report."""
    with open("/proc/self/status", encoding="ascii") as file:
        kilobytes = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    return kilobytes * 1024 / 1e9
