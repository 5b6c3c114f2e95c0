"""SPZ files of versions 1 to 3, against bytes packed by hand and against gsply; bombs and lies."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import gsply.spz
import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.splat_file import read_splat_file


def header(count: int, *, version: int = 2, degree: int = 0, fraction_bits: int = 12, magic: int = 0x5053474E) -> bytes:
    return struct.pack("<IIIBBBB", magic, version, count, degree, fraction_bits, 0, 0)


def body(version: int, degree: int) -> bytes:
    """One Gaussian at (1, -2, 0.5), scales e^-4, opacity 0.2, a quarter turn about y."""
    place = np.array([1, -2, 0.5])
    if version == 1:
        positions = place.astype("<f2").tobytes()
    else:
        positions = b"".join(int(v * 4096).to_bytes(3, "little", signed=True) for v in place)
    half = np.sqrt(0.5)
    if version == 3:  # xyzw, the largest is w; magnitudes in ninths of a bit over 1 / sqrt(2)
        rotation = struct.pack("<I", (3 << 30) | (511 << 10))
    else:
        rotation = bytes([128, round((half + 1) * 127.5), 128])
    rest = bytes(128 + 10 * k + c for k in range((degree + 1) ** 2 - 1) for c in range(3)) if degree else b""
    return positions + bytes([51]) + bytes([255, 0, 128]) + bytes([96] * 3) + rotation + rest


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1])
def test_bytes_are_unpacked(version: int, degree: int, tmp_path: Path) -> None:
    """Fixed point or half floats, both quaternion codes, harmonics coefficient by coefficient."""
    path = tmp_path / "a.spz"
    path.write_bytes(gzip.compress(header(1, version=version, degree=degree) + body(version, degree)))
    gaussians = read_splat_file(path)
    gaussians.validate()
    assert gaussians.means.tolist() == [[1, -2, 0.5]]
    torch.testing.assert_close(gaussians.scales, torch.full((1, 3), -4.0).exp())
    torch.testing.assert_close(gaussians.opacities, torch.tensor([0.2]))
    torch.testing.assert_close(gaussians.quats, torch.tensor([[0.5**0.5, 0, 0.5**0.5, 0]]), atol=6e-3, rtol=0)
    torch.testing.assert_close(gaussians.sh[0, 0], (torch.tensor([255, 0, 128]) / 255 - 0.5) / 0.15)
    if degree:
        expected = torch.tensor([[0.0, 1, 2], [10, 11, 12], [20, 21, 22]]) / 128
        torch.testing.assert_close(gaussians.sh[0, 1:], expected)
        assert read_splat_file(path, sh_degree=0).sh.shape == (1, 1, 3)


def test_gsply_agrees(tmp_path: Path, interpreted_gsply: None) -> None:
    """200 random Gaussians of degree 3 in version 3."""
    rng = np.random.default_rng(0)
    n = 200
    quats = rng.normal(size=(n, 4)).astype(np.float32)
    data = gsply.GSData.from_arrays(
        means=rng.normal(size=(n, 3)).astype(np.float32),
        scales=rng.normal(-4, 1, (n, 3)).astype(np.float32),
        quats=quats / np.linalg.norm(quats, axis=1, keepdims=True),
        opacities=rng.normal(size=n).astype(np.float32),
        sh0=rng.normal(0, 0.5, (n, 3)).astype(np.float32),
        shN=rng.normal(0, 0.3, (n, 15, 3)).astype(np.float32),
    )
    gsply.spz.write_spz(tmp_path / "a.spz", data, version=3)
    actual, expected = read_splat_file(tmp_path / "a.spz"), gsply.spz.read_spz(tmp_path / "a.spz")
    np.testing.assert_allclose(actual.means.numpy(), expected.means, atol=1e-6)
    np.testing.assert_allclose(actual.scales.log().numpy(), expected.scales, atol=1e-5)
    np.testing.assert_allclose(np.abs((actual.quats.numpy() * expected.quats).sum(1)), 1, atol=1e-5)
    np.testing.assert_allclose(actual.opacities.numpy(), 1 / (1 + np.exp(-np.ravel(expected.opacities))), atol=1e-5)
    np.testing.assert_allclose(actual.sh[:, 0].numpy(), expected.sh0, atol=1e-5)
    np.testing.assert_allclose(actual.sh[:, 1:].numpy(), expected.shN, atol=1e-6)


WHOLE = gzip.compress(header(1) + body(2, 0))
BROKEN = {
    "truncated stream": (WHOLE[:-14], "truncated|damaged"),
    "truncated contents": (gzip.compress(header(2) + body(2, 0)), "truncated"),
    "50 million in 1 kB": (gzip.compress(header(50_000_000) + bytes(1000)), "claims 50000000"),
    "9 million in 1 kB": (gzip.compress(header(9_000_000) + bytes(1000)), "truncated"),
    "none": (gzip.compress(header(0)), "0 Gaussians"),
    "other magic": (gzip.compress(header(1, magic=7) + body(2, 0)), "NGSP"),
    "unknown version": (gzip.compress(header(1, version=9) + body(2, 0)), "version 9"),
    "degree 4": (gzip.compress(header(1, degree=4) + body(2, 0)), "degree 4"),
    "version 4": (header(1, version=4) + bytes(16), "version 4"),
    "header only": (gzip.compress(header(1)[:9]), "ends inside its header"),
    "text": (b"hello", "no SPZ file"),
    "empty": (b"", "no SPZ file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_refused(kind: str, tmp_path: Path) -> None:
    """Each one names the file and what is wrong."""
    contents, words = BROKEN[kind]
    (tmp_path / "bad.spz").write_bytes(contents)
    with pytest.raises(InputError, match=words) as refusal:
        read_splat_file(tmp_path / "bad.spz")
    assert "bad.spz" in str(refusal.value)


def test_bombs_are_not_inflated(tmp_path: Path) -> None:
    """A stream that goes on for 64 MB behind one Gaussian is refused after little more than a megabyte."""
    path = tmp_path / "bomb.spz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(header(1) + body(2, 0))
        for _ in range(64):
            stream.write(bytes(1 << 20))
    assert path.stat().st_size < 500_000
    tracemalloc.start()
    with pytest.raises(InputError, match="inflates to far more"):
        read_splat_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
