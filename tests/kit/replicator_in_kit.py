"""Run by test_replicator.py: a Kit of its own, a library of two environments, and what of Replicator's adapter works.

It is a process of its own because the adapter loads torch and OpenUSD, which the extension's own tests forbid.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch

from omni_gen3d.envs.ranges import AppearanceRanges, Randomization, Range
from omni_gen3d.envs.registry import Registry
from omni_gen3d.envs.replicator import Series, register
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import intrinsics_from_fov, look_at
from omni_gen3d.types import Cameras, Gaussians, GeneratedScene, Provenance
from omni_gen3d.usd import write_environment
from omni_gen3d.usd.stage import new_stage

RANGES = Randomization(appearance=AppearanceRanges(exposure=Range(-1, 1)), spawn=False)


def scene(seed: int) -> GeneratedScene:
    """One splat before one camera."""
    eye, target = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.3]])
    return GeneratedScene(
        gaussians=Gaussians(
            means=torch.tensor([[0.0, 0.0, 1.0 + seed]]),
            quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
            scales=torch.full((1, 3), 0.1),
            opacities=torch.tensor([0.9]),
            sh=torch.ones(1, 1, 3),
        ),
        cameras=Cameras(look_at(eye, target), intrinsics_from_fov(1.0, 64, 48)[None], width=64, height=48),
        proxy=None,
        preview=np.zeros((4, 4, 3), np.uint8),
        provenance=Provenance("static", "a splat", None, seed, "mini", None),
    )


def main(folder: Path) -> None:
    import omni

    spec = importlib.util.find_spec("omni.kit_app")
    assert spec is not None and spec.origin is not None
    kernel = Path(spec.origin).parent
    omni.__path__.append(str(kernel / "kernel" / "py" / "omni"))
    import omni.kit_app

    app = omni.kit_app.KitApp()
    app.startup(
        [
            str(kernel / "apps" / "omni.app.empty.kit"),
            *("--no-window", "--allow-root", "--portable-root", str(folder / "portable")),
            *("--/app/extensions/registryEnabled=0", "--/telemetry/mode=off", "--/app/fastShutdown=0"),
        ]
    )
    registry = Registry(folder / "library")
    for seed in range(2):
        registry.add(write_environment(scene(seed), folder / f"scene_{seed}").parent)
    try:
        register(registry.entries(), RANGES)
    except InputError as error:
        print("refused:", error)
    series, stage = Series(registry.entries(), RANGES, seed=1), new_stage("World")
    for _ in range(4):
        app.update()
        sample = series.advance(stage)
        sh = stage.GetPrimAtPath("/World/Environment/Environment/Splats").GetAttribute(
            "radiance:sphericalHarmonicsCoefficients"
        )
        print("shown:", sample.environment, f"{sample.appearance.exposure:.4f}", f"{sh.Get()[0][0]:.4f}")
    app.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
