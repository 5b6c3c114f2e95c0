"""PLY files: every legal layout gives the same Gaussians, every broken one a clear error."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.splat_file import read_splat_file
from omni_gen3d.types import Gaussians


def splats(count: int, degree: int) -> Gaussians:
    generator = torch.Generator().manual_seed(degree)
    return Gaussians(
        means=torch.randn(count, 3, generator=generator),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1),
        scales=torch.rand(count, 3, generator=generator) * 0.1 + 0.001,
        opacities=torch.rand(count, generator=generator) * 0.98 + 0.01,
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=generator),
    )


def assert_same(actual: Gaussians, expected: Gaussians) -> None:
    for field in fields(Gaussians):
        torch.testing.assert_close(getattr(actual, field.name), getattr(expected, field.name), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("layout", [{}, {"dtype": "<f8"}, {"dtype": ">f4"}, {"shuffled": True}, {"extra": True}])
def test_every_layout_is_read(layout: dict, degree: int, tmp_path: Path, write_ply: Callable[..., Path]) -> None:
    """Degrees 0 to 3, doubles, big-endian, another order, foreign properties and elements: the same Gaussians."""
    expected = splats(9000, degree)  # more than one block of rows
    actual = read_splat_file(write_ply(expected, tmp_path / "a.ply", **layout))
    assert_same(actual, expected)
    assert torch.equal(actual.means, expected.means)
    actual.validate()


def test_gsply_reads_the_same(tmp_path: Path) -> None:
    """What another library writes is read as that library reads it."""
    import gsply

    expected = splats(100, 3)
    data = gsply.GSData.from_arrays(
        means=expected.means.numpy(),
        scales=expected.scales.log().numpy(),
        quats=expected.quats.numpy(),
        opacities=torch.logit(expected.opacities).numpy(),
        sh0=expected.sh[:, 0].numpy(),
        shN=expected.sh[:, 1:].numpy(),
    )
    gsply.plywrite(str(tmp_path / "a.ply"), data)
    assert_same(read_splat_file(tmp_path / "a.ply"), expected)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_harmonics_are_cut(kept: int, tmp_path: Path, write_ply: Callable[..., Path]) -> None:
    """Asked for fewer degrees, the first coefficients remain; more than there are is no error."""
    expected = splats(50, 2)
    actual = read_splat_file(write_ply(expected, tmp_path / "a.ply"), sh_degree=kept)
    assert torch.equal(actual.sh, expected.sh[:, : (kept + 1) ** 2])


def test_extreme_but_legal_values(tmp_path: Path, write_ply: Callable[..., Path]) -> None:
    """Infinite logits (opacity 0 and 1) and scales of zero are what some tools write; they come out in range."""
    gaussians = splats(3, 0)
    path = write_ply(gaussians, tmp_path / "a.ply")
    table = np.frombuffer(path.read_bytes()[-3 * 14 * 4 :], "<f4").reshape(3, 14).copy()
    table[0, 6], table[1, 6], table[2, 9] = np.inf, -np.inf, -np.inf
    path.write_bytes(path.read_bytes()[: -3 * 14 * 4] + table.tobytes())
    actual = read_splat_file(path)
    actual.validate()
    assert actual.opacities[:2].tolist() == [1, 0]
    assert 0 < actual.scales[2, 2] < 1e-15


def test_half_a_million_take_less_than_a_second(tmp_path: Path, write_ply: Callable[..., Path]) -> None:
    """500,000 Gaussians of degree 3, 118 MB, in processor time."""
    path = write_ply(splats(1000, 3), tmp_path / "a.ply")
    header, end, rows = path.read_bytes().partition(b"end_header\n")
    path.write_bytes(header.replace(b"vertex 1000", b"vertex 500000") + end + 500 * rows)
    began = time.process_time()
    assert len(read_splat_file(path)) == 500_000
    assert time.process_time() - began < 1.0


def broken(kind: str, path: Path, write_ply: Callable[..., Path]) -> Path:
    """A file that is wrong in one way."""
    whole = write_ply(splats(40, 1), path).read_bytes()
    header, end, rows = whole.partition(b"end_header\n")
    contents = {
        "truncated": whole[:-1],
        "50 million in 1 kB": header.replace(b"vertex 40", b"vertex 50000000") + end + rows[:500],
        "more than memory": header.replace(b"vertex 40", b"vertex 99999999999999999999") + end + rows,
        "negative": header.replace(b"vertex 40", b"vertex -1") + end,
        "none": header.replace(b"vertex 40", b"vertex 0") + end,
        "not a number": whole[:-200] + np.float32(np.nan).tobytes() + whole[-196:],
        "zero rotation": whole[:-16] + bytes(16),
        "point cloud": header.replace(b"rot_3", b"alpha") + end + rows,
        "odd harmonics": header.replace(b"f_rest_8", b"f_best_8") + end + rows,
        "no vertices": header.replace(b"element vertex", b"element corner") + end + rows,
        "lists": header.replace(b"property float x", b"property list uchar float x") + end + rows,
        "ascii": header.replace(b"binary_little_endian", b"ascii") + end + b"0 0 0\n",
        "unknown type": header.replace(b"property float x", b"property quad x") + end + rows,
        "twice the same": header.replace(b"property float y", b"property float x") + end + rows,
        "no end": header + rows,
        "text": b"hello",
        "empty": b"",
    }
    path.write_bytes(contents[kind])
    return path


BROKEN = {
    "truncated": "truncated",
    "50 million in 1 kB": "truncated",
    "more than memory": "truncated",
    "negative": "damaged PLY header",
    "none": "0 Gaussians",
    "not a number": "of 1 of 40 Gaussians",
    "zero rotation": "rotations of 1 of 40",
    "point cloud": "lacks the properties rot_3",
    "odd harmonics": "8 properties f_rest",
    "no vertices": "no element 'vertex'",
    "lists": "lists",
    "ascii": "only binary",
    "unknown type": "damaged PLY header",
    "twice the same": "damaged PLY header",
    "no end": "is no PLY file",
    "text": "is no PLY file",
    "empty": "is no PLY file",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_refused(kind: str, tmp_path: Path, write_ply: Callable[..., Path]) -> None:
    """Each one names the file and what is wrong, and none allocates what the header claims."""
    with pytest.raises(InputError, match=BROKEN[kind]) as refusal:
        read_splat_file(broken(kind, tmp_path / "bad.ply", write_ply))
    assert "bad.ply" in str(refusal.value)


def test_paths_are_checked(tmp_path: Path) -> None:
    """A missing file, a folder, another kind of file and an impossible degree."""
    (tmp_path / "a.ply").mkdir()
    (tmp_path / "a.obj").write_text("v 0 0 0")
    for name, words in {"absent.ply": "does not exist", "a.ply": "no regular file", "a.obj": "unknown kind"}.items():
        with pytest.raises(InputError, match=words):
            read_splat_file(tmp_path / name)
    with pytest.raises(InputError, match="SH degree is 4"):
        read_splat_file(tmp_path / "a.ply", sh_degree=4)
