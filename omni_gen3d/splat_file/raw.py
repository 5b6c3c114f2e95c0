"""What a splat file holds once its bytes are unpacked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHANNELS = 3


@dataclass(frozen=True)
class RawSplats:
    """Values of N Gaussians as stored, float32, not checked.

    Attributes:
        means: Centres [unit of the file], shape ``(N, 3)``.
        quats: Rotations wxyz of any length, shape ``(N, 4)``.
        log_scales: Natural logarithms of the standard deviations, shape ``(N, 3)``.
        opacities: Linear, shape ``(N,)``.
        sh: Coefficient-major, K = (degree + 1)^2, shape ``(N, K, 3)``.
    """

    means: np.ndarray
    quats: np.ndarray
    log_scales: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray

    @staticmethod
    def empty(count: int, sh_degree: int) -> RawSplats:
        """Room for ``count`` Gaussians."""
        return RawSplats(
            means=np.empty((count, 3), np.float32),
            quats=np.empty((count, 4), np.float32),
            log_scales=np.empty((count, 3), np.float32),
            opacities=np.empty(count, np.float32),
            sh=np.empty((count, (sh_degree + 1) ** 2, CHANNELS), np.float32),
        )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, also of infinities."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))
