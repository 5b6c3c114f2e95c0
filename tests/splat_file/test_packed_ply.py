"""SuperSplat's compressed PLY, against bits packed by hand and against gsply."""

from __future__ import annotations

from pathlib import Path

import gsply
import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.geometry import SH_DC
from omni_gen3d.splat_file import read_splat_file

BOUNDS = [f"{end}_{kind}{axis}" for kind in ("", "scale_") for end in ("min", "max") for axis in "xyz"]
COLOURS = [f"{end}_{channel}" for end in ("min", "max") for channel in "rgb"]


def packed_file(
    path: Path, *, colour_bounds: bool, count: int = 2, chunks: int = 1, claimed: int | None = None
) -> Path:
    """The first Gaussian at the low corner, quarter turn about x; the second at the high corner, turned about z."""
    names = BOUNDS + (COLOURS if colour_bounds else [])
    bounds = dict(zip(BOUNDS, [-1, -2, -3, 1, 2, 3, -6, -6, -6, -2, -2, -2], strict=True))
    bounds |= dict(zip(COLOURS, [0.25] * 3 + [0.75] * 3, strict=True))
    half = round((np.sqrt(0.5) / np.sqrt(2) + 0.5) * 1023)
    zero = 512  # nearest to the middle, 511.5
    first = (0, (0 << 30) | (half << 20) | (zero << 10) | zero, 0, 0x00_80_FF_00)
    second = (0xFFFFFFFF, (3 << 30) | (half << 20) | (zero << 10) | zero, 0xFFFFFFFF, 0xFF_00_00_FF)
    rows = np.array([first, second] * ((count + 1) // 2), np.uint32)[:count]
    header = ["ply", "format binary_little_endian 1.0", f"element chunk {chunks}"]
    header += [f"property float {name}" for name in names] + [f"element vertex {claimed or count}"]
    header += [f"property uint packed_{name}" for name in ("position", "rotation", "scale", "color")] + [
        "end_header",
        "",
    ]
    chunk = np.tile(np.array([bounds[name] for name in names], np.float32), chunks)
    path.write_bytes("\n".join(header).encode() + chunk.tobytes() + rows.tobytes())
    return path


@pytest.mark.parametrize("colour_bounds", [True, False])
def test_bits_are_unpacked(colour_bounds: bool, tmp_path: Path) -> None:
    """Corners, scales, colours and quaternions of both the older and the newer layout."""
    gaussians = read_splat_file(packed_file(tmp_path / "a.compressed.ply", colour_bounds=colour_bounds))
    gaussians.validate()
    assert gaussians.means.tolist() == [[-1, -2, -3], [1, 2, 3]]
    torch.testing.assert_close(gaussians.scales.log(), torch.tensor([[-6.0] * 3, [-2.0] * 3]))
    assert gaussians.opacities.tolist() == [0, 1]
    low, span = (0.25, 0.5) if colour_bounds else (0.0, 1.0)
    rgb = low + span * torch.tensor([[0, 128 / 255, 1], [1, 0, 0]])
    torch.testing.assert_close(gaussians.sh[:, 0] * SH_DC + 0.5, rgb)
    turned = torch.tensor([[0.5**0.5, 0.5**0.5, 0, 0], [0.5**0.5, 0, 0, 0.5**0.5]])
    torch.testing.assert_close(gaussians.quats, turned, atol=2e-3, rtol=0)


def test_gsply_agrees(tmp_path: Path, interpreted_gsply: None) -> None:
    """300 random Gaussians of degree 3, two chunks, written and read by gsply."""
    rng = np.random.default_rng(0)
    n = 300
    quats = rng.normal(size=(n, 4)).astype(np.float32)
    data = gsply.GSData.from_arrays(
        means=rng.normal(size=(n, 3)).astype(np.float32),
        scales=rng.normal(-4, 1, (n, 3)).astype(np.float32),
        quats=quats / np.linalg.norm(quats, axis=1, keepdims=True),
        opacities=rng.normal(size=n).astype(np.float32),
        sh0=rng.normal(size=(n, 3)).astype(np.float32),
        shN=rng.normal(0, 0.3, (n, 15, 3)).astype(np.float32),
    )
    path = tmp_path / "a.compressed.ply"
    gsply.plywrite(str(path), data, compressed=True)
    actual, expected = read_splat_file(path), gsply.plyread(str(path))
    np.testing.assert_allclose(actual.means.numpy(), expected.means, atol=1e-6)
    np.testing.assert_allclose(actual.scales.log().numpy(), expected.scales, atol=1e-5)
    np.testing.assert_allclose(np.abs((actual.quats.numpy() * expected.quats).sum(1)), 1, atol=1e-5)
    np.testing.assert_allclose(actual.opacities.numpy(), 1 / (1 + np.exp(-expected.opacities)), atol=1e-4)
    np.testing.assert_allclose(actual.sh[:, 0].numpy(), expected.sh0, atol=1e-5)
    np.testing.assert_allclose(actual.sh[:, 1:].numpy(), expected.shN, atol=1e-6)
    cut = read_splat_file(path, sh_degree=1)
    assert torch.equal(cut.sh, actual.sh[:, :4])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"count": 300}, "too few"), ({"claimed": 50_000_000}, "truncated"), ({"chunks": 0}, "too few")],
)
def test_tables_that_do_not_fit_are_refused(options: dict, words: str, tmp_path: Path) -> None:
    """Fewer chunks than Gaussians need, and more Gaussians than bytes."""
    with pytest.raises(InputError, match=words):
        read_splat_file(packed_file(tmp_path / "a.compressed.ply", colour_bounds=True, **options))


def test_other_chunks_are_refused(tmp_path: Path) -> None:
    """A PLY file with an element of that name but other contents."""
    path = packed_file(tmp_path / "a.compressed.ply", colour_bounds=False)
    path.write_bytes(path.read_bytes().replace(b"packed_scale", b"packed_snail"))
    with pytest.raises(InputError, match="lacks the properties packed_scale"):
        read_splat_file(path)
