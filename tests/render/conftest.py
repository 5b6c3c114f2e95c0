"""A renderer that a person can read, and stages of a few prims, for every test of this folder."""

from __future__ import annotations

import importlib
import math
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omni_gen3d import geometry
from omni_gen3d.render import RenderedViews
from omni_gen3d.render import delegate as delegate_module
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.render.gpu.backend import GpuBackend
from omni_gen3d.render.gpu.library import SOURCES, Library, library_for
from omni_gen3d.types import Cameras, Gaussians

# Quads of a box whose corners count x slowest and z fastest, counter-clockwise seen from outside.
_QUADS = (0, 1, 3, 2, 4, 6, 7, 5, 0, 4, 5, 1, 2, 3, 7, 6, 0, 2, 6, 4, 1, 5, 7, 3)


@pytest.fixture(scope="session")
def render_slowly() -> Callable[..., RenderedViews]:
    """``render_slowly(gaussians, cameras, background, stop=inf)``: EWA splatting straight from the definitions."""
    return _render_slowly


def _render_slowly(
    gaussians: Gaussians, cameras: Cameras, background: Any, stop: torch.Tensor | float = math.inf
) -> RenderedViews:
    """With gsplat's constants; splats at a depth of ``stop`` or more are hidden by what has the colour behind."""
    views = []
    width, height = cameras.width, cameras.height
    means, quats, scales = gaussians.means.double(), gaussians.quats.double(), gaussians.scales.double()
    axes = geometry.quat_to_matrix(quats) * scales[:, None]
    for world_to_camera, intrinsics in zip(cameras.world_to_camera.double(), cameras.intrinsics.double(), strict=True):
        rotation = world_to_camera[:3, :3]
        centres = means @ rotation.T + world_to_camera[:3, 3]
        position = -rotation.T @ world_to_camera[:3, 3]
        colors = geometry.eval_sh(gaussians.sh.double(), means - position).clamp_min(0)
        covariances = rotation @ axes @ axes.mT @ rotation.T
        fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
        margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
        x, y, z = centres.unbind(1)
        slope_x = (x / z).clamp(-cx / fx - margin_x, (width - cx) / fx + margin_x)
        slope_y = (y / z).clamp(-cy / fy - margin_y, (height - cy) / fy + margin_y)
        zero = torch.zeros_like(z)
        jacobians = torch.stack([fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z], 1).view(-1, 2, 3)
        precisions = torch.linalg.inv(jacobians @ covariances @ jacobians.mT + 0.3 * torch.eye(2).double())
        row, column = torch.meshgrid(
            torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5, indexing="ij"
        )

        transmittance = torch.ones(height, width, dtype=torch.float64)
        live = torch.ones(height, width, dtype=torch.bool)
        color = torch.zeros(height, width, 3, dtype=torch.float64)
        depth, median = torch.zeros_like(transmittance), torch.zeros_like(transmittance)
        for i in centres[:, 2].argsort():
            if not 0.05 <= z[i] <= 500:
                continue
            dx, dy = column - (fx * x[i] / z[i] + cx), row - (fy * y[i] / z[i] + cy)
            (p_xx, p_xy), (_, p_yy) = precisions[i]
            distance = p_xx * dx * dx + 2 * p_xy * dx * dy + p_yy * dy * dy
            alpha = (gaussians.opacities[i].double() * torch.exp(-0.5 * distance)).clamp_max(0.999)
            alpha = torch.where((alpha < 1 / 255) | (z[i] >= stop), 0, alpha)
            live &= transmittance * (1 - alpha) > 1e-4
            weight = torch.where(live, alpha * transmittance, 0)
            median = torch.where((transmittance > 0.5) & (transmittance - weight <= 0.5), z[i], median)
            transmittance = transmittance - weight
            color += weight[..., None] * colors[i]
            depth += weight * z[i]
        color += transmittance[..., None] * torch.as_tensor(background)
        covered = 1 - transmittance
        views.append((color.clamp(0, 1), depth / covered.clamp_min(1e-10), covered, median))
    return RenderedViews(*(torch.stack(channel) for channel in zip(*views, strict=True)))


@pytest.fixture(scope="session")
def usd() -> Any:
    """``usd.Usd``, ``usd.UsdGeom`` and so on."""

    class Modules:
        def __getattr__(self, name: str) -> Any:
            return importlib.import_module(f"pxr.{name}")

    return Modules()


@pytest.fixture
def stage(usd: Any) -> Any:
    """An empty stage, Z-up, in metres."""
    stage = usd.Usd.Stage.CreateInMemory()
    usd.UsdGeom.SetStageUpAxis(stage, usd.UsdGeom.Tokens.z)
    usd.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    return stage


@pytest.fixture(scope="session")
def author_box(usd: Any) -> Callable[..., Any]:
    """``author_box(stage, path, low, high, color=None, label=None)``: a flat-shaded Mesh."""

    def author(stage: Any, path: str, low: Any, high: Any, color: Any = None, label: str | None = None) -> Any:
        corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
        mesh = usd.UsdGeom.Mesh.Define(stage, path)
        points = np.array(low, np.float32) + corners * (np.array(high, np.float32) - np.array(low, np.float32))
        mesh.CreatePointsAttr(usd.Vt.Vec3fArray.FromNumpy(points.astype(np.float32)))
        mesh.CreateFaceVertexCountsAttr([4] * 6)
        mesh.CreateFaceVertexIndicesAttr(_QUADS)
        mesh.CreateSubdivisionSchemeAttr("none")
        if color is not None:
            mesh.CreateDisplayColorAttr([color])
        if label is not None:
            usd.UsdSemantics.LabelsAPI.Apply(mesh.GetPrim(), "class").CreateLabelsAttr([label])
        return mesh

    return author


@dataclass(frozen=True)
class Machine:
    """Where the kernels run."""

    device: torch.device
    library: Library


@pytest.fixture(scope="session", params=["processor", pytest.param("cuda", marks=pytest.mark.cuda)])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A GPU, or the processor: there, what CUDA would run at once runs one thread after the other."""
    if request.param == "cuda":
        device = torch.device("cuda", 0)
        return Machine(device, library_for(device))
    made = tmp_path_factory.mktemp("kernels") / "library.so"
    header = Path(__file__).with_name("host_cuda.h")
    flags = ("-O2", "-shared", "-fPIC", "-x", "c++", "-include", str(header))
    subprocess.run(["g++", *flags, str(SOURCES / "library.cu"), "-o", str(made)], check=True)
    return Machine(torch.device("cpu"), Library(made))


@pytest.fixture
def on_gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SplatRenderDelegate]:
    """``on_gpu(stage)``: a delegate with the cuda backend."""

    def make(stage) -> SplatRenderDelegate:
        with monkeypatch.context() as patch:
            backend = GpuBackend(machine.device, machine.library)
            patch.setattr(delegate_module, "_open_backend", lambda name: backend)
            return SplatRenderDelegate(stage)

    return make
