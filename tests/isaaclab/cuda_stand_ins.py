"""Let a CUDA build of torch start without CUDA: ``python cuda_stand_ins.py``, run by the environment it serves.

Isaac Lab's Python finds only CUDA builds of torch, whose NVIDIA libraries weigh gigabytes that a CPU run never calls.
Left out of the installation, they are replaced here by libraries of the same names that hold nothing, and one more
that defines every function torch expects of them; each returns an error code.
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path

_NVIDIA_LIBRARY = re.compile(r"lib(cu|nv|nccl).*\.so")
_NVIDIA_FUNCTION = re.compile(r"(cu|nv|p?nccl)\w+")
_SHARED_FUNCTIONS = "libcuda_stand_ins.so"


def _read_elf(tool: str, option: str, library: Path, pattern: str) -> set[str]:
    text = subprocess.run([tool, option, str(library)], capture_output=True, text=True, check=True).stdout
    return set(re.findall(pattern, text))


def write_stand_ins(site_packages: Path) -> list[str]:
    """Write what torch links and the environment lacks; returns the names of the libraries."""
    target = site_packages / "nvidia" / "cu13" / "lib"
    real = list(target.glob("*.so*"))
    installed = [*(site_packages / "torch" / "lib").glob("*.so*"), *real]
    needed = set[str]().union(*(_read_elf("readelf", "-d", so, r"NEEDED.*\[(.+)\]") for so in installed))
    undefined = set[str]().union(*(_read_elf("nm", "-Du", so, r" U (\w+)") for so in installed))
    defined = set[str]().union(*(_read_elf("nm", "-D", so, r" [TWBDVi] (\w+)") for so in installed))

    libraries = sorted(filter(_NVIDIA_LIBRARY.match, needed - {so.name for so in installed}))
    functions = sorted(filter(_NVIDIA_FUNCTION.fullmatch, undefined - defined))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "stand_ins.c"
        source.write_text("".join(f"int {name}(void) {{ return 999; }}\n" for name in functions))
        _link(target / _SHARED_FUNCTIONS, str(source))
        source.write_text("")
        for name in libraries:
            _link(target / name, str(source), "-Wl,--no-as-needed", str(target / _SHARED_FUNCTIONS))
    return libraries


def _link(library: Path, *inputs: str) -> None:
    options = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{library.name}", "-Wl,-rpath,$ORIGIN"]
    subprocess.run(["gcc", *options, "-o", str(library), *inputs], check=True)


if __name__ == "__main__":
    print("stand-ins for", ", ".join(write_stand_ins(Path(sysconfig.get_path("purelib")))))
